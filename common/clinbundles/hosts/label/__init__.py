"""The MONAI Label app: one server for all bundles, for 3D Slicer and OHIF."""
