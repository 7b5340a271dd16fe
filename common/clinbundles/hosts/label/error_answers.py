"""What a viewer is told when something fails: one sentence, with the HTTP status that fits."""

from __future__ import annotations

import errno
import json
import logging

import requests
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException

from clinbundles.data.study_dataset import describe_failure, root_cause
from clinbundles.hosts.label.request_names import NameRefused

logger = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def status_and_message(error: BaseException) -> tuple[int, str]:
    """HTTP status and one sentence for an error; unexpected ones keep their class name and no traceback."""
    cause = root_cause(error)
    if isinstance(cause, (ImageNotFoundException, LabelNotFoundException)):
        return 404, str(cause.msg)
    if isinstance(cause, MONAILabelException):
        return 400, str(cause.msg)
    if isinstance(cause, NameRefused):
        return 400, str(cause)
    if isinstance(cause, json.JSONDecodeError):
        return 400, f"params is no JSON: {cause}"
    if isinstance(cause, requests.RequestException):
        return 502, f"the DICOMweb store cannot be used: {cause}"
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return 507, f"the server's disk is full ({cause.strerror}): nothing was written; free space and try again"
    known = isinstance(cause, (ValueError, FileNotFoundError))
    return (422 if known else 500), describe_failure("", "", cause).error


def add_error_answers(app: FastAPI) -> None:
    """Answer every error of a request with ``{"detail": message}``; the server's log gets the same message."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        status, message = status_and_message(error)
        logger.error("%s %s: %d %s", request.method, request.url.path, status, message)
        if status == 500:
            logger.error("details", exc_info=error)
        return JSONResponse({"detail": message}, status_code=status)

    for kind in (MONAILabelException, ValueError, OSError, RuntimeError, TypeError, KeyError, Exception):
        app.add_exception_handler(kind, answer)
