"""The probability map of a study: of a volume as DICOM Parametric Map, of a picture as TIFF."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from clinbundles.data.atomic_file import atomic_path
from clinbundles.dicom.parametric_map_writer import write_parametric_map
from clinbundles.hosts.deploy.study_result import StudyResult
from clinbundles.hosts.deploy.study_writer import StudyWriter
from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle

FILE, RASTER_FILE = "probability.dcm", "probability_{}.tiff"


class ProbabilityOperator(StudyWriter):
    """Write ``probability`` (C, *spatial) in [0, 1] as float32, one channel per class.

    Args:
        bundle: the bundle, which names the channels.
        args, kwargs: see :class:`StudyWriter`.
    """

    def __init__(self, *args: Any, bundle: HostedBundle, **kwargs: Any) -> None:
        self.bundle = bundle
        super().__init__(*args, **kwargs)

    def write(self, study: StudyResult) -> dict[str, str]:
        """Write the maps.

        Raises:
            BundleError: the bundle gives none.
        """
        if "probability" not in study.sample:
            raise BundleError(f"bundle {self.equipment.name} gives no probability map: leave out --probability")
        values = np.asarray(study.sample["probability"].detach().cpu(), dtype=np.float32)
        channels = channel_names(self.bundle, len(values))
        if study.affine is None:
            return self._write_rasters(values, channels)
        write_parametric_map(
            self.folder / FILE, values, channels, study.affine, study.files, self.equipment, value_range=(0.0, 1.0)
        )
        return {FILE: "DICOM parametric map: probability of " + ", ".join(channels)}

    def _write_rasters(self, values: np.ndarray, channels: list[str]) -> dict[str, str]:
        """Write (C, H, W) as pictures: highdicom makes no map of several channels without patient coordinates."""
        written = {}
        for number, (raster, channel) in enumerate(zip(values, channels, strict=True)):
            name = RASTER_FILE.format(number)
            with atomic_path(self.folder / name) as temporary:
                Image.fromarray(raster).save(temporary, format="TIFF", compression="tiff_adobe_deflate")
            written[name] = f"probability of {channel}, TIFF (float32)"
        return written


def channel_names(bundle: HostedBundle, channels: int) -> list[str]:
    """What each channel is the probability of.

    By the metadata's ``post_processed_outputs#probability#channel_def`` where there is one, else background and labels
    where their number agrees.
    """
    outputs = bundle.metadata["network_data_format"].get("post_processed_outputs", {})
    stated = list(outputs.get("probability", {}).get("channel_def", {}).values())
    for names in (stated, ["background", *bundle.label_names.values()]):
        if len(names) == channels:
            return names
    return [f"channel {number}" for number in range(channels)]
