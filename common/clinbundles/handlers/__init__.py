"""Ignite handlers that every bundle's config names: tracking, reporting, checkpoints."""

from clinbundles.handlers.epoch_report import EpochReport
from clinbundles.handlers.mlflow_run import MlflowRun, local_tracking_uri, tracked_run
from clinbundles.handlers.progress_bar import ProgressBar
from clinbundles.handlers.run_recorder import RunRecord, RunRecorder
from clinbundles.handlers.training_checkpoints import TrainingCheckpoints

__all__ = [
    "EpochReport",
    "MlflowRun",
    "ProgressBar",
    "RunRecord",
    "RunRecorder",
    "TrainingCheckpoints",
    "local_tracking_uri",
    "tracked_run",
]
