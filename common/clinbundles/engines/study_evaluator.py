"""Inference over many studies, one at a time, in which a broken study does not stop the others."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import Compose

from clinbundles.data.study_dataset import StudyFailure, StudyLoader, describe_failure
from clinbundles.data.study_folder import StudyFolder

FAILED_STUDIES_EXIT_CODE = 3

logger = logging.getLogger(__name__)


class StudyEvaluator(SupervisedEvaluator):
    """A ``SupervisedEvaluator`` for folders of studies.

    An error while reading, preprocessing, in the network, or while postprocessing and writing ends that study only:
    it is kept in ``state.failures`` and logged with the study's name and the error in one line, and the next study
    begins. Finished studies are counted in ``state.completed``; with ``studies`` each gets its record, written last,
    so that an interrupted run can go on. Only names and errors are kept, so the memory does not grow with the folder.

    Handlers see a failed study as an iteration with an empty output.

    With several processes (torchrun), each does its share of ``studies``; at the end process 0 gets the failures and
    counts of all, before any other handler of that event, and alone reports them.

    Args:
        device: where the network runs.
        val_data_loader: a :class:`StudyLoader`.
        network: the network, moved to ``device`` already.
        inferer: how the network is applied.
        postprocessing: transforms of one study's prediction, writers included.
        studies: the folder, to record finished studies in; None keeps no record.
        results_key: entry of the postprocessed study with its row for the table of the folder (a flat mapping).
        val_handlers, amp, prepare_batch: as in MONAI.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: StudyLoader,
        network: torch.nn.Module,
        inferer: Inferer | None = None,
        postprocessing: Compose | None = None,
        studies: StudyFolder | None = None,
        results_key: str = "results",
        val_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        prepare_batch: Callable[..., Any] | None = None,
    ) -> None:
        optional: dict[str, Any] = {} if prepare_batch is None else {"prepare_batch": prepare_batch}
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            inferer=inferer,
            postprocessing=postprocessing,
            val_handlers=[_FailuresToProcess0(), *(val_handlers or ())],
            amp=amp,
            **optional,
        )
        self.studies = studies
        self.results_key = results_key
        self.state.failures = []
        self.state.completed = 0
        self.state.study = None

    def run(self, global_epoch: int = 1) -> None:
        """Do all studies; a folder whose studies are all finished already is no error."""
        self.state.failures = []
        self.state.completed = 0
        if self.state.epoch_length == 0:
            if self.studies is None or not self.studies.cases:
                raise ValueError("there is no study to do: the list of cases is empty")
            logger.info("all %d studies are finished already: nothing to do", len(self.studies.cases))
            self._count()
            for event in (Events.STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
                self.fire_event(event)  # the tables are written all the same, also those of other processes' studies
            return
        super().run(global_epoch)

    def exit_if_failed(self) -> None:
        """End the process with exit code 3 if any study failed; for ``finalize``, after all handlers have closed.

        Of several processes only number 0 ends so, when all have done their share: torchrun stops the others as soon
        as one fails. torchrun itself then ends with exit code 1, and names process 0 and its exit code 3.
        """
        if self.state.failures:
            sys.exit(FAILED_STUDIES_EXIT_CODE)

    def _iteration(self, engine: Any, batchdata: dict[str, Any] | StudyFailure) -> Any:
        study = batchdata.study if isinstance(batchdata, StudyFailure) else batchdata["study"][0]
        self.state.study = study
        if self.studies is not None:
            self.studies.forget(study)
        if isinstance(batchdata, StudyFailure):
            return self._fail(batchdata)
        case = batchdata["case"][0]
        batch = {key: value for key, value in batchdata.items() if key != "case"}
        engine.state.batch = batch
        try:
            output = super()._iteration(engine, batch)
            self._record(case, output)
        except Exception as error:  # whatever one study provokes must not end the run
            logger.debug("study %s", study, exc_info=True)
            engine.state.output = []  # lets go of what the failed study held
            return self._fail(describe_failure(study, "inference", error))
        self.state.completed += 1
        self._count()
        return output

    def _record(self, case: Mapping[str, Any], output: Any) -> None:
        if self.studies is None:
            return
        item = output[0] if isinstance(output, list) else output
        self.studies.finish(case, item.get(self.results_key, {}))

    def _fail(self, failure: StudyFailure) -> list[Any]:
        self.state.failures.append(failure)
        self.state.batch = []
        self.state.output = []
        self._count()
        logger.error("study '%s' failed (%s): %s", failure.study, failure.stage, failure.error)
        return []

    def _count(self) -> None:  # as metrics, so that MLflow gets them with the others
        self.state.metrics["completed_studies"] = self.state.completed
        self.state.metrics["failed_studies"] = len(self.state.failures)


class _FailuresToProcess0:
    """First handler of a :class:`StudyEvaluator`: whoever reports after it, reports on all processes."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, gather_failures)


def gather_failures(engine: StudyEvaluator) -> None:
    """Give process 0 the failures, in the order of the folder, and counts of all processes; the others keep none.

    Waits until the slowest process is done. Does nothing when there is one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    first = torch.distributed.get_rank() == 0
    gathered: list[Any] | None = [None] * torch.distributed.get_world_size() if first else None
    torch.distributed.gather_object((engine.state.failures, engine.state.completed), gathered)
    engine.state.failures = [failure for failures, _ in gathered or () for failure in failures]
    if gathered is None:
        return
    engine.state.completed = sum(completed for _, completed in gathered)
    if engine.studies is not None:
        order = {case["study"]: number for number, case in enumerate(engine.studies.cases)}
        engine.state.failures.sort(key=lambda failure: order[failure.study])
    engine._count()
