"""Hosts: MONAI Label, MONAI Deploy and NVIDIA FLARE, one app of each for all bundles."""
