"""What the operators that write one kind of result have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from clinbundles.dicom.result_equipment import ResultEquipment
from clinbundles.hosts.deploy.study_result import StudyResult

INPUT, OUTPUT = "study", "files"


@dataclass(frozen=True)
class WrittenFiles:
    """Each file that was written, relative to the output folder, and what it is."""

    files: dict[str, str]  # not a bare dictionary: the SDK takes those for maps of tensors


class StudyWriter(Operator):
    """An operator that writes files of a :class:`StudyResult`.

    Named input:
        study: the result.
    Named output:
        files: :class:`WrittenFiles`.

    Args:
        fragment: the application.
        folder: where to write.
        equipment: who made the result.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, equipment: ResultEquipment, **kwargs: Any) -> None:
        self.folder = folder
        self.equipment = equipment
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name input and output."""
        spec.input(INPUT)
        spec.output(OUTPUT)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Write."""
        op_output.emit(WrittenFiles(self.write(op_input.receive(INPUT))), OUTPUT)

    @abstractmethod
    def write(self, study: StudyResult) -> dict[str, str]:
        """Write the files of a study; returns file to description."""
