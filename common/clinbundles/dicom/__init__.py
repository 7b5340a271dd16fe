"""DICOM in and out: listing, choosing and reading series, writing segmentations."""

from clinbundles.dicom.dicom_description import Algorithm, DicomDescription, Segment, read_dicom_description
from clinbundles.dicom.read_series import dicom_files, read_series
from clinbundles.dicom.segmentation_writer import write_segmentation
from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_listing import DicomSeries, list_series
from clinbundles.dicom.series_rules import matches, mismatches, select_series

__all__ = [
    "Algorithm",
    "DicomDescription",
    "DicomSeries",
    "Segment",
    "SeriesError",
    "dicom_files",
    "list_series",
    "matches",
    "mismatches",
    "read_dicom_description",
    "read_series",
    "select_series",
    "write_segmentation",
]
