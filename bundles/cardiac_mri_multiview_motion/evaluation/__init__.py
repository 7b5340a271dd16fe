"""Scores of a motion against labels and against the truth of simulated hearts."""
