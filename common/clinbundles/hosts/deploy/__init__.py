"""MONAI Deploy: a folder of DICOM in, DICOM results out, for any bundle."""
