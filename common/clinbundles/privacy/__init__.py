"""Differential privacy: steerable layers, per-sample gradients, private updates, accounting, audits."""
