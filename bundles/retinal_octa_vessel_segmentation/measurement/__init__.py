"""Biomarkers and quality of one angiograph."""
