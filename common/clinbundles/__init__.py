"""Shared package of the clinical bundles: what two bundles or more stand on."""

__version__ = "0.1.0"
