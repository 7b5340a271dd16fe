"""The SDK's own operators, none of ours, run a label-map bundle from TorchScript: for those with an own app."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from deploy.torchscript import export
from deploy.written_results import read_nifti, segmentation_on
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Image, IOType
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from pydicom.sr.codedict import codes
from toy_bundles import make_toy_bundle

from clinbundles.hosts.hosted_bundle import HostedBundle

RULES = {"selections": [{"name": "MR", "conditions": {"Modality": "MR"}}]}


class StockApp(Application):
    """The chain of the SDK's tutorials."""

    def __init__(self, source: Path, model: Path, folder: Path) -> None:
        super().__init__([sys.executable, "app"])
        self.source, self.model, self.folder = source, model, folder

    def compose(self) -> None:
        loader = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=self.source, name="loader")
        selector = DICOMSeriesSelectorOperator(self, rules=json.dumps(RULES), name="selector")
        to_volume = DICOMSeriesToVolumeOperator(self, name="to_volume")
        bundle = MonaiBundleInferenceOperator(
            self,
            app_context=AppContext({"model": str(self.model)}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=self.model,
            name="bundle",
        )
        segment = SegmentDescription("bright tissue", codes.SCT.Tissue, codes.SCT.Tissue, "toy", "0.1.0")
        writer = DICOMSegmentationWriterOperator(
            self, segment_descriptions=[segment], output_folder=self.folder, name="writer"
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, to_volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(to_volume, bundle, {("image", "image")})
        self.add_flow(selector, writer, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(bundle, writer, {("pred", "seg_image")})


@pytest.mark.host("MONAI Deploy", "the SDK's own operators give the same from model.ts")
def test_the_sdks_own_operators_give_the_command_lines_result(nifti: Path, series: Path, tmp_path: Path) -> None:
    toy = make_toy_bundle("toy_volume_labels", tmp_path)
    StockApp(series, export(toy, tmp_path / "model.ts"), tmp_path / "out").run()
    (written,) = (tmp_path / "out").glob("*.dcm")
    expected = np.asarray(HostedBundle(toy).predictor()(str(nifti))["pred"])[0]
    _, affine = read_nifti(nifti)
    assert expected.any()
    assert np.array_equal(segmentation_on(written, expected.shape, affine), expected)
