"""The MONAI Deploy application of every bundle."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.hosts.bundle_predictor import BundlePredictor
from clinbundles.hosts.deploy.bundle_operator import BundleOperator
from clinbundles.hosts.deploy.image_operator import ImageOperator
from clinbundles.hosts.deploy.probability_operator import ProbabilityOperator
from clinbundles.hosts.deploy.record_operator import RecordOperator
from clinbundles.hosts.deploy.report_operator import ReportOperator
from clinbundles.hosts.deploy.segmentation_operator import SegmentationOperator
from clinbundles.hosts.deploy.select_series_operator import SelectSeriesOperator
from clinbundles.hosts.deploy.study_writer import StudyWriter


class BundleApp(Application):
    """DICOM folder → the series that the bundle takes → the bundle → DICOM results and a record in JSON.

    A bundle for exams takes all series of a study that fit. What it gives lies on no grid of one of them, so its own
    writers write it.

    Args:
        predictor: the bundle's pipeline; of a bundle for exams, with the writers, whose ``output_dir`` is ``folder``.
        input_path: folder with DICOM files.
        folder: where the results go.
        settings: ids of the inference config that the user set, for the record.
        series_uid: the series to take where several fit.
        probability: whether to write the probability map.
    """

    def __init__(
        self,
        predictor: BundlePredictor,
        input_path: Path,
        folder: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        series_uid: str | None = None,
        probability: bool = False,
    ) -> None:
        super().__init__([sys.executable, type(self).__name__])  # the SDK would take our command line for its own
        self.predictor = predictor
        self.input_path = input_path
        self.folder = folder
        self.settings = dict(settings or {})
        self.series_uid = series_uid
        self.probability = probability

    def compose(self) -> None:
        """Connect the operators."""
        bundle = self.predictor.bundle
        select = SelectSeriesOperator(
            self,
            CountCondition(self, 1),
            input_path=self.input_path,
            rules=bundle.series_rules,
            series_uid=self.series_uid,
            exam=bundle.takes_exam,
            name="select_series",
        )
        run = BundleOperator(self, predictor=self.predictor, folder=self.folder, name="bundle")
        writers = self._writers()
        record = RecordOperator(
            self,
            folder=self.folder,
            predictor=self.predictor,
            settings=self.settings,
            writers=[writer.name for writer in writers],
            name="record",
        )
        self.add_flow(select, run, {("series", "series")})
        for writer in writers:
            self.add_flow(run, writer, {("study", "study")})
            self.add_flow(writer, record, {("files", writer.name)})
        self.add_flow(run, record, {("study", "study")})

    def _writers(self) -> list[StudyWriter]:
        bundle = self.predictor.bundle
        common: dict[str, Any] = {
            "folder": self.folder,
            "equipment": ResultEquipment(bundle.name, bundle.version, bundle.notice),
        }
        writers: list[StudyWriter] = [ReportOperator(self, kind=bundle.kind, name="report", **common)]
        if bundle.takes_exam:
            return writers
        if bundle.kind == "label_map":
            writers.append(SegmentationOperator(self, bundle=bundle, name="segmentation", **common))
        if bundle.kind == "files":
            writers.append(ImageOperator(self, name="image", **common))
        if self.probability:
            writers.append(ProbabilityOperator(self, bundle=bundle, name="probability", **common))
        return writers
