"""Transforms that two bundles or more use."""
