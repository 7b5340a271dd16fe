"""What is said, drawn, measured and written of a reconstructed cine."""
