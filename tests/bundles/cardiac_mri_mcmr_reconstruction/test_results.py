"""Files, figure and film of a reconstructed cine, which agree with each other."""

from __future__ import annotations

import itertools
import json

import nibabel
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from moving_disc_case import FRAMES, ROI, SETTINGS, SIZE, beating_flow, disc_sample
from PIL import Image

from cardiac_mri_mcmr_reconstruction.results import save_reconstruction
from cardiac_mri_mcmr_reconstruction.results.cine_film import save_cine_film
from cardiac_mri_mcmr_reconstruction.results.grey_window import (
    heart_region,
    in_one_grey_scale,
    most_different_frame,
    shown_region,
)
from cardiac_mri_mcmr_reconstruction.results.plausibility import CheckPlausibilityd
from cardiac_mri_mcmr_reconstruction.results.reconstruction_figure import phase_motion, reconstruction_figure
from cardiac_mri_mcmr_reconstruction.results.save_reconstruction import (
    SaveImageReconstructiond,
    mask_hash,
    result_row,
)
from cardiac_mri_mcmr_reconstruction.results.template_flow_file import read_template_flow, write_template_flow


def written(sample, folder, study="P1/slice_3"):
    judged = CheckPlausibilityd("pred", SETTINGS, held_out_share=0.3)(sample | {"study": study})
    return SaveImageReconstructiond(folder, SETTINGS, version="9.9")(judged)


@pytest.fixture(scope="module")
def sample():
    return disc_sample()


@pytest.fixture(scope="module")
def result(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return written(sample, folder), folder / "P1" / "slice_3"


@pytest.fixture(scope="module")
def report(result):
    return json.loads((result[1] / "slice_3_report.json").read_text())


def test_all_files_are_there_and_the_report_names_them(result, report):
    sample, folder = result
    names = {path.name for path in folder.iterdir()}
    endings = (
        "magnitude.nii.gz", "phase.nii.gz", "dicom", "template_flow.nii.gz", "reconstruction.png", "cine.gif",
        "report.json",
    )  # fmt: skip
    assert names == {f"slice_3_{ending}" for ending in endings}
    assert {(folder / name).name for name in report["files"].values()} == names
    assert set(report["files"]) == set(sample["files"])


def test_magnitude_and_phase_make_up_the_reconstruction(result):
    sample, folder = result
    magnitude, phase = (nibabel.load(folder / f"slice_3_{name}.nii.gz") for name in ("magnitude", "phase"))
    assert magnitude.shape == (*SIZE, 1, FRAMES)
    cine = (magnitude.get_fdata() * np.exp(1j * phase.get_fdata()))[:, :, 0]
    np.testing.assert_allclose(np.moveaxis(cine, -1, 0), sample["reconstruction"].numpy(), atol=1e-5)
    np.testing.assert_allclose(magnitude.affine, sample["affine"], atol=1e-5)


def test_report_tells_how_the_images_were_made(report, sample):
    made = report["provenance"]
    assert report["method"] == "motion-compensated"
    assert "Research use only" in report["notice"]
    assert made["settings"]["regularisation"] == SETTINGS.regularisation
    assert made["settings"]["outer_iterations"] == SETTINGS.outer_iterations
    assert made["settings"]["weight_sigma"] == SETTINGS.weight_sigma
    assert made["mask_sha256"] == mask_hash(sample["mask"])
    assert made["lines_per_frame"] == [12, 12]
    assert made["acceleration"] == 4
    assert made["sensitivity_maps"] == "given"
    assert made["bundle"] == "cardiac_mri_mcmr_reconstruction 9.9"
    assert {"torch", "monai", "numpy", "clinbundles"} <= set(made["software"])
    solves = report["plausibility"]["solves"]
    assert [solve["motion"] for solve in solves] == [False, True]
    assert len(solves[1]["relative_residual"]) == FRAMES


def test_row_and_report_say_the_same(result, report):
    row = result[0]["results"]
    assert row["verdict"] == report["plausibility"]["verdict"] == "plausible"
    assert row["held_out_misfit_ratio"] == report["plausibility"]["held_out"]["misfit_ratio"]
    assert row["roi_psnr"] == report["scores"]["roi_psnr"] > report["scores"]["view_sharing_roi_psnr"]
    assert (row["frames"], row["coils"], row["matrix"]) == (FRAMES, 4, "40 x 48")
    assert all(isinstance(value, str | int | float | bool) for value in row.values())


def test_an_unknown_value_is_an_empty_cell_and_valid_json(sample, tmp_path):
    bare = {key: value for key, value in sample.items() if key not in ("reference", "maps_method", "spacing_known")}
    bare |= {"noise_sd": float("nan"), "frame_ms": float("nan"), "roi": None}
    done = written(bare, tmp_path)
    assert done["results"]["misfit_over_noise"] == ""
    assert "roi_psnr" not in done["results"]
    text = (tmp_path / "P1" / "slice_3" / "slice_3_report.json").read_text()
    assert json.loads(text)["scores"] == {}
    assert "NaN" not in text


def test_where_view_sharing_takes_its_place_no_motion_is_handed_on(sample, tmp_path):
    written(sample, tmp_path)
    motion = tmp_path / "P1" / "slice_3" / "slice_3_template_flow.nii.gz"
    assert motion.is_file()
    done = written(disc_sample(beating_flow().roll(4, 0)), tmp_path)
    assert not motion.exists()
    report = json.loads((motion.parent / "slice_3_report.json").read_text())
    assert report["method"] == done["results"]["method"] == "view sharing"
    assert "template_flow" not in report["files"]
    assert "held-out lines" in done["results"]["reasons"]
    saved = nibabel.load(motion.parent / "slice_3_magnitude.nii.gz").get_fdata()
    np.testing.assert_allclose(np.moveaxis(saved[:, :, 0], -1, 0), done["view_sharing"].abs().numpy(), atol=1e-5)


def test_an_interrupted_run_leaves_no_report_and_no_half_files(sample, tmp_path, monkeypatch):
    written(sample, tmp_path)

    def broken(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(save_reconstruction, "reconstruction_figure", broken)
    with pytest.raises(OSError, match="No space left"):
        written(sample, tmp_path)
    folder = tmp_path / "P1" / "slice_3"
    assert not (folder / "slice_3_report.json").exists()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".unfinished")]


def test_hash_of_a_mask_knows_what_is_sampled_and_nothing_else(sample):
    mask = sample["mask"]
    assert mask_hash(mask) == mask_hash(mask.bool()) == mask_hash(mask.double())
    assert mask_hash(mask) != mask_hash(mask.roll(1, 1))
    assert mask_hash(torch.zeros(2, 8)) != mask_hash(torch.zeros(4, 4))


def test_the_row_of_a_case_without_motion_is_complete(sample, result):
    still = CheckPlausibilityd("pred", SETTINGS)(sample | {"pred": sample["pred"][:1]})
    row = result_row(still, {})
    assert row["folding_percent"] == row["held_out_misfit_ratio"] == ""
    assert set(row) <= set(result[0]["results"])


def test_motion_in_a_file_comes_back_as_it_was(sample, tmp_path):
    """Even on a slice that lies obliquely, whose rows run along another axis of the scanner."""
    flow, affine = beating_flow().numpy(), sample["affine"].numpy()
    write_template_flow(tmp_path / "flow.nii.gz", flow, affine, frame_ms=40)
    back, about = read_template_flow(tmp_path / "flow.nii.gz")
    np.testing.assert_allclose(back, flow, atol=1e-5)
    assert about["units"] == "mm"
    assert about["frame_ms"] == 40
    assert "frame_t(p + v_t(p)) ~ template(p)" in about["convention"]
    image = nibabel.load(tmp_path / "flow.nii.gz")
    assert image.shape == (*SIZE, 1, FRAMES, 3)
    assert image.header.get_intent()[0] == "vector"
    world = image.get_fdata()[10, 20, 0, 0]  # a step of one row is -1.5 mm along A, one of a column 2 mm along R
    np.testing.assert_allclose(world, [2.0 * flow[0, 1, 10, 20], -1.5 * flow[0, 0, 10, 20], 0], atol=1e-5)


def test_a_file_that_holds_no_motion_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 1, 3), np.float32), np.eye(4)), tmp_path / "cine.nii.gz")
    with pytest.raises(ValueError, match=r"cine\.nii\.gz has the shape \(4, 4, 1, 3\) .* expected the displacements"):
        read_template_flow(tmp_path / "cine.nii.gz")


def test_the_way_between_phases_is_that_of_the_tissue():
    """Frame 0 is widest, frame 4 tightest: places right of the middle move left."""
    way = phase_motion(beating_flow().numpy(), 0, 4)
    assert way[1, 20, 32] < -1
    assert way[1, 20, 16] > 1
    assert abs(way[0, 20, 32]) < 1e-6


def cines(sample):
    ours = sample["pred"][-1].images.numpy()
    return {"zero-filled": 0.2 * ours, "view sharing": sample["pred"][0].images.numpy(), "motion-compensated": ours}


def test_figure_has_rows_of_errors_only_with_a_reference(sample):
    flow = beating_flow().numpy()
    without = reconstruction_figure(cines(sample), flow, roi=ROI)
    full = reconstruction_figure(cines(sample) | {"reference": sample["reference"].numpy()}, flow, roi=ROI)
    labels = [axis.get_ylabel() for axis in full.axes]
    assert {"|error| × 5, frame 0", "|error| × 5, frame 4", "end-systole, frame 4"} <= set(labels)
    assert not any("error" in axis.get_ylabel() for axis in without.axes)
    titles = [axis.get_title() for axis in full.axes]
    assert titles[:5] == ["zero-filled", "view sharing", "motion-compensated", "reference", "motion"]
    bare = reconstruction_figure(cines(sample), None)
    assert "motion" not in [axis.get_title() for axis in bare.axes]


def test_labels_of_the_figure_lie_inside_it_and_apart(sample):
    many = cines(sample) | {"reference": sample["reference"].numpy()}
    many["motion-compensated (refused)"] = many.pop("motion-compensated")
    figure = reconstruction_figure(many, beating_flow().numpy(), roi=ROI, frame_ms=40.0, title="P1")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [axis.title.get_window_extent(renderer) for axis in figure.axes if axis.get_title()]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    ordered = sorted(boxes, key=lambda box: box.x0)
    assert all(first.x1 <= second.x0 for first, second in itertools.pairwise(ordered))


def test_all_cines_have_one_grey_scale(sample):
    part = shown_region(SIZE, ROI)
    scaled = in_one_grey_scale(cines(sample), "motion-compensated", part)
    np.testing.assert_allclose(scaled["zero-filled"], scaled["motion-compensated"], rtol=1e-5)
    assert np.quantile(scaled["motion-compensated"][:, part[0], part[1]], 0.995) == pytest.approx(1)


def test_the_frame_most_unlike_the_first_is_end_systole(sample):
    assert most_different_frame(sample["reference"].numpy(), ROI) == 4


def test_region_of_the_heart_stays_within_the_image():
    assert heart_region((40, 48), None) == (10, 12, 30, 36)
    assert heart_region((40, 48), (-3, 5, 99, 40)) == (0, 5, 40, 40)
    assert shown_region((40, 48), (2, 2, 38, 46)) == (slice(0, 40), slice(0, 48))
    with pytest.raises(ValueError, match="has no pixel in an image of 40 x 48"):
        heart_region((40, 48), (50, 0, 60, 10))


def test_film_shows_every_frame_at_the_speed_of_the_heart(sample, tmp_path):
    path = save_cine_film(tmp_path / "cine.gif", cines(sample), roi=ROI, spacing_mm=(1.5, 2.0), frame_ms=43.0)
    with Image.open(path) as film:
        assert film.n_frames == FRAMES
        assert film.info["duration"] == 40
        assert film.info["loop"] == 0
        part = shown_region(SIZE, ROI)
        width = round(200 * (part[1].stop - part[1].start) * 2.0 / ((part[0].stop - part[0].start) * 1.5))
        assert film.size == (3 * width + 8, 220)
        film.seek(4)
        greys = np.asarray(film.convert("L"))
    assert greys.max() == 255
    right, left = greys[20:, 2 * (width + 4) :], greys[20:, :width]
    np.testing.assert_allclose(left, right, atol=6)  # one is a fifth as bright in the data
    assert path.stat().st_size < 500_000
