"""Studies in a DICOMweb store (PACS): series are fetched and converted when asked for, labels go back as DICOM SEG."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import requests
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings as server_settings
from monailabel.datastore.dicom import DICOMwebClientX
from pydicom import Dataset, dcmread

from clinbundles.dicom import SeriesError, write_segmentation
from clinbundles.dicom.dicom_description import LONGEST_LABEL
from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.hosts.label.label_check import LabelError, checked_labels
from clinbundles.hosts.label.label_segmentation import labels_of_segmentation
from clinbundles.hosts.label.request_names import NameRefused, plain_tag
from clinbundles.hosts.label.series_file import write_series_as_nifti
from clinbundles.hosts.label.study_labels import FINAL, LabelledStudies, label_file

logger = logging.getLogger(__name__)

_UID = re.compile(r"[0-9.]{1,64}")
_LISTING_AGE = 10.0  # seconds for which the store's answer about its series is believed
_NOTED = ("Modality", "StudyInstanceUID", "SeriesInstanceUID")  # what OHIF needs to find a series; nothing of a person
_NO_IMAGES = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "DOC", "REG", "FID", "PLAN")


class DicomWebStudies(LabelledStudies):
    """A DICOMweb store as MONAI Label's studies; the id of an image is the UID of its series.

    ``FOLDER/dicom/UID`` holds the fetched files, ``FOLDER/UID.nii.gz`` the converted image, ``FOLDER/labels`` the
    labels; all of it is a copy that can be fetched again, except labels other than final ones. Which series are offered
    follows from the bundles' rules (``configs/dicom.yaml``) as far as the store tells of them.

    Args:
        client: the store.
        folder: for the copies. They are patients' images: the folder is made private to the user.
        bundles: the bundles that are served.
        label_names: as for :class:`LabelledStudies`.
    """

    def __init__(
        self, client: DICOMwebClient, folder: Path, bundles: Sequence[HostedBundle], label_names: Mapping[int, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(folder, label_names)
        self.client = client
        self.bundles = list(bundles)
        self._listed: tuple[float, dict[str, Dataset]] = (0.0, {})
        self._labelled: tuple[float, dict[str, str]] = (0.0, {})
        self._unusable: set[str] = set()

    def name(self) -> str:
        """Address of the store."""
        return str(self.client.base_url)

    def list_images(self) -> list[str]:
        """UIDs of the series that a bundle here may take."""
        return sorted(self._series())

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """UIDs of series that have a final label here or a segmentation in the store."""
        here = set(super().get_labeled_images())
        return sorted((here | self._segmentations().keys()) & self._series().keys())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """UIDs of the other series, without those that turned out to be no regular volume."""
        return sorted(self._series().keys() - set(self.get_labeled_images()) - self._unusable)

    def status(self) -> dict[str, Any]:
        """Numbers of series and of labelled ones."""
        return {**super().status(), "total": len(self.list_images()), "completed": len(self.get_labeled_images())}

    def get_image_uri(self, image_id: str) -> str:
        """NIfTI file of a series, fetched and converted at the first time.

        Raises:
            SeriesError: the series is not one image on a regular grid; says what was found.
            ImageNotFoundException: the store has no such series.
        """
        if not _UID.fullmatch(image_id):
            raise NameRefused(f"image {image_id[:80]!r} is refused: expected the UID of a series")
        with self._changing():
            if image_id not in self._datastore.objects:
                if image_id not in self._series():
                    return super().get_image_uri(image_id)  # says that there is none
                self._convert(image_id)
        return super().get_image_uri(image_id)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is noted of a series."""
        known = self._series().get(image_id)
        uids = {} if known is None else {name: str(known.get(name, "")) for name in _NOTED}
        return {**uids, **super().get_image_info(image_id)}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is noted of a series."""
        self.get_image_uri(image_id)
        super().update_image_info(image_id, info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Check a label; a final one goes to the store as DICOM SEG, then a copy is kept here.

        Raises:
            GridError, LabelError: the label does not fit its series; nothing is changed.
            SeriesError, requests.HTTPError: the segmentation cannot be made, or the store does not take it.
        """
        plain_tag(label_tag)
        image = self.get_image_uri(image_id)
        with label_file(label_filename, image) as label:
            labels = checked_labels(label, image, self.label_names, f"label of series '{image_id}'")
            if label_tag == FINAL:
                self._store(image_id, labels, label_info)
            self._place_label(image_id, label, label_tag, label_info)
        self._labelled = (0.0, {})
        return image_id

    def labelled_pairs(self) -> list[tuple[str, Path, Path]]:
        """As for a folder; segmentations that only the store has are fetched."""
        for image_id in self.get_labeled_images():
            image = self.get_image_uri(image_id)
            if not self.get_label_uri(image_id, FINAL):
                self._fetch_label(image_id, image)
        return super().labelled_pairs()

    def segmentation_file(
        self, image_id: str, labels: np.ndarray, model: str, path: Path, corrected: bool = False
    ) -> Path:
        """Write labels on the grid of a series as DICOM SEG; ``corrected`` if a person has changed them."""
        self.get_image_uri(image_id)
        bundle = self._bundle_of(labels, model)
        title = bundle.title[:LONGEST_LABEL]
        files = self._files(image_id)
        return write_segmentation(path, labels, files, bundle.segments, bundle.algorithm, title, corrected)

    # --- the store ---

    def _series(self) -> dict[str, Dataset]:
        age, listed = self._listed
        if time.monotonic() - age > _LISTING_AGE or not listed:
            found = [Dataset.from_json(entry) for entry in self.client.search_for_series()]
            listed = {str(series.SeriesInstanceUID): series for series in found if self._is_offered(series)}
            self._listed = (time.monotonic(), listed)
        return listed

    def _is_offered(self, series: Dataset) -> bool:
        if str(series.get("Modality", "")) in _NO_IMAGES:
            return False
        return any(
            all(
                re.fullmatch(rule, str(series[keyword].value), re.IGNORECASE)
                for keyword, rule in bundle.series_rules.items()
                if keyword in series
            )
            for bundle in self.bundles
        )

    def _segmentations(self) -> dict[str, str]:
        """UID of a series -> UID of its latest segmentation in the store."""
        age, labelled = self._labelled
        if time.monotonic() - age > _LISTING_AGE:
            labelled = {}
            for entry in self.client.search_for_series(search_filters={"Modality": "SEG"}):
                found = Dataset.from_json(entry)
                study, series = str(found.StudyInstanceUID), str(found.SeriesInstanceUID)
                header = Dataset.from_json(self.client.retrieve_series_metadata(study, series)[0])
                for reference in header.get("ReferencedSeriesSequence", []):
                    labelled[str(reference.SeriesInstanceUID)] = series
            self._labelled = (time.monotonic(), labelled)
        return labelled

    def _convert(self, image_id: str) -> None:
        folder = self._folder(image_id)
        if not folder.is_dir():
            self._fetch(str(self._series()[image_id].StudyInstanceUID), image_id, folder)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            path = Path(scratch) / f"{image_id}.nii.gz"
            try:
                write_series_as_nifti(folder, path)
            except SeriesError:
                self._unusable.add(image_id)
                shutil.rmtree(folder)  # the store may have the missing files later
                raise
            self.add_image(image_id, str(path), {})

    def _fetch(self, study: str, series: str, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for number, instance in enumerate(self.client.retrieve_series(study, series)):
                instance.save_as(scratch / f"{number:05d}.dcm", write_like_original=False)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def _fetch_label(self, image_id: str, image: str) -> None:
        segmentation = self._segmentations()[image_id]
        folder = self._folder(segmentation)
        if not folder.is_dir():
            self._fetch(str(self._series()[image_id].StudyInstanceUID), segmentation, folder)
        header = dcmread(next(iter(sorted(folder.iterdir()))))
        try:
            labels = labels_of_segmentation(header, self._files(image_id), self.label_names)
        except ValueError as error:
            raise LabelError(f"the segmentation of series {image_id} in the store cannot be used: {error}") from error
        affine = nibabel.load(image).affine
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            path = Path(scratch) / f"{image_id}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(labels, affine), path)
            self._place_label(image_id, path, FINAL, {"SeriesInstanceUID": segmentation})

    def _store(self, image_id: str, labels: np.ndarray, info: Mapping[str, Any] | None) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            model = str((info or {}).get("model", ""))
            path = self.segmentation_file(image_id, labels, model, Path(scratch) / "label.dcm", corrected=True)
            self.client.store_instances([dcmread(path)])
        logger.info("stored the label of series %s", image_id)

    def _bundle_of(self, labels: np.ndarray, model: str) -> HostedBundle:
        numbers = set(np.unique(labels).tolist()) - {0}
        fitting = [b for b in self.bundles if b.kind == "label_map" and numbers <= b.label_names.keys()]
        named = [bundle for bundle in fitting if bundle.name == model]
        if not fitting:
            raise LabelError(f"no bundle here has all of the labels {', '.join(map(str, sorted(numbers)))}")
        return (named or fitting)[0]

    def _folder(self, series: str) -> Path:
        return Path(self._datastore_path) / "dicom" / series

    def _files(self, series: str) -> list[Path]:
        return sorted(self._folder(series).iterdir())


def dicomweb_client(url: str) -> DICOMwebClient:
    """A client of a store; user and password come from MONAI Label's own settings (environment)."""
    user, password = server_settings.MONAI_LABEL_DICOMWEB_USERNAME, server_settings.MONAI_LABEL_DICOMWEB_PASSWORD
    session = create_session_from_user_pass(user, password) if user and password else requests.Session()
    client = DICOMwebClientX(
        url=url,
        session=session,
        qido_url_prefix=server_settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=server_settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=server_settings.MONAI_LABEL_STOW_PREFIX,
    )
    client.set_http_retry_params(max_attempts=2, wait_exponential_multiplier=200)  # by default half a minute
    return client
