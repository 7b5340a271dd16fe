"""What a bundle says of itself in configs/dicom.yaml."""

from pathlib import Path

import pytest

import retinal_octa_vessel_segmentation
from clinbundles.dicom import read_dicom_description

GOOD = """
series: {Modality: MR}
segments:
  2: {label: wall, category: [SCT, "85756007", Tissue], type: [SCT, "20982000", Capillary]}
  1:
    {label: pool, category: [SCT, "85756007", Tissue], type: [SCT, "59820001", Blood], region: [SCT, "5665001", Retina]}
algorithm: {name: toy, family: [DCM, "123110", Artificial Intelligence]}
"""


def test_a_description_is_read_in_order_of_labels(tmp_path):
    (tmp_path / "dicom.yaml").write_text(GOOD)
    about = read_dicom_description(tmp_path / "dicom.yaml")
    assert about.series == {"Modality": "MR"}
    assert about.study == "series"
    assert [(number, segment.label) for number, segment in about.segments.items()] == [(1, "pool"), (2, "wall")]
    assert about.segments[1].region.meaning == "Retina"
    assert about.segments[2].region is None
    assert about.algorithm("0.2").version == "0.2"
    (tmp_path / "empty.yaml").write_text("series: {Modality: CT}\n")
    with pytest.raises(ValueError, match="names no algorithm"):
        read_dicom_description(tmp_path / "empty.yaml").algorithm("1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("series:", "serie:", "dicom.yaml: expected study, series, segments, algorithm; found serie"),
        ("series:", "study: patient\nseries:", "study is 'patient', expected series or exam or raw"),
        ('"20982000"', "20982000", r'segment 2, type: expected \[scheme, "code", meaning\], all texts'),
        ("label: wall, ", "", "segment 2: label is missing"),
        ("label: wall", f"label: {'w' * 65}", "at most 64 characters"),
        ("  2: {label", "  wall: {label", "numbers of foreground labels .* found 'wall'"),
        ("  2: {label", "  0: {label", "numbers of foreground labels .* found 0"),
        ("name: toy, ", "", "segments need an algorithm with name and family"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, message):
    assert old in GOOD
    (tmp_path / "dicom.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_dicom_description(tmp_path / "dicom.yaml")


def test_the_codes_of_the_octa_bundle_are_those_of_the_dictionary():
    from pydicom.sr.codedict import codes

    about = read_dicom_description(Path(retinal_octa_vessel_segmentation.__file__).parent / "configs" / "dicom.yaml")
    known = {1: codes.SCT.Capillary, 2: codes.SCT.BloodVessel}
    for number, code in known.items():
        segment = about.segments[number]
        assert (segment.type.scheme, segment.type.value) == (code.scheme_designator, code.value)
        assert segment.type.meaning.lower() == code.meaning.lower()
        assert segment.category.value == codes.SCT.Tissue.value
        assert segment.region.value == codes.SCT.Retina.value
    assert about.algorithm("1").family.value == codes.DCM.ArtificialIntelligence.value
