"""Dense 3D motion of the heart from short-axis and long-axis cine MRI (MulViMotion)."""
