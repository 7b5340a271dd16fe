"""Reading, preparing and writing en-face angiographs."""
