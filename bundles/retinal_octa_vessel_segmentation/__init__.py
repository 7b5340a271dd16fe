"""Retinal vessels in en-face OCT angiographs, learned from simulated vasculature without human annotation."""
