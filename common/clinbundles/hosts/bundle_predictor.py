"""One study through a bundle's own inference.yaml, in this process: what hosts call instead of the command line."""

from __future__ import annotations

import difflib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.transforms import Compose

from clinbundles.hosts.hosted_bundle import BundleError

if TYPE_CHECKING:
    from clinbundles.hosts.hosted_bundle import HostedBundle

WRITER = "SaveImage"  # transforms with this in their class name write files: hosts write themselves


class BundlePredictor:
    """The pipeline of a bundle's inference config without the transforms that write files.

    Preprocessing, network, inferer and postprocessing are those of the command line, so that a host's result is the
    command line's. Of several inputs that metadata declare, those after the first that the preprocessed sample holds
    go to the network by their names. The network is built and the weights are read at the first use.

    Args:
        bundle: the bundle.
        device: where the network runs.
        weights: a checkpoint (state dict, bare or under "model") or a TorchScript file; default the shipped weights.
        writers: keep the transforms that write files; set the id ``output_dir``, and give each call a ``study``.
        settings: ids of inference.yaml to set, such as ``fov_mm=6``.

    Raises:
        BundleError: an id that inference.yaml does not have; weights that cannot be read or do not fit.
    """

    def __init__(
        self,
        bundle: HostedBundle,
        device: str = "cpu",
        weights: str | os.PathLike[str] | None = None,
        *,
        writers: bool = False,
        **settings: Any,
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.weights = Path(weights) if weights is not None else bundle.weights
        self._network: torch.nn.Module | None = None
        self.parser = ConfigParser()
        self.parser.read_config(str(bundle.config("inference")))
        self.parser.read_meta(str(bundle.root / "configs" / "metadata.json"))
        known = [str(key) for key in self.parser.config if not str(key).startswith("_")]
        for name in settings:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise BundleError(
                    f"bundle {bundle.name} has no setting {name!r}; {hint}settings are the ids of its inference config"
                )
        self.parser.update({"bundle_root": str(bundle.root), "device": self.device, **settings})
        self.preprocessing = self._component("preprocessing")
        self.inferer = self._component("inferer")
        postprocessing = self._component("postprocessing")
        self.postprocessing = postprocessing if writers else without_writers(postprocessing)

    def _component(self, name: str) -> Any:
        try:
            return self.parser.get_parsed_content(name)
        except Exception as error:
            raise BundleError(f"bundle {self.bundle.name}: {name} of its inference config fails: {error}") from error

    @property
    def network(self) -> torch.nn.Module:
        """The network with its weights, in evaluation mode on the device."""
        if self._network is None:
            self._network = load_network(self._component("network_def"), self.weights, self.device)
        return self._network

    def __call__(self, image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **case: Any) -> dict[str, Any]:
        """Do one study.

        Args:
            image: path of the image, or the files of a DICOM series or of an exam.
            case: further entries of the case, such as ``study``.

        Returns:
            The postprocessed sample; ``pred`` is the result.
        """
        paths: str | list[str]
        if isinstance(image, (str, os.PathLike)):
            paths = os.fspath(image)
        else:
            paths = [os.fspath(path) for path in image]
        sample = self.preprocessing({**case, "image": paths})
        first, *names = self.bundle.inputs
        inputs = {name: sample[name] for name in (first, *names) if name in sample}
        batch = {name: _moved(value, self.device) for name, value in list_data_collate([inputs]).items()}
        with torch.no_grad():
            prediction = self.inferer(batch.pop(first), self.network, **batch)
            sample["pred"] = decollate_batch(prediction.cpu())[0]
        return self.postprocessing(sample)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def without_writers(postprocessing: Compose) -> Compose:
    """The postprocessing without its transforms that write files."""
    transforms = getattr(postprocessing, "transforms", [postprocessing])
    return Compose([step for step in transforms if WRITER not in type(step).__name__])


def load_network(network: torch.nn.Module, weights: str | os.PathLike[str], device: torch.device) -> torch.nn.Module:
    """Put weights into a network; pickled code is never run.

    Args:
        network: the network that the state dict must fit exactly; a TorchScript file replaces it.
        weights: state dict (bare or under "model"), or TorchScript file with the ending .ts.
        device: where the network goes.

    Raises:
        BundleError: no such file, a file that is damaged or holds other objects than tensors, weights of
            another network.
    """
    path = Path(weights)
    if not path.is_file():
        raise BundleError(f"there are no weights at {path}: train the bundle first or give another file")
    try:
        if path.suffix == ".ts":
            return torch.jit.load(str(path), map_location=device).eval()
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state.get("model", state), strict=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()
        raise BundleError(
            f"the weights in {path.name} cannot be used: expected a state dict of {type(network).__name__} as training "
            f"writes it ({type(error).__name__}: {first[0] if first else 'no message'})"
        ) from error
    return network.to(device).eval()
