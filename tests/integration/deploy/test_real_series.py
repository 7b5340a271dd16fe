"""Real series of five kinds of scanner: the result lies on the NIfTI that another converter made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from deploy.app_run import Run
from deploy.written_results import plane_affine, read_nifti, segmentation_on, voxels_of
from make_dicom import RAS_TO_LPS
from toy_bundles import make_toy_bundle

from clinbundles.hosts.hosted_bundle import HostedBundle


@pytest.mark.host("MONAI Deploy", "real series of five vendors")
@pytest.mark.parametrize("vendor", ["ge", "hitachi", "philips", "philips_enhanced", "siemens"])
def test_labels_of_a_real_series_lie_on_the_nifti_beside_it(
    app: Callable[..., Run], real_data: Path, tmp_path: Path, vendor: str
) -> None:
    toy = make_toy_bundle("toy_volume_labels", tmp_path)
    folder = real_data / "dicom_import" / vendor / "anatomical"
    run = app(toy, folder / "001")
    assert run.code == 0, run.err
    nifti = folder / "001_ground_truth.nii.gz"
    values, affine = read_nifti(nifti)
    expected = np.asarray(HostedBundle(toy).predictor()(str(nifti))["pred"])[0]
    assert np.array_equal(expected, values.reshape(expected.shape) > 50)
    assert 0.02 < expected.mean() < 0.98
    labels = segmentation_on(run.folder / "segmentation.dcm", expected.shape, affine)
    assert np.array_equal(labels, expected)


@pytest.mark.host("MONAI Deploy", "real series of five vendors")
def test_an_image_made_of_an_enhanced_series_becomes_a_parametric_map(
    app: Callable[..., Run], real_data: Path, tmp_path: Path
) -> None:
    toy = make_toy_bundle("toy_enhancement", tmp_path)
    folder = real_data / "dicom_import" / "philips_enhanced" / "anatomical"
    run = app(toy, folder / "001")
    assert run.files == ["image.dcm", "image.nii.gz", "results.json"], run.err
    exact, affine = read_nifti(run.folder / "image.nii.gz")
    result = pydicom.dcmread(run.folder / "image.dcm")
    frames = np.frombuffer(result.FloatPixelData, dtype="<f4").reshape(-1, result.Rows, result.Columns)
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        plane = RAS_TO_LPS @ plane_affine(result.SharedFunctionalGroupsSequence[0], group)
        corners = np.array([[0, 0, 0, 1], [result.Columns - 1, result.Rows - 1, 0, 1]]) @ plane.T
        (first, last) = voxels_of(corners[:, :3], affine)
        assert np.array_equal(frame.T, exact[first[0] : last[0] + 1, first[1] : last[1] + 1, first[2]])
    assert len(frames) == exact.shape[2]
