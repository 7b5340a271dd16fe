"""The scanner phantom: an independent simulation of the image formation, for tests only."""
