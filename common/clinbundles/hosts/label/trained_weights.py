"""The weights of one bundle on this server: the shipped ones, and those trained here, which lie in the workspace."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from clinbundles.data.atomic_file import atomic_path
from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.hosted_bundle import HostedBundle

SHIPPED, LATEST = "shipped", "latest"


class TrainedWeights:
    """Keeps what was trained in ``WORKSPACE/BUNDLE/models``: ``model.pt`` is used, earlier ones are ``model_1.pt``, ...

    The folder of the bundle is never written.

    Args:
        bundle: the bundle.
        workspace: folder of the server.
    """

    def __init__(self, bundle: HostedBundle, workspace: str | os.PathLike[str]) -> None:
        self.bundle = bundle
        self.folder = Path(workspace) / bundle.name
        self.trained = self.folder / "models" / "model.pt"

    def path(self, which: str = LATEST) -> Path:
        """File of the weights: "latest" is what was trained here last, or the shipped ones; "shipped" is always those.

        Raises:
            ValueError: another word.
        """
        if which not in (LATEST, SHIPPED):
            raise ValueError(f"weights is {which!r}, expected {LATEST} (trained here, if any) or {SHIPPED}")
        return self.trained if which == LATEST and self.trained.is_file() else self.bundle.weights

    def digest(self) -> str:
        """Short fingerprint of the latest weights, by which a noted result says what it came from."""
        return file_hash(self.path())[:12]

    def install(self, state: dict[str, torch.Tensor]) -> Path:
        """Make a state dict the latest weights in one step; the earlier ones are kept under the next free number."""
        with atomic_path(self.trained) as draft:
            torch.save(state, draft)
            if self.trained.is_file():
                with atomic_path(self._next_name()) as copy:
                    copy.write_bytes(self.trained.read_bytes())
        return self.trained

    def _next_name(self) -> Path:
        number = 1
        while (name := self.trained.with_name(f"model_{number}.pt")).exists():
            number += 1
        return name
