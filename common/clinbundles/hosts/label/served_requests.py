"""Requests that this server answers itself instead of MONAI Label."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from clinbundles.hosts.label.file_grid import read_labels
from clinbundles.hosts.label.request_names import plain_session
from clinbundles.hosts.label.series_file import write_series_as_nifti

router = APIRouter()

# What a viewer may choose. Everything else in `params` is ignored: MONAI Label lets it replace the image's path.
_OPTIONS = ("device", "weights", "result_extension", "result_dtype", "save_label", "label_tag")

_AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
_AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


@router.post("/infer/{model}", tags=["Infer"])
def infer(  # not async: the server goes on answering others meanwhile
    background_tasks: BackgroundTasks,
    model: str,
    user: _AsUser,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Run a model on an image of the studies, of a session, or that comes with the request."""
    options = json.loads(params or "{}")
    if not isinstance(options, dict):
        raise HTTPException(400, "params must be a JSON object, such as {}")
    app = app_instance()
    with _image(app, image, session_id, file) as source:
        chosen = {name: options[name] for name in _OPTIONS if name in options}
        result = app.infer({**chosen, "model": model, "image": source})
    if output in (ResultType.image, ResultType.dicom_seg) and not result["file"]:
        raise HTTPException(422, f"{model} gives no file but named results: ask with output=json")
    if output == ResultType.dicom_seg:
        return _segmentation(app, image, model, result["file"], background_tasks)
    return send_response(app.datastore(), result, output, background_tasks)


@router.put("/model/{model}", tags=["Model"])
@router.delete("/model/{model}", tags=["Model"])
def change_model(model: str, user: _AsAdmin) -> None:
    """Weights are changed by training alone, so that nobody puts foreign files on the server."""
    raise HTTPException(
        403,
        "weights are changed by training only. To go back to earlier ones, put them on the server as "
        f"WORKSPACE/{model}/models/model.pt, or ask for the weights 'shipped'",
    )


@contextmanager
def _image(app: Any, image: str, session_id: str, file: UploadFile | None) -> Iterator[str]:
    """The image's id, or the path of an uploaded file, which is gone afterwards unless it belongs to a session."""
    if file is not None:
        folder = app.workspace / "uploads" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        path = folder / Path(file.filename or "image.nii.gz").name
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
            yield str(path)
        finally:
            shutil.rmtree(folder)
    elif session_id:
        session = app.sessions().get_session(plain_session(session_id)) if app.sessions() is not None else None
        if session is None:
            raise HTTPException(404, f"there is no session {session_id}")
        with tempfile.TemporaryDirectory(dir=session.path) as scratch:
            yield _as_one_file(Path(session.image), Path(scratch))
    elif image:
        yield image
    else:
        raise HTTPException(400, "no image: give image=ID, session_id=ID or a file")


def _as_one_file(image: Path, scratch: Path) -> str:
    """The path of an uploaded image; the files of a DICOM series become one."""
    return str(write_series_as_nifti(image, scratch / "series.nii.gz") if image.is_dir() else image)


def _segmentation(app: Any, image: str, model: str, result: str, background_tasks: BackgroundTasks) -> FileResponse:
    path = Path(result).with_suffix(".dcm")
    background_tasks.add_task(remove_file, result)
    write = getattr(app.datastore(), "segmentation_file", None)
    if write is None or not image:
        raise HTTPException(422, "DICOM SEG needs a series of a DICOMweb store: start the server with its address")
    labels, _ = read_labels(result)
    write(image, labels, model, path)
    background_tasks.add_task(remove_file, str(path))
    return FileResponse(path, media_type="application/dicom", filename=path.name)
