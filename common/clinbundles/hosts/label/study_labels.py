"""What all stores of studies share: names are checked, labels are checked, files are written whole."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.exception import ImageNotFoundException

from clinbundles.data.atomic_file import atomic_path
from clinbundles.hosts.label.file_grid import EXTENSIONS, read_grid
from clinbundles.hosts.label.label_check import checked_labels
from clinbundles.hosts.label.request_names import plain_id, plain_tag
from clinbundles.hosts.label.result_file import write_result

RAW_LABEL = ".bin"  # OHIF sends the bytes of a label map alone, i fastest
FINAL, ORIGINAL = "final", "original"  # MONAI Label's tags: corrected by a person, as the network gave it


class LabelledStudies(LocalDatastore):
    """MONAI Label's folder of studies, made safe for requests of strangers and for a power cut.

    Images lie in the folder itself, labels in ``labels/TAG``. Differences from MONAI Label's own store: ids and tags
    that could lead out of the folder are refused; a label must lie on the grid of its image and hold known numbers; a
    file appears only when it is complete; changes in the folder are seen when somebody asks, without a watching thread.

    Args:
        folder: the studies.
        label_names: number to name of the labels that the bundles here have; empty: no label is expected.
    """

    def __init__(self, folder: str | os.PathLike[str], label_names: Mapping[int, str]) -> None:
        self.label_names = dict(label_names)
        self._threads = threading.RLock()
        self._processes = FileLock(Path(folder) / ".lock", thread_local=False)  # a background scoring writes notes too
        self._seen: tuple[int, ...] = ()
        self._config_ts = 0
        super().__init__(os.fspath(folder), extensions=[f"*{end}" for end in EXTENSIONS], auto_reload=False)
        self._seen = self._state()

    # --- reading: what is in the folder now ---

    def list_images(self) -> list[str]:
        """Ids of all images."""
        with self._current():
            return list(super().list_images())

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of images with a final label."""
        with self._current():
            return list(super().get_labeled_images(label_tag, labels))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of images without a final label."""
        with self._current():
            return list(super().get_unlabeled_images(label_tag, labels))

    def get_image_uri(self, image_id: str) -> str:
        """File of an image.

        Raises:
            ImageNotFoundException: there is none of that name.
        """
        plain_id(image_id, "image")
        with self._current():
            path = str(super().get_image_uri(image_id))
        if not path:
            raise ImageNotFoundException(f"there is no image {image_id!r} among the studies")
        return path

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """File of a label, "" if there is none."""
        plain_id(label_id, "label")
        with self._current():
            return str(super().get_label_uri(label_id, plain_tag(label_tag)))

    def labelled_pairs(self) -> list[tuple[str, Path, Path]]:
        """(id, image file, label file) of each image with a final label, sorted by id."""
        return [
            (image, Path(self.get_image_uri(image)), Path(self.get_label_uri(image, FINAL)))
            for image in sorted(self.get_labeled_images())
        ]

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """MONAI Label's form of :meth:`labelled_pairs`."""
        return [{"image": str(image), "label": str(label)} for _, image, label in self.labelled_pairs()]

    def status(self) -> dict[str, Any]:
        """Numbers of images and labels."""
        with self._current():
            return dict(super().status())

    def json(self) -> dict[str, Any]:
        """Everything that is noted."""
        with self._current():
            return dict(super().json())

    # --- writing ---

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take in an image that a viewer uploads; one that is there already is never replaced.

        Raises:
            ValueError: the name is taken, or the file cannot be read as an image.
        """
        name, extension = self._to_id(os.path.basename(image_filename))
        image_id = plain_id(image_id or name, "image")
        read_grid(image_filename)
        target = Path(self._datastore.image_path()) / self._filename(image_id, extension)
        with self._changing():
            if target.exists() or image_id in self._datastore.objects:
                raise ValueError(f"there is an image {image_id!r} already: choose another name")
            _copy(image_filename, target)
            info = {**(image_info or {}), "ts": int(time.time()), "name": target.name}
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=extension))
            self._update_datastore_file()
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Check a label and put it beside its image, in place of an earlier one with the same tag.

        Raises:
            ImageNotFoundException: there is no such image.
            GridError, LabelError: the label does not fit its image; nothing is changed.
        """
        plain_tag(label_tag)
        image = self.get_image_uri(image_id)
        with label_file(label_filename, image) as label:
            checked_labels(label, image, self.label_names, f"label of image '{image_id}'")
            self._place_label(image_id, label, label_tag, label_info)
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Delete an image and its labels."""
        with self._changing():
            super().remove_image(plain_id(image_id, "image"))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label."""
        with self._changing():
            super().remove_label(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is noted of an image."""
        with self._changing():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is noted of a label."""
        with self._changing():
            super().update_label_info(label_id, label_tag, info)

    def _place_label(self, image_id: str, label: Path, tag: str, info: Mapping[str, Any] | None) -> None:
        _, extension = self._to_id(label.name)
        target = Path(self._datastore.label_path(tag)) / self._filename(image_id, extension)
        with self._changing():
            record = self._datastore.objects[image_id]
            earlier = record.labels.get(tag)
            _copy(label, target)
            if earlier is not None and earlier.ext != extension:
                (target.parent / self._filename(image_id, earlier.ext)).unlink(missing_ok=True)
            noted = {**(info or {}), "ts": int(time.time()), "name": target.name}
            record.labels[tag] = DataModel(info=noted, ext=extension)
            self._update_datastore_file()

    # --- the folder's state ---

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Read while no other thread changes anything, after a look whether the folder has changed."""
        with self._threads:
            if self._seen and self._state() != self._seen:
                with self._processes:
                    self._reconcile_datastore()
                    self._seen = self._state()
            yield

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change while no other thread or process does."""
        with self._threads, self._processes, self._current():
            yield

    def _state(self) -> tuple[int, ...]:
        labels = Path(self._datastore.label_path(None))
        watched = [Path(self._datastore.image_path()), labels, *sorted(labels.iterdir())]
        watched.append(Path(self._datastore_config_path))
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in watched)

    def _to_id(self, file: str) -> tuple[str, str]:
        extension = max((end for end in EXTENSIONS if file.lower().endswith(end)), key=len, default="")
        extension = file[len(file) - len(extension) :] if extension else Path(file).suffix
        return file.removesuffix(extension), extension

    def _list_files(self, path: str, patterns: Any) -> dict[str, str]:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # .unfinished_, after a crash
        return {name: name for name in names if name.lower().endswith(EXTENSIONS)}

    def _remove_non_existing(self) -> int:
        """As MONAI Label's, but other threads never see a half-empty list."""
        self._init_from_datastore_file()
        images, kept, gone = Path(self._datastore.image_path()), {}, 0
        for image_id, record in self._datastore.objects.items():
            if not (images / self._filename(image_id, record.image.ext)).exists():
                gone += 1
                continue
            labels = {
                tag: label
                for tag, label in record.labels.items()
                if (Path(self._datastore.label_path(tag)) / self._filename(image_id, label.ext)).exists()
            }
            gone += len(record.labels) - len(labels)
            kept[image_id] = ImageLabelModel(image=record.image, labels=labels)
        self._datastore.objects = kept
        return gone

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the list of what is noted; one that cannot be read is set aside, since the files are what counts."""
        path = Path(self._datastore_config_path)
        if not path.exists() or self._config_ts == path.stat().st_mtime_ns:
            return
        try:
            found = LocalDatastoreModel.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError:
            path.replace(path.with_suffix(".damaged"))
            return
        found.base_path, found.images_dir, found.labels_dir = self._datastore_path, ".", "labels"
        self._datastore = found
        self._config_ts = path.stat().st_mtime_ns

    def _update_datastore_file(self, lock: bool = True) -> None:
        content = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        with atomic_path(self._datastore_config_path) as draft:
            draft.write_text(content, encoding="utf-8")
        self._config_ts = Path(self._datastore_config_path).stat().st_mtime_ns
        self._seen = (*self._seen[:-1], self._config_ts)  # folders are looked at again: others may have changed them


@contextlib.contextmanager
def label_file(path: str | os.PathLike[str], image: str | os.PathLike[str]) -> Iterator[Path]:
    """A label as a file with a geometry: to the bare bytes that OHIF sends, that of the image is given for a while.

    Raises:
        ValueError: the bytes are not one for each voxel.
    """
    if Path(path).suffix != RAW_LABEL:
        yield Path(path)
        return
    grid = read_grid(image)
    values = np.fromfile(path, dtype=np.uint8)
    expected = int(np.prod(grid.shape))
    if values.size != expected:
        raise ValueError(f"the label has {values.size} bytes, expected one for each of the {expected} voxels")
    made = Path(path).with_suffix(".nii.gz")
    try:
        write_result(values.reshape(grid.shape, order="F"), image, made)
        yield made
    finally:
        made.unlink(missing_ok=True)


def _copy(source: str | os.PathLike[str], target: Path) -> None:
    with atomic_path(target) as draft, open(source, "rb") as content, draft.open("wb") as copy:
        while chunk := content.read(1 << 20):
            copy.write(chunk)
