"""Numbers of a study as a DICOM structured report."""

from __future__ import annotations

from typing import Any

from clinbundles.dicom.measurement_report import measured, write_measurement_report
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.hosts.deploy.study_writer import StudyWriter

FILE = "report.dcm"


class ReportOperator(StudyWriter):
    """Write measurements, class probabilities and the expected error as DICOM SR; nothing where there are none."""

    def write(self, study: StudyResult) -> dict[str, str]:
        """Write the report, if there is a number to report."""
        rows = report_rows(study, self.kind)
        if not measured(rows):
            return {}
        write_measurement_report(self.folder / FILE, rows, study.files, self.equipment)
        return {FILE: "DICOM structured report (TID 1500)"}

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        self.kind = kind
        super().__init__(*args, **kwargs)


def report_rows(study: StudyResult, kind: str) -> list[dict[str, Any]]:
    """All numbers of a study as measurements: name, value, unit (UCUM), region."""
    rows = [dict(row) for row in study.sample.get("measurements", [])]
    if kind == "classification":
        rows += [
            {"name": f"probability of {name}", "value": value, "unit": "1"}
            for name, value in study.probabilities.items()
        ]
    if "expected_error" in study.sample:
        rows.append({"name": "expected error", "value": float(study.sample["expected_error"]), "unit": "1"})
    return rows
