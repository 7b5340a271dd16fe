from __future__ import annotations

import os

import pytest

from clinbundles.data import ManifestError, MissingDataError, datalist
from clinbundles.data.split_rules import seeded_split


def test_cases_carry_absolute_files_fields_and_constants(write_manifest, real_content, cohort):
    cases = datalist(write_manifest(real_content), cohort)
    assert len(cases) == 24
    first = cases[0]
    assert (first["case"], first["patient"], first["eye"]) == ("P1_OD", "P1", "OD")
    assert first["fov_mm"] == [3.0, 3.0]
    assert all(os.path.isabs(case["image"]) and os.path.isfile(case["label"]) for case in cases)


def test_cases_come_in_natural_order(write_manifest, real_content, cohort):
    names = [case["case"] for case in datalist(write_manifest(real_content), cohort)]
    assert names[:4] == ["P1_OD", "P1_OS", "P2_OD", "P2_OS"]
    assert names[-1] == "P12_OS"


def test_seeded_split_never_divides_a_patient_and_loses_nobody(write_manifest, real_content, cohort):
    path = write_manifest(real_content)
    parts = [{case["patient"] for case in datalist(path, cohort, split)} for split in ("training", "test")]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 12
    assert sum(len(datalist(path, cohort, split)) for split in ("training", "test")) == 24


def test_new_patient_moves_nobody_else(write_manifest, real_content, cohort):
    path = write_manifest(real_content)
    before = {case["case"] for case in datalist(path, cohort, "training")}
    for kind in ("image", "label"):
        (cohort / kind / "P0_OD.png").touch()
    after = {case["case"] for case in datalist(path, cohort, "training")}
    assert after - {"P0_OD"} == before


def test_seeded_split_meets_the_fractions_on_average():
    fractions = {"training": 0.7, "validation": 0.1, "test": 0.2}
    names = [seeded_split(f"patient {i}", 5, fractions) for i in range(4000)]
    for name, fraction in fractions.items():
        assert names.count(name) / 4000 == pytest.approx(fraction, abs=0.025)
    assert names != [seeded_split(f"patient {i}", 6, fractions) for i in range(4000)]


def test_explicit_split_keeps_its_order_and_takes_ranges(write_manifest, real_content, tmp_path):
    (tmp_path / "image").mkdir()
    for number in range(1, 8):
        (tmp_path / "image" / f"{number}.png").touch()
    real_content["layout"] = {"files": {"image": "image/{case}.png"}}
    real_content["splits"] = {"explicit": {"a": [7, "2"], "b": [{"from": 3, "to": 5}]}}
    path = write_manifest(real_content)
    assert [case["case"] for case in datalist(path, tmp_path, "a")] == ["7", "2"]
    assert [case["case"] for case in datalist(path, tmp_path, "b")] == ["3", "4", "5"]


def test_split_by_folder(write_manifest, real_content, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part}1.png").touch()
    real_content["layout"] = {"files": {"image": "{part}/{case}.png"}}
    real_content["splits"] = {"by_field": {"field": "part", "values": {"training": ["train"], "test": ["test"]}}}
    assert [case["case"] for case in datalist(write_manifest(real_content), tmp_path, "test")] == ["test_test1"]


def test_explicit_split_that_divides_a_patient_is_refused(write_manifest, real_content, cohort):
    real_content["splits"] = {"explicit": {"training": ["P1_OD"], "test": ["P1_OS"]}}
    with pytest.raises(ManifestError, match=r"patient 'P1' \(case 'P1_OS'\) is in the splits 'training' and 'test'"):
        datalist(write_manifest(real_content), cohort, "test")


def test_missing_files_are_counted_and_the_first_five_listed(write_manifest, real_content, cohort):
    for eye in ("OD", "OS"):
        for patient in (1, 2, 3, 4):
            (cohort / "label" / f"P{patient}_{eye}.png").unlink()
    with pytest.raises(MissingDataError) as caught:
        datalist(write_manifest(real_content), cohort)
    message = str(caught.value)
    assert "8 files of cohort, split 'all', are missing" in message
    assert message.count("label/") == 5
    assert "label/P1_OD.png" in message
    assert "https://cohort.example" in message


def test_listed_case_that_is_not_there_is_missing(write_manifest, real_content, cohort):
    real_content["splits"] = {"explicit": {"test": ["P99_OD"]}}
    with pytest.raises(MissingDataError, match=r"case P99_OD \(no file matches image/\{patient\}_\{eye\}\.png\)"):
        datalist(write_manifest(real_content), cohort, "test")


def test_optional_files_may_be_missing(write_manifest, real_content, cohort):
    real_content["layout"]["optional"] = ["label"]
    (cohort / "label" / "P1_OD.png").unlink()
    cases = datalist(write_manifest(real_content), cohort)
    assert "label" not in cases[0]
    assert "label" in cases[1]


@pytest.mark.parametrize("folder", [None, "", "nowhere"])
def test_missing_folder_says_where_the_data_are(write_manifest, real_content, tmp_path, folder):
    place = str(tmp_path / folder) if folder else folder
    with pytest.raises(MissingDataError, match=r"after registration at https://cohort\.example.*Ask the data office"):
        datalist(write_manifest(real_content), place)


def test_empty_folder_is_an_error_and_not_an_empty_list(write_manifest, real_content, tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(MissingDataError, match=r"no file under .* matches 'image/\{patient\}_\{eye\}\.png'.*holds "):
        datalist(write_manifest(real_content), tmp_path)


def test_empty_split_is_an_error(write_manifest, real_content, cohort):
    real_content["splits"] = {"seeded": {"seed": 1, "fractions": {"training": 0.999, "test": 0.001}}}
    with pytest.raises(MissingDataError, match="split 'test' of cohort is empty: none of the 24 cases"):
        datalist(write_manifest(real_content), cohort, "test")


def test_unknown_split_lists_the_known_ones(write_manifest, real_content, cohort):
    with pytest.raises(ManifestError, match="cohort has no split 'tset'; it has training, test, all"):
        datalist(write_manifest(real_content), cohort, "tset")


def test_signs_of_glob_in_folder_names_stand_for_themselves(write_manifest, real_content, tmp_path):
    (tmp_path / "OCTA(ILM_OPL) [3mm]").mkdir()
    (tmp_path / "OCTA(ILM_OPL) [3mm]" / "1.bmp").touch()
    real_content["layout"] = {"files": {"image": "OCTA(ILM_OPL) [3mm]/{case}.bmp"}}
    assert len(datalist(write_manifest(real_content), tmp_path)) == 1


def test_rossa_is_divided_into_20_for_choosing_and_60_for_testing(real_data):
    parts = [datalist("rossa", real_data / "octa_enface" / "rossa", split) for split in ("choosing", "test")]
    assert [len(part) for part in parts] == [20, 60]
    assert not {case["case"] for case in parts[0]} & {case["case"] for case in parts[1]}


@pytest.mark.parametrize("way", ["case", "field"])
def test_manifest_cannot_lead_out_of_the_data_folder(write_manifest, real_content, cohort, way):
    (cohort.parent / "secret.png").touch()
    content = dict(real_content)
    if way == "case":
        content["layout"] = {"files": {"image": "image/{patient}.png"}}
        content["splits"] = {"explicit": {"test": ["../../secret"]}}
        (cohort / "image" / "P1.png").touch()
    else:
        content["layout"] = {
            "files": {"image": "image/{patient}_OD.png", "label": "{patient}.png"},
            "fields": {"patient": ".*"},
            "constants": {},
        }
        content["layout"]["files"]["label"] = "../secret.png"
    with pytest.raises(ManifestError, match=r"outside the data folder|must lie under the data folder"):
        datalist(write_manifest(content), cohort, "test")
