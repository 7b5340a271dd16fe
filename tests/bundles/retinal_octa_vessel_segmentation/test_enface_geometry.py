"""To the training pixel size and back: nothing moves, and predictions return to the input grid."""

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from retinal_octa_vessel_segmentation.enface.load_image_enface import pixel_size_mm
from retinal_octa_vessel_segmentation.enface.postprocessing import postprocessing
from retinal_octa_vessel_segmentation.enface.preprocessing import preprocessing
from retinal_octa_vessel_segmentation.enface.resample_to_pixel_size import resample_image
from retinal_octa_vessel_segmentation.enface.vessel_label_map import vessel_label_map, without_small_objects
from retinal_octa_vessel_segmentation.networks import TRAINING_PIXEL_MM


def centroids(images):
    """(N, 2) row and column of the centre of mass of (N, H, W) images, in units of the field."""
    weights = images.double() / images.double().sum((1, 2), keepdim=True)
    rows = (torch.arange(images.shape[1]) + 0.5) / images.shape[1]
    columns = (torch.arange(images.shape[2]) + 0.5) / images.shape[2]
    return torch.stack([(weights.sum(2) * rows).sum(1), (weights.sum(1) * columns).sum(1)], dim=1)


@pytest.mark.parametrize("size", [(152, 152), (76, 100), (304, 250), (48, 215)])
def test_a_dot_stays_where_it_is_and_the_mean_is_kept(size):
    """A dot may move within the coarser pixel that holds it; on average over all places it must not move at all."""
    inside = torch.arange(20, 134)  # whole periods of every ratio
    dots = torch.zeros(len(inside), 152, 152)
    dots[torch.arange(len(inside)), inside, inside.flip(0)] = 1
    resampled = resample_image(dots, size)
    assert resampled.shape == (len(inside), *size)
    moved = centroids(resampled) - centroids(dots)
    pixel = 1 / torch.tensor([min(152, side) for side in size])
    assert bool((moved.abs() <= 0.51 * pixel).all())
    assert moved.mean(0).abs().max() * 152 < 0.02
    flat = resample_image(torch.full((2, 152, 152), 0.3), size)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


def test_going_down_averages_areas_exactly():
    image = torch.rand(1, 12, 9)
    torch.testing.assert_close(resample_image(image, (4, 3)), torch.nn.functional.avg_pool2d(image, (3, 3)))


def save(path, shape, seed=0):
    raster = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(raster).save(path)
    return raster


@pytest.mark.parametrize(("shape", "fov"), [((304, 304), 3), ((320, 320), 6), ((1216, 1216), 3), ((240, 300), [4, 5])])
def test_the_network_sees_the_training_pixel_size(tmp_path, shape, fov):
    save(tmp_path / "a.png", shape)
    sample = preprocessing(fov_mm=fov)({"image": str(tmp_path / "a.png")})
    image = sample["image"]
    height, width = np.broadcast_to(fov, 2)
    assert image.shape[1:] == (round(height / TRAINING_PIXEL_MM), round(width / TRAINING_PIXEL_MM))
    assert pixel_size_mm(image) == pytest.approx((TRAINING_PIXEL_MM,) * 2, rel=0.003)
    assert float(image.mean()) == pytest.approx(0, abs=1e-4)
    assert float(image.std()) == pytest.approx(1, abs=1e-3)
    assert sample["enface"].shape == (1, *shape)
    assert float(sample["enface"].max()) == 1


def test_a_prediction_returns_to_the_input_grid_where_it_was_made(tmp_path):
    save(tmp_path / "a.png", (200, 260))
    steps = preprocessing(fov_mm=[2.0, 2.6])
    sample = steps({"image": str(tmp_path / "a.png")})
    truth = torch.zeros(2, 200, 260)
    truth[0, 40:60, 100:180] = 1
    truth[1, 45:52, 110:170] = 1
    at_network = resample_image(truth, sample["image"].shape[1:])
    sample["pred"] = type(sample["image"])(torch.logit(at_network.clamp(1e-4, 1 - 1e-4)))
    result = postprocessing(steps, measure=False)(sample)
    assert result["probability"].shape == (2, 200, 260)
    assert torch.allclose(result["pred"].affine, sample["enface"].affine)
    expected = truth[0] + truth[1]
    assert result["pred"].dtype == torch.uint8
    assert float((result["pred"][0] != expected).float().sum()) <= 8  # the corners


def test_small_objects_go_by_area_and_islands_of_larger_vessel_become_capillary():
    probability = np.zeros((2, 64, 64), dtype=np.float32)
    probability[0, 10:12, 10:14] = 0.9  # 8 pixels
    probability[0, 30:32, 30:40] = 0.9  # 20 pixels
    probability[1, 30:32, 30:33] = 0.9  # 6 of them called larger
    labels = vessel_label_map(probability, (TRAINING_PIXEL_MM,) * 2)
    assert labels.dtype == np.uint8
    assert labels.sum() == 20
    finer = vessel_label_map(probability, (TRAINING_PIXEL_MM / 2,) * 2)  # the same pixels are a quarter of the area
    assert finer.sum() == 0
    diagonal = np.eye(12, dtype=bool)
    assert without_small_objects(diagonal, 12).sum() == 12  # touching corners belong together
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        vessel_label_map(probability, (0.01, 0.01), threshold=1.5)


@pytest.mark.parametrize("axes", [2, 3])
def test_nifti_results_lie_on_the_grid_of_the_input(tmp_path, axes):
    raster = np.random.default_rng(1).integers(0, 256, (70, 90), dtype=np.uint8)
    array = raster.T if axes == 2 else raster.T[..., None]
    rotation = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.02, 0.025, 1.0])
    affine[:3, 3] = (3, -4, 5)
    path = tmp_path / "in" / "eye.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    steps = preprocessing()
    sample = steps({"image": str(path), "study": "eye"})
    logits = torch.full((2, *sample["image"].shape[1:]), -5.0)
    logits[0, :40, :] = 5.0  # upper rows are vessel
    sample["pred"] = type(sample["image"])(logits)
    result = postprocessing(steps, tmp_path / "out", overlay=False)(sample)
    for name in ("labels", "probability", "faz"):
        written = nibabel.load(tmp_path / "out" / "eye" / f"eye_{name}.nii.gz")
        assert written.shape == array.shape
        np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    labels = np.asarray(nibabel.load(tmp_path / "out" / "eye" / "eye_labels.nii.gz").dataobj).reshape(90, 70)
    np.testing.assert_array_equal(labels.T, result["pred"][0].numpy())
    assert labels[:, 0].all()
    assert not labels[:, -1].any()
