"""Federated training of any bundle with NVIDIA FLARE: sites share weights, never images.

`python -m clinbundles.hosts.federated BUNDLE` simulates the sites on one machine, or writes the job that hospitals run.
"""
