"""The one real exam, in DICOM: eleven series, two of them of the right ventricle, one with a false description."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from clinbundles.cine import CineExam, CineExamError, LoadImageCineExamd, read_cine_exam
from clinbundles.cine.find_views import plane_angle

SERIES = ("LAX_2CH", "LAX_3CH", "LAX_4CH", "LAX_RV2CH", "LAX_RVOT")


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All series, every one in a folder of its own."""
    archives = sorted((real_data / "cardiac_cine" / "bivme_patient1").glob("*_Se*.tar.xz"))
    if not archives:
        pytest.skip("the real cine exam is not among the real data")
    unpacked = tmp_path_factory.mktemp("real_exam")
    for archive in archives:
        with tarfile.open(archive) as packed:
            packed.extractall(unpacked / archive.name.split("_Se")[0], filter="data")
    return unpacked


@pytest.fixture(scope="module")
def exam(folder: Path) -> CineExam:
    return read_cine_exam(folder)


def files_but(folder: Path, *left_out: str) -> list[Path]:
    return [file for file in folder.rglob("*.dcm") if file.relative_to(folder).parts[0] not in left_out]


def without(folder: Path, *left_out: str) -> CineExam:
    return read_cine_exam(files_but(folder, *left_out))


def series_of(folder: Path, exam: CineExam) -> dict[str, str]:
    """View name to the folder its series came from."""
    names = {file.name: file.relative_to(folder).parts[0] for file in folder.rglob("*.dcm")}
    return {view.name: names[view.where[0].split(" from ")[1].rstrip(")")] for view in exam.lax}


def test_the_real_views_are_told_by_position(folder: Path, exam: CineExam) -> None:
    assert series_of(folder, exam) == {"lax_2ch": "LAX_2CH", "lax_3ch": "LAX_3CH", "lax_4ch": "LAX_4CH"}
    assert exam.sax.image.shape == (256, 208, 6, 25)
    angles = [plane_angle(view.normals[0], exam.frame_to_world[:3, :3]) for view in exam.lax]
    np.testing.assert_allclose(angles, [84, 21, -38], atol=1)


@pytest.mark.parametrize("name", SERIES[:3])
def test_planes_of_the_right_ventricle_take_no_missing_views_place(folder: Path, name: str) -> None:
    found = series_of(folder, without(folder, name))
    assert name.lower() not in found
    assert all(series == view.upper() for view, series in found.items())


def test_the_short_axis_alone_gives_nearly_the_same_frame(folder: Path, exam: CineExam) -> None:
    alone = without(folder, *SERIES)
    assert not alone.lax
    assert np.linalg.norm(alone.frame_to_world[:3, 3] - exam.frame_to_world[:3, 3]) < 8
    np.testing.assert_allclose(alone.frame_to_world[:3, :3], exam.frame_to_world[:3, :3], atol=1e-6)


def test_slices_are_sorted_from_base_to_apex(exam: CineExam) -> None:
    heights = exam.sax.centres @ exam.frame_to_world[:3, 2]
    np.testing.assert_allclose(np.diff(heights), -17.7, atol=0.1)


def test_series_of_different_heart_rates_are_brought_to_the_same_phases(exam: CineExam) -> None:
    assert all(view.image.shape[3] == 25 for view in exam.views)
    assert exam.times_ms[0] == 0
    assert (np.diff(exam.times_ms) > 20).all()


def test_the_real_exam_becomes_the_tensors_of_a_network(folder: Path) -> None:
    sample = LoadImageCineExamd()({"image": str(folder)})
    assert sample["image"].shape == (25, 64, 64, 16)
    assert sample["lax"].shape == (25, 3, 64, 64)
    assert float(sample["lax"].amin()) == 0.0
    assert float(sample["lax"].amax()) == 1.0
    # the blood of the cavity is bright at the origin in every long-axis view and in the stack
    assert (sample["lax"][0, :, 28:36, 28:36].mean(dim=(1, 2)) > 0.5).all()
    assert float(sample["image"][0, 28:36, 28:36, 7:9].mean()) > 0.5


def test_a_refusal_quotes_nothing_of_the_header(folder: Path) -> None:
    with pytest.raises(CineExamError, match="no lax_4ch") as refusal:
        read_cine_exam(files_but(folder, "LAX_4CH"), ["lax_4ch"])
    assert "4CH" not in str(refusal.value).replace("lax_4ch", "")
