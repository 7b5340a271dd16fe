"""Image patches from files: reading, checking, scaling with constants that no data set decided."""
