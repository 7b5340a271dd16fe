"""Choosing the series of a folder that a bundle takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_listing import DicomSeries, list_series
from clinbundles.dicom.series_rules import select_series

OUTPUT = "series"
_LISTED = 5  # series in a message


class SelectSeriesOperator(Operator):
    """Find all series below a folder by their headers and choose the one that fits the bundle's rules.

    It stands in for the SDK's loader and selector, for two reasons: the loader keeps one file of several at the same
    position and drops the others without an error, so that a cine would pass for a volume; and the selector takes the
    first series that fits and writes attributes to the log.

    Named output:
        series: the chosen :class:`DicomSeries`.

    Args:
        fragment: the application.
        input_path: folder (or file) with DICOM files, folders below included.
        rules: DICOM keyword to regular expression.
        series_uid: Series Instance UID of the series to take where several fit.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        input_path: Path,
        rules: Mapping[str, str],
        series_uid: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.input_path = input_path
        self.rules = rules
        self.series_uid = series_uid
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the output."""
        spec.output(OUTPUT)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Choose."""
        op_output.emit(self.chosen(), OUTPUT)

    def chosen(self) -> DicomSeries:
        """The series.

        Raises:
            SeriesError: no series fits, or several do; says what there is and why it does not fit.
        """
        found = list_series(self.input_path)
        if not found:
            raise SeriesError(f"{self.input_path.name} holds no DICOM file")
        if self.series_uid is not None:
            found = [series for series in found if series.uid == self.series_uid]
            if not found:
                raise SeriesError(f"{self.input_path.name} holds no series {self.series_uid}")
        chosen, reasons = select_series(found, self.rules)
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            listed = "; ".join(f"{series}: {series.uid}" for series in chosen[:_LISTED])
            more = f" and {len(chosen) - _LISTED} more" if len(chosen) > _LISTED else ""
            raise SeriesError(
                f"{len(chosen)} series of {self.input_path.name} fit the bundle, expected one: choose with --series "
                f"UID: {listed}{more}"
            )
        more = f"; and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
        raise SeriesError(
            f"none of the {len(reasons)} series of {self.input_path.name} fits the bundle: "
            f"{'; '.join(reasons[:_LISTED])}{more}"
        )
