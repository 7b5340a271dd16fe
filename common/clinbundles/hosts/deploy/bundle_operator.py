"""Running a bundle on a series: the command line's own pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.data import ImageReader
from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from monai.transforms import Compose, LoadImaged

from clinbundles.dicom.series_listing import DicomSeries
from clinbundles.hosts.bundle_predictor import BundlePredictor
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.transforms.load_image_study import LoadImageStudyd

INPUT, OUTPUT = "series", "study"
_AXES_WITH_TIME = 4


class BundleOperator(Operator):
    """Preprocess, infer and postprocess one series.

    Named input:
        series: the series.
    Named output:
        study: a :class:`StudyResult`.

    Args:
        fragment: the application.
        predictor: the bundle's pipeline.
    """

    def __init__(self, fragment: Fragment, *args: Any, predictor: BundlePredictor, **kwargs: Any) -> None:
        self.predictor = predictor
        read_series_first(predictor.preprocessing, time=predictor.bundle.image_axes == _AXES_WITH_TIME)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name input and output."""
        spec.input(INPUT)
        spec.output(OUTPUT)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Run the bundle."""
        series: DicomSeries = op_input.receive(INPUT)
        paths = [str(file) for file in series.files]
        sample = self.predictor(paths if len(paths) > 1 else paths[0])
        op_output.emit(StudyResult(series, sample, self.predictor.bundle.label_names), OUTPUT)


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
