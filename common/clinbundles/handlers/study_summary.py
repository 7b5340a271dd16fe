"""One table for a whole folder of studies, and one of those that failed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed
from ignite.engine import Engine, Events

from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.study_folder import StudyFolder

FAILURE_TABLE = "failures.csv"


class StudySummary:
    """At the end of a run, writes the tables of the folder and says where the results are.

    ``table_name`` has one row per finished study, also of earlier, interrupted runs, in the order of the folder;
    ``failures.csv`` has one row per study that failed in this run (study, stage, error) and is absent if none did.
    Records are read one by one, so a large folder needs no more memory than a small one. Of several processes number 0
    writes, for all of them.

    Args:
        studies: the folder; its records hold the rows.
        table_name: file name of the table in the output folder.
        notice: what the user must know of every result, printed last.
        print_line: how a line is shown to the user.
    """

    def __init__(
        self,
        studies: StudyFolder,
        table_name: str = "results.csv",
        notice: str = "",
        print_line: Callable[[str], Any] = print,
    ) -> None:
        self.studies = studies
        self.table_name = table_name
        self.notice = notice
        self.print_line = print_line

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write both tables and print where they are."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        failures = list(getattr(engine.state, "failures", []))
        table = self.studies.output_dir / self.table_name
        finished = self.write_table(table)
        failure_table = self.studies.output_dir / FAILURE_TABLE
        if failures:
            with atomic_path(failure_table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["study", "stage", "error"])
                writer.writerows([failure.study, failure.stage, failure.error] for failure in failures)
        else:
            failure_table.unlink(missing_ok=True)
        self.print_line(f"{finished} of {len(self.studies.cases)} studies have results in {self.studies.output_dir}")
        self.print_line(f"table of all studies: {table}")
        if failures:
            self.print_line(f"{len(failures)} studies failed, all listed in {failure_table}:")
            for failure in failures[:5]:
                self.print_line(f"  {failure.study}: {failure.error}")
        if self.notice:
            self.print_line(self.notice)

    def write_table(self, path: Path) -> int:
        """Write the rows of all finished studies; columns in order of first appearance. Returns the number of rows."""
        columns: dict[str, None] = {"study": None}
        for row in self._rows():
            columns.update(dict.fromkeys(row))
        rows = 0
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(columns), restval="")
            writer.writeheader()
            for row in self._rows():
                writer.writerow(row)
                rows += 1
        return rows

    def _rows(self):  # type: ignore[no-untyped-def]
        for case in self.studies.cases:
            record = self.studies.read_record(case["study"])
            if record is not None:
                yield {"study": case["study"], **record["results"]}
