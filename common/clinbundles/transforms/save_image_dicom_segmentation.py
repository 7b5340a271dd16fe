"""Writing of a label map as DICOM segmentation beside the other results, when the input was DICOM."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.transforms import SaveImaged

from clinbundles.data.study_dataset import study_name
from clinbundles.dicom import dicom_files, read_dicom_description, write_segmentation


class SaveImageDicomSegmentationd(SaveImaged):
    """Write ``OUTPUT_DIR/STUDY/STUDY_segmentation.dcm`` for a study that :class:`LoadImageStudyd` read from DICOM.

    Studies from other formats pass unchanged. Hosts that write results themselves leave this step out by its name and
    class.

    Args:
        keys: key of the label map (1, I, J, K) on the grid of the input.
        output_dir: folder of the results.
        description: the bundle's ``configs/dicom.yaml``, which names segments and algorithm.
        version: of the bundle.
        image_key: key of the image that was read, for its files.

    Raises:
        ValueError: labels that do not lie on the grid of the input, or that ``description`` does not name.
    """

    def __init__(
        self, keys: str, output_dir: str | Path, description: str | Path, version: str, image_key: str = "image"
    ) -> None:
        super().__init__(keys=keys, output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir).expanduser()
        self.description = Path(description)
        self.version = version
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one study; adds its path to ``files``."""
        sample = dict(data)
        files = dicom_files(sample[self.image_key])
        if not files:
            return sample
        about = read_dicom_description(self.description)
        study = study_name({str(key): value for key, value in sample.items()}, self.image_key)
        path = self.output_dir / study / f"{Path(study).name}_segmentation.dcm"
        for key in self.key_iterator(sample):
            write_segmentation(path, sample[key], files, about.segments, about.algorithm(self.version))
        sample["files"] = {**sample.get("files", {}), "segmentation": str(path)}
        return sample
