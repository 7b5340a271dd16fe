"""TorchScript of a bundle: models/model.ts with metadata and inference config inside, as MONAI Deploy takes it."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.bundle import ckpt_export

from clinbundles.packaging.packaging_error import PackagingError
from clinbundles.packaging.torch_archive import remove_source_paths


def export_torchscript(root: Path) -> Path:
    """Write `models/model.ts` by MONAI's `ckpt_export`.

    The file has the same bytes each time when the process has scripted nothing before and PYTHONHASHSEED is set:
    TorchScript numbers the classes of a process and writes Python's sets in their order.

    Args:
        root: folder of the bundle.

    Raises:
        PackagingError: the network cannot be scripted; says which line TorchScript does not take.
    """
    target = root / "models" / "model.ts"
    try:
        ckpt_export(
            net_id="network_def",
            filepath=str(target),
            ckpt_file=str(root / "models" / "model.pt"),
            meta_file=str(root / "configs" / "metadata.json"),
            config_file=str(root / "configs" / "inference.json"),
            bundle_root=str(root),
        )
    except (RuntimeError, torch.jit.frontend.NotSupportedError) as error:
        raise PackagingError(
            f"the network cannot be made TorchScript, which MONAI Deploy and the Model Zoo's checks need: {error}\n"
            "Annotate arguments that are no tensors, avoid **kwargs, or give network_def a form made of plain layers."
        ) from error
    remove_source_paths(target)
    return target
