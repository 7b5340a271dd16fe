"""Simulated anatomy of known truth that several bundles share."""
