from __future__ import annotations

import copy
from pathlib import Path

import pytest

from clinbundles.data import ManifestError, available_manifests, manifest_hash, read_manifest

EXPECTED = {"octa_simulated_vessels", "octa_scanner_phantom", "rossa", "octa500", "rose", "giarratano"}


def _problem(write_manifest, content) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write_manifest(content))
    return str(caught.value)


def test_the_project_ships_the_manifests_of_its_bundles():
    assert set(available_manifests()) >= EXPECTED


@pytest.mark.parametrize("name", sorted(available_manifests()))
def test_every_shipped_manifest_is_valid_and_named_after_its_file(name):
    manifest = read_manifest(name)
    assert manifest.name == name
    assert manifest.split_names
    assert manifest.title in manifest.how_to_get()


def test_unknown_key_is_refused_with_file_and_suggestion(write_manifest, real_content):
    real_content["licens"] = real_content.pop("licence")
    message = _problem(write_manifest, real_content)
    assert "manifest.yaml" in message
    assert "licens: unknown key; did you mean 'licence'?" in message
    assert "licence: missing; expected a text" in message


def test_unknown_key_inside_is_named_by_its_whole_path(write_manifest, real_content):
    real_content["layout"]["constnts"] = {}
    assert "layout.constnts: unknown key; did you mean 'constants'?" in _problem(write_manifest, real_content)


def test_wrong_type_says_what_was_found_and_expected(write_manifest, simulated_content):
    simulated_content["splits"]["test"]["cases"] = "many"
    assert "splits.test.cases: found 'many', expected a whole number" in _problem(write_manifest, simulated_content)


def test_all_problems_are_listed_at_once(write_manifest, real_content):
    real_content["title"] = 3
    real_content["access"]["registration"] = "yes"
    message = _problem(write_manifest, real_content)
    assert "title: found 3, expected a text" in message
    assert "access.registration: found 'yes', expected a boolean" in message


def test_layout_or_simulator_is_needed_and_not_both(write_manifest, real_content, simulated_content):
    neither = {key: value for key, value in real_content.items() if key != "layout"}
    assert "layout: missing; expected a layout" in _problem(write_manifest, neither)
    both = {**real_content, "simulator": simulated_content["simulator"], "splits": simulated_content["splits"]}
    assert "layout, simulator: both are given" in _problem(write_manifest, both)


@pytest.mark.parametrize(
    "content, message",
    [
        ("just a text", "the file: found 'just a text', expected a mapping"),
        ("", "the file: found None, expected a mapping"),
        ("a: 1\na: 2\n", "the key 'a' is given twice (line 2, column 1)"),
        ("a: [1\n", "not readable as YAML"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert message in str(caught.value)
    assert "broken.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"files": {"image": "image/all.png"}}, "expected a field such as {case}"),
        ({"files": {"image": "{case}.png", "label": "{eye}.png"}}, "the field {eye} does not occur in 'image'"),
        ({"files": {"image": "/data/{case}.png"}}, "must lie under the data folder"),
        ({"files": {"image": "{case}.png"}, "optional": ["image"]}, "layout.optional: 'image'"),
        (
            {"files": {"image": "{case}.png"}, "fields": {"case": "["}},
            "layout.fields.case: '[' is no regular",
        ),
        ({"files": {"image": "{case}.png"}, "constants": {"case": 1}}, "layout.constants.case: is also a file"),
        ({"files": {"image": "{case.png"}}, "layout.files.image"),
        ({"files": {"image": "{0}.png"}}, "needs a name of letters"),
    ],
)
def test_bad_layouts_are_refused(write_manifest, real_content, change, message):
    real_content["layout"] = change
    assert message in _problem(write_manifest, real_content)


def test_bad_splits_are_refused(write_manifest, real_content, simulated_content):
    real_content["splits"] = {"seeded": {"seed": 1, "fractions": {"training": 0.5, "test": 0.4}}}
    assert "they sum to 0.9, expected 1" in _problem(write_manifest, real_content)
    real_content["splits"] = {"explicit": {"all": ["P1_OD"]}}
    assert "'all' always means every case" in _problem(write_manifest, real_content)
    real_content["splits"] = {"by_field": {"field": "part", "values": {"training": ["train"]}}}
    assert "found 'part', expected a field of the patterns: patient, eye" in _problem(write_manifest, real_content)
    real_content["splits"] = {"explicit": {"a": ["x"]}, "seeded": {"seed": 1, "fractions": {"b": 1.0}}}
    assert "found explicit, seeded together, expected one of them" in _problem(write_manifest, real_content)
    simulated_content["splits"]["test"]["first_seed"] = 13
    assert "training (seeds 10 to 13) and test (from 13) share cases" in _problem(write_manifest, simulated_content)


def test_unknown_name_suggests_the_nearest_and_says_what_to_do():
    with pytest.raises(ManifestError, match=r"no manifest 'rosa'; did you mean 'rossa'\?.*path of your own manifest"):
        read_manifest("rosa")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"no manifest file .*mine\.yaml"):
        read_manifest(tmp_path / "mine.yaml")


def test_exponents_without_a_dot_are_numbers(tmp_path, write_manifest, simulated_content):
    path: Path = write_manifest(simulated_content)
    path.write_text(path.read_text().replace("size: 4", "size: 4\n  scale: 1e-3"))
    assert read_manifest(path).simulator[1]["scale"] == 0.001


def test_merged_keys_may_be_overridden(tmp_path, write_manifest, simulated_content):
    path = write_manifest(simulated_content)
    path.write_text(path.read_text().replace("size: 4", "one: &one {a: 1, b: 2}\n  two: {<<: *one, b: 3}"))
    assert read_manifest(path).simulator[1]["two"] == {"a": 1, "b": 3}


def test_hash_changes_with_the_content_and_not_with_the_order(tmp_path, write_manifest, real_content):
    first = manifest_hash(write_manifest(real_content))
    assert manifest_hash(write_manifest(dict(reversed(real_content.items())))) == first
    other = copy.deepcopy(real_content)
    other["splits"]["seeded"]["seed"] = 2
    assert manifest_hash(write_manifest(other)) != first
