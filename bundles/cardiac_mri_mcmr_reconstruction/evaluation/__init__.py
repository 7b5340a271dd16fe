"""Scores of reconstructions against references and known motion."""
