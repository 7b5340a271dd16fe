"""Gradients of each sample of a batch; importing this registers the layers of this project with Opacus."""

from clinbundles.privacy.per_sample_gradients import steerable_conv_sampler  # noqa: F401  registers itself
