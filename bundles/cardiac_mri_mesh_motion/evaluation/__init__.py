"""Scores of moving meshes against labels and against exact motion."""
