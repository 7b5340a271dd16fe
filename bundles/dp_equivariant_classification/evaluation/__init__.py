"""Scores of class probabilities, their tables and figures."""
