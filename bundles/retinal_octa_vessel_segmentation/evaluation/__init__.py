"""Agreement with a label, and the classical filters to compare with."""
