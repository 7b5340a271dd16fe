"""A data set whose broken studies come out as failures instead of stopping the loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.data import list_data_collate
from torch.utils.data import DataLoader, Dataset

_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class StudyFailure:
    """One study that could not be done: its name, where it stopped and why, in one line."""

    study: str
    stage: str
    error: str


def root_cause(error: BaseException) -> BaseException:
    """The error behind MONAI's 'applying transform ...', in which it wraps whatever a transform raises."""
    while isinstance(error, RuntimeError) and str(error).startswith("applying transform") and error.__cause__:
        error = error.__cause__
    return error


def describe_failure(study: str, stage: str, error: BaseException) -> StudyFailure:
    """Put an error into one line; no traceback, no image values, no header."""
    cause = root_cause(error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    message = " ".join(lines) or "no message"
    known = isinstance(cause, (ValueError, FileNotFoundError))  # written for the user: the class name adds nothing
    text = message if known else f"{type(cause).__name__}: {message}"
    return StudyFailure(study, stage, text[:_LONGEST_MESSAGE])


def study_name(case: Mapping[str, Any], image_key: str = "image") -> str:
    """The name of a case: its ``study``, else the file name of its image without the ending."""
    if "study" in case:
        return str(case["study"])
    image = case.get(image_key)
    if isinstance(image, (list, tuple)) and image:
        image = image[0]
    return Path(str(image)).name.split(".")[0] if image else "unnamed"


class StudyDataset(Dataset[dict[str, Any] | StudyFailure]):
    """Map-style data set of studies: item i is the transformed case, or a :class:`StudyFailure`.

    Nothing is cached, so the memory does not grow with the number of studies. Besides what ``transform`` gives, an
    item holds ``study`` (name) and ``case`` (the entry of ``data``), which the evaluator needs to record the result.

    Args:
        data: the cases, for example a :class:`clinbundles.data.study_folder.StudyFolder` or a datalist.
        transform: preprocessing of one case.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Callable[[dict[str, Any]], Any]) -> None:
        self.data = data
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any] | StudyFailure:
        case = dict(self.data[index])
        name = study_name(case)
        try:
            item = self.transform({**case, "study": name})
        except Exception as error:  # whatever a broken file provokes must not end the run
            return describe_failure(name, "reading", error)
        return {**item, "study": name, "case": case}


def collate_studies(batch: Sequence[dict[str, Any] | StudyFailure]) -> dict[str, Any] | StudyFailure:
    """Collate the only study of a batch; ``study`` and ``case`` stay as they are.

    Raises:
        ValueError: more than one study: they have different shapes and one must not fail with another.
    """
    if len(batch) != 1:
        raise ValueError(f"studies are done one at a time, got a batch of {len(batch)}: set batch_size to 1")
    item = batch[0]
    if isinstance(item, StudyFailure):
        return item
    study, case = item["study"], item["case"]
    try:
        collated = list_data_collate([{key: value for key, value in item.items() if key not in ("study", "case")}])
    except Exception as error:
        return describe_failure(study, "reading", error)
    return {**collated, "study": [study], "case": [case]}


class StudyLoader(DataLoader[dict[str, Any] | StudyFailure]):
    """Loader of a :class:`StudyDataset`: in order, one study at a time, at most two per worker held ready."""

    def __init__(self, dataset: StudyDataset, num_workers: int = 0) -> None:
        super().__init__(dataset, batch_size=1, shuffle=False, num_workers=num_workers, collate_fn=collate_studies)
