"""Simulated cine k-space of the beating heart: coils, phase, noise, and the exact motion between frames."""

from clinbundles.phantoms.cine_kspace.simulated_kspace import simulate_cine_kspace, true_pair_flows

__all__ = ["simulate_cine_kspace", "true_pair_flows"]
