"""Lets MONAI Label start beside a CPU build of PyTorch.

MONAI Label imports torchvision for two drawing functions. The common torchvision wheel registers kernels of operators
whose definitions come with its CUDA library; beside a CPU build of PyTorch nobody defines them and the import fails
with ``operator torchvision::nms does not exist``. The two definitions suffice: no one calls the operators.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

_DEFINITIONS = tuple(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms"))
_kept: list[Any] = []  # definitions vanish with their library object


def make_torchvision_importable() -> bool:
    """Define the missing operators if importing torchvision fails for want of them; says whether it did.

    To be called before anything of MONAI Label is imported.

    Raises:
        RuntimeError: torchvision fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    _kept.append(library)
    for definition in _DEFINITIONS:
        library.define(definition)
    importlib.import_module("torchvision")
    return True
