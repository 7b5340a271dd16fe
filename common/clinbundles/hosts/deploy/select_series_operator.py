"""Choosing the series of a folder that a bundle takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_listing import DicomSeries, list_series
from clinbundles.dicom.series_rules import select_series

OUTPUT = "series"
_LISTED = 5  # series in a message


@dataclass(frozen=True)
class ChosenSeries:
    """One series, or all series of an exam."""

    series: tuple[DicomSeries, ...]  # not a bare tuple: the SDK takes those apart


class SelectSeriesOperator(Operator):
    """Find all series below a folder by their headers and choose the one that fits the bundle's rules.

    It stands in for the SDK's loader and selector, for two reasons: the loader keeps one file of several at the same
    position and drops the others without an error, so that a cine would pass for a volume; and the selector takes the
    first series that fits and writes attributes to the log.

    Named output:
        series: :class:`ChosenSeries`.

    Args:
        fragment: the application.
        input_path: folder (or file) with DICOM files, folders below included.
        rules: DICOM keyword to regular expression.
        series_uid: Series Instance UID of the series to take where several fit; of an exam, any of its series.
        exam: whether to choose all series of one DICOM study that fit, instead of one series.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        input_path: Path,
        rules: Mapping[str, str],
        series_uid: str | None = None,
        exam: bool = False,
        **kwargs: Any,
    ) -> None:
        self.input_path = input_path
        self.rules = rules
        self.series_uid = series_uid
        self.exam = exam
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the output."""
        spec.output(OUTPUT)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Choose."""
        op_output.emit(ChosenSeries(self.chosen()), OUTPUT)

    def chosen(self) -> tuple[DicomSeries, ...]:
        """The series.

        Raises:
            SeriesError: no series fits, or several do (series of several studies, for an exam); says what there is and
                why it does not fit.
        """
        where = self.input_path.name
        found = list_series(self.input_path)
        if not found:
            raise SeriesError(f"{where} holds no DICOM file")
        if self.series_uid is not None:
            named = [series for series in found if series.uid == self.series_uid]
            if not named:
                raise SeriesError(f"{where} holds no series {self.series_uid}")
            found = [series for series in found if series.study_uid == named[0].study_uid] if self.exam else named
        chosen, reasons = select_series(found, self.rules)
        if not chosen:
            more = f"; and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
            raise SeriesError(
                f"none of the {len(reasons)} series of {where} fits the bundle: {'; '.join(reasons[:_LISTED])}{more}"
            )
        if self.exam:
            return self._of_one_study(chosen, found)
        if len(chosen) > 1:
            raise SeriesError(
                f"{len(chosen)} series of {where} fit the bundle, expected one: choose with --series UID: "
                f"{_listed(chosen)}"
            )
        return tuple(chosen)

    def _of_one_study(self, chosen: Sequence[DicomSeries], found: Sequence[DicomSeries]) -> tuple[DicomSeries, ...]:
        where = self.input_path.name
        damaged = [series for series in found if series.damaged]
        if damaged:  # it may be a slice of the exam
            raise SeriesError(
                f"{where} holds {len(damaged)} files whose header cannot be read, {damaged[0].files[0].name} first: "
                "copy them again, or take them out of the folder"
            )
        studies = {series.study_uid: series for series in reversed(chosen)}
        if len(studies) > 1:
            raise SeriesError(
                f"series of {len(studies)} studies of {where} fit the bundle, expected one study: choose with --series "
                f"UID, any series of it: {_listed(list(reversed(studies.values())))}"
            )
        return tuple(chosen)


def _listed(series: Sequence[DicomSeries]) -> str:
    more = f" and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
    return "; ".join(f"{one}: {one.uid}" for one in series[:_LISTED]) + more
