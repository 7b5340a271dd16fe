"""Metrics that a config names."""
