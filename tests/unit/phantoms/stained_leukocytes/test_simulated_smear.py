from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from clinbundles.data import datalist
from clinbundles.phantoms.stained_leukocytes import CLASSES, LeukocyteClass, simulate_leukocytes
from clinbundles.phantoms.stained_leukocytes.__main__ import main
from clinbundles.phantoms.stained_leukocytes.field_of_view import FieldOfView
from clinbundles.phantoms.stained_leukocytes.leukocyte import Leukocyte, draw_leukocyte
from clinbundles.phantoms.stained_leukocytes.leukocyte_image import cell_coverage, leukocyte_image
from clinbundles.phantoms.stained_leukocytes.microscope import Microscope, draw_microscope, photograph
from clinbundles.phantoms.stained_leukocytes.simulated_smear import smear_images
from clinbundles.phantoms.stained_leukocytes.stain import EOSIN, HAEMATOXYLIN, draw_stain, transmission

FIELD = FieldOfView()


def _cells(label: LeukocyteClass, count: int, **options: bool) -> list[Leukocyte]:
    rng = np.random.default_rng(int(label))
    return [draw_leukocyte(label, *rng.spawn(2), **options) for _ in range(count)]


def _drawn_areas(cells: list[Leukocyte]) -> np.ndarray:
    return np.array([cell_coverage(cell, *FIELD.samples(), FIELD.sample_um)[1].sum() for cell in cells]) * (
        FIELD.sample_um**2
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (5, 5, 6), strict=True):
        folder.mkdir()
        simulate_leukocytes(folder, seed, images=(2, 4))
    contents = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize("label", LeukocyteClass)
def test_the_drawn_nucleus_covers_the_area_that_was_asked_for(label):
    cells = _cells(label, 60)
    asked = np.array([cell.nucleus_area_um2 for cell in cells])
    assert _drawn_areas(cells) == pytest.approx(asked, rel=0.02)


@pytest.mark.parametrize("label", LeukocyteClass)
def test_size_place_and_share_of_the_nucleus_have_the_same_law_in_every_class(label):
    cells = _cells(label, 300)
    radii = np.array([cell.radius_um for cell in cells])
    shares = np.array([cell.nucleus_area_um2 for cell in cells]) / (math.pi * radii**2)
    laws = {
        "radius": (radii, 5.5, 7.5),
        "share": (shares, 0.22, 0.45),
        "ratio": (np.array([cell.ratio for cell in cells]), 0.9, 1.1),
        "x": (np.array([cell.centre[0] for cell in cells]), -3.0, 3.0),
        "y": (np.array([cell.centre[1] for cell in cells]), -3.0, 3.0),
    }
    for name, (values, low, high) in laws.items():
        assert kstest(values, "uniform", (low, high - low)).pvalue > 0.001, name


@pytest.mark.parametrize("label", LeukocyteClass)
def test_orientation_is_uniform_on_the_circle_and_every_second_cell_is_mirrored(label):
    cells = _cells(label, 400)
    assert kstest([cell.angle for cell in cells], "uniform", (0.0, 2 * math.pi)).pvalue > 0.001
    assert sum(cell.mirrored for cell in cells) == pytest.approx(200, abs=40)  # 4 standard deviations


def test_aligned_cells_are_the_same_cells_turned():
    for label in LeukocyteClass:
        for turned, aligned in zip(_cells(label, 5), _cells(label, 5, aligned=True), strict=True):
            assert (aligned.angle, aligned.mirrored) == (0.0, False)
            assert (turned.centre, turned.radius_um, turned.ratio) == (aligned.centre, aligned.radius_um, aligned.ratio)
            assert (turned.nucleus.centres == aligned.nucleus.centres).all()
            assert turned.nucleus_area_um2 == aligned.nucleus_area_um2


def test_turning_and_mirroring_a_cell_turns_and_mirrors_what_is_drawn():
    (cell,) = _cells(LeukocyteClass.KIDNEY, 1, aligned=True)
    pose = {**vars(cell), "centre": (0.0, 0.0), "ratio": 1.07}
    coverage = {
        (angle, mirrored): cell_coverage(
            Leukocyte(**{**pose, "angle": angle, "mirrored": mirrored}), *FIELD.samples(), FIELD.sample_um
        )[1]
        for angle in (0.0, math.pi / 2)
        for mirrored in (False, True)
    }
    assert coverage[math.pi / 2, False] == pytest.approx(np.rot90(coverage[0.0, False], -1))
    assert coverage[0.0, True] == pytest.approx(coverage[0.0, False][::-1])


def test_number_and_arrangement_of_lobes_make_the_class():
    lobes = {label: {len(cell.nucleus.centres) for cell in _cells(label, 40)} for label in LeukocyteClass}
    assert lobes == {
        LeukocyteClass.ROUND: {1},
        LeukocyteClass.KIDNEY: {1},
        LeukocyteClass.BILOBED: {2},
        LeukocyteClass.SEGMENTED: {3, 4},
    }
    assert all(cell.nucleus.bite >= 0.45 for cell in _cells(LeukocyteClass.KIDNEY, 40))
    assert CLASSES == ("round", "kidney", "bilobed", "segmented")


def test_light_follows_the_law_of_beer_and_lambert():
    one = np.ones((1, 1))
    assert transmission(0 * one, 0 * one) == pytest.approx(np.ones((3, 1, 1)))
    expected = 10 ** -(0.75 * (0.8 * HAEMATOXYLIN + 0.3 * EOSIN))
    assert transmission(0.8 * one, 0.3 * one)[:, 0, 0] == pytest.approx(expected)


def test_noise_of_an_even_specimen_is_that_of_counted_photons():
    field = FieldOfView(pixels=100)
    light = np.full((3, 300, 300), 0.5)
    picture = photograph(light, field, Microscope(0.5, 200.0, (1.0, 1.0, 1.0)), np.random.default_rng(0)) / 255.0
    assert picture.mean() == pytest.approx(0.5, abs=0.002)
    assert picture.std() == pytest.approx(math.sqrt(0.5 / 200.0 + 0.01**2), rel=0.02)


def test_images_of_a_patient_share_stain_focus_and_light_and_differ_in_their_cells(monkeypatch):
    module = "clinbundles.phantoms.stained_leukocytes.simulated_smear"
    shared = []

    def noticed(cell, stain, microscope, rng, field):  # type: ignore[no-untyped-def]
        shared.append((stain, microscope))
        return leukocyte_image(cell, stain, microscope, rng, field)

    monkeypatch.setattr(f"{module}.leukocyte_image", noticed)
    found = smear_images(3, images=(5, 5))
    smear_images(4)
    assert len(found) == 5
    assert len({picture.tobytes() for picture, _ in found}) == 5
    assert len({label for _, label in found}) > 1
    assert all(pair == shared[0] for pair in shared[:5])
    assert shared[5][0] != shared[0][0]
    assert shared[5][1] != shared[0][1]


def test_stain_and_microscope_stay_in_their_ranges():
    rng = np.random.default_rng(0)
    stains, microscopes = [draw_stain(rng) for _ in range(300)], [draw_microscope(rng) for _ in range(300)]
    for values, low, high in (
        ([stain.nucleus for stain in stains], 0.5, 1.3),
        ([stain.cytoplasm for stain in stains], 0.15, 0.35),
        ([microscope.blur_um for microscope in microscopes], 0.25, 0.9),
        ([microscope.photons for microscope in microscopes], 150.0, 500.0),
        ([microscope.gain[1] for microscope in microscopes], 0.9, 1.05),
    ):
        assert kstest(values, "uniform", (low, high - low)).pvalue > 0.001


def test_patients_have_one_to_eight_images_and_every_number_occurs():
    counts = [len(smear_images(seed, FieldOfView(pixels=2), images=(1, 8))) for seed in range(60)]
    assert set(counts) == set(range(1, 9))


@pytest.mark.parametrize("images", [(0, 2), (3, 2)])
def test_impossible_numbers_of_images_are_refused(images):
    with pytest.raises(ValueError, match=rf"images is \[{images[0]}, {images[1]}\], expected the least and"):
        smear_images(0, images=images)


def test_manifests_list_image_class_and_patient(tmp_path):
    cases = datalist("leukocytes_patients", tmp_path, "test", limit=3, progress=False)
    assert {key for case in cases for key in case} == {"image", "label", "patient_id", "patient", "case"}
    assert len({case["patient_id"] for case in cases}) == 3 < len(cases)
    assert len({case["case"] for case in cases}) == len(cases)
    assert all(Path(case["image"]).suffix == ".png" and case["label"] in range(4) for case in cases)


def test_aligned_and_turned_manifests_have_the_same_classes(tmp_path):
    labels = [
        [case["label"] for case in datalist(name, tmp_path, "test", limit=8, progress=False)]
        for name in ("leukocytes_simulated", "leukocytes_aligned")
    ]
    assert labels[0] == labels[1]


def test_the_command_writes_a_sheet_and_refuses_other_formats(tmp_path, capsys):
    assert main([str(tmp_path / "sheet.png"), "--columns", "2"]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    with pytest.raises(SystemExit):
        main([str(tmp_path / "sheet.jpg")])
    assert "does not end in .png, the only format written" in capsys.readouterr().err
