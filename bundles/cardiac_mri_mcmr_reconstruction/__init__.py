"""Motion-compensated reconstruction of undersampled cardiac cine MRI."""
