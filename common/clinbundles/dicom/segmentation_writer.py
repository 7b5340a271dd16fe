"""Writing a label map as DICOM segmentation (SEG) of the series that it was made from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sr.coding import Code

import clinbundles
from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.dicom_description import Algorithm, CodedTerm, Segment
from clinbundles.dicom.read_series import series_files, series_headers
from clinbundles.dicom.result_equipment import MANUFACTURER
from clinbundles.dicom.segmentation_source import add_patient_and_study, source_images
from clinbundles.dicom.series_frames import frames_of
from clinbundles.dicom.series_geometry import series_grid
from clinbundles.dicom.source_header import result_series_number

_SERIAL_NUMBER = "0"  # the standard wants one; software has none
_SERIES_NUMBER_OFFSET = 1000  # SEG of series 5 is series 1005, so that viewers list it beside its images
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# highdicom logs the UIDs of the images, by which a patient can be found in the archive
logging.getLogger("highdicom").setLevel(logging.WARNING)


@disable_value_validation()  # pydicom's warnings would carry values of the header into the log
def write_segmentation(
    path: str | os.PathLike[str],
    labels: Any,
    source_files: Iterable[str | os.PathLike[str]],
    segments: Mapping[int, Segment],
    algorithm: Algorithm,
    series_description: str = "Segmentation",
    corrected: bool = False,
) -> Path:
    """Write a label map as DICOM SEG (binary), whole or not at all.

    Each segment is described, also one that has no voxel; frames without any are left out. The object takes from its
    sources what the standard requires of patient and study, and nothing else; no person is named as its creator. It
    refers every frame to the source frame of the same place. A plane that states no place in the patient (most
    en-face and ultrasound images) gives a segmentation that is tied to its source by reference alone.

    Args:
        path: the file to write.
        labels: integers (I, J, K) or (1, I, J, K) on the grid that ``read_series(source_files)`` gives, 0 background.
        source_files: the files of the series, in any order.
        segments: description of each foreground label by its number.
        algorithm: what made the labels.
        series_description: shown by viewers, at most 64 characters.
        corrected: whether a person has changed what the algorithm made.

    Raises:
        SeriesError: the series cannot be read, or a result cannot refer to it; says why.
        ValueError: labels of another shape than the series, with a time axis, or without description.
    """
    files = series_files(source_files)
    headers = series_headers(files)
    where = files[0].name
    frames = [frame for number, header in enumerate(headers) for frame in frames_of(header, number, where)]
    grid = series_grid(frames, where)
    first = grid.frames[0][0]
    planes = _planes(labels, (first.columns, first.rows, len(grid.frames)), segments, where)
    images, order = source_images(headers, grid)
    slice_of = {id(group[0]): k for k, group in enumerate(grid.frames)}
    planes = planes[[slice_of[id(frame)] for frame in order]]
    kind = images[0].SOPClassUID
    if not grid.patient_coordinates:
        # highdicom refuses sources without frame of reference where their own kind must have one (en-face OCT), but
        # the standard lets a segmentation do without if it refers to its source. The true kind is put back below.
        images[0].SOPClassUID = _SECONDARY_CAPTURE
    segmentation = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment_description(number, segment, algorithm, corrected)
            for number, segment in enumerate(segments.values(), start=1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=result_series_number(headers[0], _SERIES_NUMBER_OFFSET),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=(f"clinbundles {clinbundles.__version__}", f"{algorithm.name} {algorithm.version}"),
        device_serial_number=_SERIAL_NUMBER,
        series_description=series_description,
        content_label="SEGMENTATION",
    )
    add_patient_and_study(segmentation, headers[0])
    segmentation.ContentCreatorName = ""  # must be there, and no person made the content
    if images[0].SOPClassUID != kind:
        _refer_to(segmentation, str(images[0].SOPInstanceUID), str(kind))
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)
    return Path(path)


def _planes(labels: Any, shape: tuple[int, int, int], segments: Mapping[int, Segment], where: str) -> np.ndarray:
    """(K, J, I) uint16 with the numbers of the segments, 1 to n in the order of their labels."""
    array = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.shape != shape:
        raise ValueError(
            f"the labels have the shape {tuple(array.shape)}, but {where} and its series have {shape} (columns, rows, "
            "slices): labels must lie on the grid of the series; those with a time axis have no DICOM segmentation"
        )
    found = np.unique(array)
    unknown = sorted(set(found.tolist()) - {0} - set(segments))
    if unknown:
        raise ValueError(
            f"the labels hold {', '.join(f'{value:g}' for value in unknown)}, but described are only "
            f"{', '.join(map(str, segments)) or 'none'}: describe them in configs/dicom.yaml"
        )
    planes = np.zeros(shape, dtype=np.uint16)
    for number, label in enumerate(segments, start=1):
        planes[array == label] = number
    return np.ascontiguousarray(planes.transpose(2, 1, 0))


def _segment_description(number: int, segment: Segment, algorithm: Algorithm, corrected: bool) -> Any:
    kinds = highdicom.seg.SegmentAlgorithmTypeValues
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=_code(segment.category),
        segmented_property_type=_code(segment.type),
        algorithm_type=kinds.SEMIAUTOMATIC if corrected else kinds.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name, version=algorithm.version, family=_code(algorithm.family)
        ),
        anatomic_regions=None if segment.region is None else [_code(segment.region)],
    )


def _code(term: CodedTerm) -> Code:
    return Code(value=term.value, scheme_designator=term.scheme, meaning=term.meaning)


def _refer_to(dataset: Dataset, instance: str, kind: str) -> None:
    """Set the class of every reference to an instance."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if item.get("ReferencedSOPInstanceUID") == instance:
                    item.ReferencedSOPClassUID = kind
                _refer_to(item, instance, kind)
