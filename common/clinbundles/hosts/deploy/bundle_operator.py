"""Running a bundle on a series: the command line's own pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.data import ImageReader
from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from monai.transforms import Compose, LoadImaged

from clinbundles.hosts.bundle_predictor import BundlePredictor
from clinbundles.hosts.deploy.select_series_operator import ChosenSeries
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.transforms.load_image_study import LoadImageStudyd

INPUT, OUTPUT = "series", "study"
EXAM = "exam"  # what the study of a bundle that writes its own files is called: a folder's name may be the patient's
_AXES_WITH_TIME = 4
_ENDINGS = {
    ".nii.gz": "image (NIfTI)",
    ".nii": "image (NIfTI)",
    ".csv": "table",
    ".json": "report",
    ".dcm": "DICOM object",
    ".png": "figure",
    ".gif": "animation",
    ".mp4": "animation",
    ".svg": "figure",
    ".pdf": "document",
    ".vtp": "mesh",
    ".vtk": "mesh",
    ".obj": "mesh",
    ".ply": "mesh",
    ".pvd": "list of the meshes in time",
}


class BundleOperator(Operator):
    """Preprocess, infer and postprocess one series or exam.

    Named input:
        series: :class:`ChosenSeries`.
    Named output:
        study: a :class:`StudyResult`.

    Args:
        fragment: the application.
        predictor: the bundle's pipeline; of a bundle for exams, with the writers.
        folder: where those write.
    """

    def __init__(self, fragment: Fragment, *args: Any, predictor: BundlePredictor, folder: Path, **kwargs: Any) -> None:
        self.predictor = predictor
        self.folder = folder
        read_series_first(predictor.preprocessing, time=predictor.bundle.image_axes == _AXES_WITH_TIME)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name input and output."""
        spec.input(INPUT)
        spec.output(OUTPUT)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Run the bundle."""
        chosen: ChosenSeries = op_input.receive(INPUT)
        bundle = self.predictor.bundle
        paths = sorted(str(file) for series in chosen.series for file in series.files)
        if bundle.takes_exam:
            sample = self.predictor(paths, study=EXAM)
        else:
            sample = self.predictor(paths if len(paths) > 1 else paths[0])
        op_output.emit(StudyResult(chosen.series, sample, bundle.label_names, self._written()), OUTPUT)

    def _written(self) -> dict[str, str]:
        """What the bundle's own writers left."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): describe_file(path.name) for path in files}


def describe_file(name: str) -> str:
    """What a file of a bundle's own is, as far as its ending tells."""
    kind = next((kind for ending, kind in _ENDINGS.items() if name.lower().endswith(ending)), "file")
    return f"{kind} of the bundle"


class LoadImageSeriesd(LoadImageStudyd):
    """What stands in for MONAI's own loader, which stacks the files of a series as channels.

    Args:
        loader: the loader of the bundle; whether it gives a channel is kept.
        time: whether several frames at one position are points in time.
    """

    def __init__(self, loader: LoadImaged, time: bool) -> None:
        super().__init__(loader.keys, time=time)
        self.gives_channel = loader._loader.ensure_channel_first

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load every key."""
        sample = super().__call__(data, reader)
        for key in self.key_iterator(sample):
            if not self.gives_channel:
                sample[key] = sample[key][0]
                sample[key].meta["original_channel_dim"] = "no_channel"
        return sample


def read_series_first(preprocessing: Compose, time: bool = False) -> None:
    """Put our reader in the place of MONAI's own; the object stays, because the postprocessing may invert it.

    Args:
        preprocessing: transforms of one case.
        time: whether the network takes volumes with a time axis.
    """
    preprocessing.transforms = tuple(
        LoadImageSeriesd(step, time) if type(step) is LoadImaged else step for step in preprocessing.transforms
    )
