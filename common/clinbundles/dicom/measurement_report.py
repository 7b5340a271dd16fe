"""Measurements as a DICOM Structured Report: TID 1500 "Imaging Measurement Report", which viewers and archives read."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import highdicom as hd
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.result_equipment import MANUFACTURER, ResultEquipment
from clinbundles.dicom.segmentation_source import add_patient_and_study, reduced_header
from clinbundles.dicom.source_header import read_header, result_series_number

PRIVATE_SCHEME = "99CLINBUNDLES"
WHOLE_IMAGE = "whole image"
_SERIES_NUMBERS = 3000  # segmentations have 1000, maps 2000, images 4000
_MEANING_LENGTH = 64
_CODE_LENGTH = 16
_DECIMAL_STRING = 16  # characters of a number in DICOM
_IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def private_code(meaning: str) -> Code:
    """The code of a concept that no public scheme has: the same for the same words, at most 16 characters."""
    shown = meaning if len(meaning) <= _MEANING_LENGTH else meaning[: _MEANING_LENGTH - 3] + "..."
    word = re.sub(r"[^A-Za-z0-9]+", "_", meaning).strip("_")
    if len(word) > _CODE_LENGTH:
        word = f"{word[: _CODE_LENGTH - 9]}_{zlib.crc32(meaning.encode()):08x}"
    return Code(word, PRIVATE_SCHEME, shown)


def measured(measurements: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those measurements that have a value; a report has no place for the others."""
    return [row for row in measurements if row["value"] is not None and math.isfinite(row["value"])]


@disable_value_validation()  # its warnings quote the header
def write_measurement_report(
    path: str | os.PathLike[str],
    measurements: Sequence[Mapping[str, Any]],
    source_files: Sequence[str | os.PathLike[str]],
    equipment: ResultEquipment,
    *,
    description: str = "Measurements",
) -> None:
    """Write a Comprehensive SR with one measurement group per region, atomically.

    Names and regions become codes of the private scheme ``99CLINBUNDLES`` that carry the words. The report is marked
    as complete, preliminary and unverified: no physician has seen it. The equipment's notice stands in every group.

    Args:
        path: the file.
        measurements: mappings with ``name``, ``value``, ``unit`` (UCUM; "1" for none) and optionally ``region``;
            those without a finite value are left out.
        source_files: the images that were measured.
        equipment: which bundle measured.
        description: what the series is.

    Raises:
        ValueError: no measurement has a value.
    """
    rows = measured(measurements)
    if not rows:
        raise ValueError(f"none of the {len(measurements)} measurements has a value: there is nothing to report")
    headers = [read_header(file) for file in source_files]
    nameless = [reduced_header(header) for header in headers]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("region") or WHOLE_IMAGE), []).append(row)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=equipment.device_uid, manufacturer_name=equipment.manufacturer, model_name=equipment.model
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=_IMAGING_PROCEDURE,
        imaging_measurements=[_group(region, members, nameless, equipment) for region, members in groups.items()],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = sr.ComprehensiveSR(
        evidence=nameless,
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=result_series_number(headers[0], _SERIES_NUMBERS),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model,
        software_versions=equipment.software,
        series_description=equipment.series_description(description),
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                PRIVATE_SCHEME, name="Names of clinbundles", responsible_organization=MANUFACTURER
            )
        ],
    )
    add_patient_and_study(report, headers[0])
    with atomic_path(path) as temporary:
        report.save_as(temporary)


def _group(
    region: str, rows: Sequence[Mapping[str, Any]], images: Sequence[Dataset], equipment: ResultEquipment
) -> sr.MeasurementsAndQualitativeEvaluations:
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=hd.UID(), identifier=region),
        algorithm_id=sr.AlgorithmIdentification(name=equipment.name, version=equipment.version),
        finding_sites=None if region == WHOLE_IMAGE else [sr.FindingSite(private_code(region))],
        measurements=[
            sr.Measurement(name=private_code(row["name"]), value=_decimal(row["value"]), unit=_unit(row["unit"]))
            for row in rows
        ],
        source_images=[sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in images],
    )
    if equipment.notice:
        group[0].ContentSequence.append(
            sr.TextContentItem(codes.DCM.Comment, equipment.notice, sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def _unit(ucum: str) -> Code:
    return codes.UCUM.NoUnits if ucum == "1" else Code(ucum, "UCUM", ucum)


def _decimal(value: float) -> float:
    """The nearest number that fits into a decimal string."""
    for digits in range(15, 0, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= _DECIMAL_STRING:
            return float(text)
    return float(value)
