"""The record of a run: what was done, with what, and all numbers, as JSON without a word about the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from clinbundles import __version__
from clinbundles.data.atomic_file import write_json
from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.bundle_predictor import BundlePredictor
from clinbundles.hosts.deploy.output_folder import RECORD
from clinbundles.hosts.deploy.report_operator import report_rows
from clinbundles.hosts.deploy.study_result import StudyResult

STUDY = "study"


class RecordOperator(Operator):
    """Write ``results.json``.

    Named inputs:
        study: a :class:`StudyResult`.
        one of the name of each writer: what it has written. (One input for all of them would be shorter, but the SDK
            4.0 crashes when a Python operator reads objects from an input of any size.)

    Args:
        fragment: the application.
        folder: where to write.
        predictor: the bundle's pipeline.
        settings: ids of the inference config that the user set.
        writers: names of the writers.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        folder: Path,
        predictor: BundlePredictor,
        settings: Mapping[str, Any],
        writers: Sequence[str],
        **kwargs: Any,
    ) -> None:
        self.folder = folder
        self.predictor = predictor
        self.settings = settings
        self.writers = writers
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the inputs."""
        spec.input(STUDY)
        for name in self.writers:
            spec.input(name)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Write the record."""
        study: StudyResult = op_input.receive(STUDY)
        files: dict[str, str] = dict(study.written)
        for name in self.writers:
            files.update(op_input.receive(name).files)
        write_json(self.folder / RECORD, self.record(study, files))

    def record(self, study: StudyResult, files: Mapping[str, str]) -> dict[str, Any]:
        """The content of the record."""
        bundle = self.predictor.bundle
        record: dict[str, Any] = {
            "bundle": bundle.name,
            "version": bundle.version,
            "clinbundles": __version__,
            "notice": bundle.notice,
            "weights_sha256": file_hash(self.predictor.weights),
            "settings": dict(self.settings),
            "input": {"modality": study.series[0].modality, "files": len(study.files)},
        }
        if bundle.takes_exam:
            record["input"]["series"] = len(study.series)
        if bundle.kind == "classification":
            record["probabilities"] = study.probabilities
        rows = report_rows(study, "")
        if rows:
            record["measurements"] = [{key: plain(value) for key, value in row.items()} for row in rows]
        own_names = {name for file in study.files for name in (file.name, file.stem, str(file))}
        record["results"] = {
            key: plain(value)
            for key, value in study.sample.get("results", {}).items()
            if value not in own_names  # a file's name may be the patient's
        }
        record["files"] = dict(files)
        return record


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of NumPy as Python's, what is not finite as null."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return None if isinstance(value, float) and not np.isfinite(value) else value
