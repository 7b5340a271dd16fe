"""Where the noise of private updates comes from: a seeded generator for research, the operating system for release.

Differential privacy holds against someone who cannot predict the noise. A seeded Mersenne Twister can be predicted from
enough of its output, and whoever knows the seed can subtract the noise: it is for reproducible research only.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

__all__ = ["Randomness", "SecureRandomness", "SeededRandomness", "randomness"]

_KEY_BYTES = 1 << 30  # a fresh key long before the 32-bit block counter of ChaCha20 (256 GiB) comes round
_BLOCK = 1 << 20  # values made at once: bounds the float64 scratch memory at some 64 MiB


class Randomness(Protocol):
    """What the sampler and the optimizer of a private training draw from."""

    name: str

    def normal(
        self, shape: Sequence[int], std: float, *, dtype: torch.dtype = ..., device: torch.device | str = ...
    ) -> torch.Tensor:
        """Independent Gaussian values of mean 0 and the given standard deviation."""

    def uniform(self, n: int) -> torch.Tensor:
        """``n`` float64 values, uniform in [0, 1)."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""


class SeededRandomness:
    """Reproducible noise of a PyTorch generator: the same values on every device, since they are made on the CPU.

    Args:
        seed: of the generator; whoever knows it can remove the noise, so a released model needs `SecureRandomness`.
    """

    name = "seeded"

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(
        self,
        shape: Sequence[int],
        std: float,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """Independent Gaussian values of mean 0 and standard deviation ``std``, shaped ``shape``."""
        values = torch.randn(tuple(shape), generator=self._generator, dtype=dtype)
        return values.mul_(_checked_std(std)).to(device)

    def uniform(self, n: int) -> torch.Tensor:
        """``n`` float64 values, uniform in [0, 1)."""
        return torch.rand(n, generator=self._generator, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the noise exactly where the checkpoint was written.

        Raises:
            ValueError: the checkpoint was written with secure noise.
        """
        if "generator" not in state:
            raise ValueError(
                "the checkpoint has no state of a seeded generator: it was trained with secure_rng: true. "
                "Resume it with secure_rng: true"
            )
        self._generator.set_state(state["generator"].cpu())


class SecureRandomness:
    """Noise that cannot be predicted: a ChaCha20 key stream under a key of the operating system, in float64.

    Gaussians come by Box-Muller. Each returned value is the sum of four of them, of four different pairs, over 2:
    the n = 2 of Holohan and Braghin, "Secure Random Sampling in Differential Privacy" (ESORICS 2021), whose sum of 2n
    values makes it exponentially harder to find the noiseless value from the few floating-point numbers that a
    single transform can reach (the attack on Laplace noise: Mironov, "On Significance of the Least Significant Bits
    for Differential Privacy", CCS 2012).

    Nothing of the key is ever written: a checkpoint holds no state, and a copy, an unpickled object or a forked
    process takes a key of its own.

    Raises:
        RuntimeError: this machine has no secure source.
    """

    name = "ChaCha20 keyed by the operating system"

    def __init__(self) -> None:
        self._new_key()

    def _new_key(self) -> None:
        try:
            ciphers = importlib.import_module("cryptography.hazmat.primitives.ciphers")
            # mode None: ChaCha20 is a stream cipher. The nonce begins with the block counter, at zero.
            cipher = ciphers.Cipher(ciphers.algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
            self._stream = cipher.encryptor()
        except Exception as error:  # no package, no ChaCha20 in this OpenSSL (FIPS), no source in the system
            raise RuntimeError(
                f"secure_rng: true needs a secure source of noise, and this machine has none ({error}). Install the "
                "package cryptography on an OpenSSL with ChaCha20, or set secure_rng: false for a model that will "
                "not be released"
            ) from error
        self._left = _KEY_BYTES
        self._process = os.getpid()

    def _words(self, n: int) -> np.ndarray:
        """``n`` unpredictable 64-bit words."""
        size = 8 * n
        if size > self._left or self._process != os.getpid():  # a forked child must not repeat its parent's noise
            self._new_key()
        self._left -= size
        return np.frombuffer(self._stream.update(bytes(size)), dtype=np.uint64)

    def uniform(self, n: int) -> torch.Tensor:
        """``n`` float64 values, uniform on the multiples of 2^-53 in [0, 1)."""
        blocks = [(self._words(min(_BLOCK, n - at)) >> np.uint64(11)).astype(np.float64) for at in range(0, n, _BLOCK)]
        return torch.from_numpy(np.concatenate(blocks)).mul_(2.0**-53) if blocks else torch.empty(0, dtype=torch.double)

    def normal(
        self,
        shape: Sequence[int],
        std: float,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """Independent Gaussian values of mean 0 and standard deviation ``std``, shaped ``shape``."""
        std = _checked_std(std)
        values = torch.empty(tuple(shape), dtype=dtype)
        flat = values.view(-1)
        for at in range(0, flat.numel(), _BLOCK):
            part = flat[at : at + _BLOCK]
            part.copy_(self._standard_normal(part.numel()).mul_(std))
        return values.to(device)

    def _standard_normal(self, n: int) -> torch.Tensor:
        uniform = self.uniform(4 * n)
        # 1 - u lies in (0, 1]: its logarithm is finite
        radius = uniform[: 2 * n].neg_().log1p_().mul_(-2.0).sqrt_()
        angle = uniform[2 * n :].mul_(2.0 * math.pi)
        sine = torch.sin(angle).mul_(radius)
        cosine = angle.cos_().mul_(radius)
        # Both halves of one pair in the same sum would be one Gaussian in disguise: the sines are shifted by one.
        return sine.roll(1).view(2, n).add_(cosine.view(2, n)).sum(0).mul_(0.5)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: fresh keys after each start."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a fresh key.

        Raises:
            ValueError: the checkpoint was written with seeded noise, so the guarantee would be of two kinds.
        """
        if state:
            raise ValueError(
                "the checkpoint was trained with seeded noise, which secure noise from now on cannot mend. "
                "Resume it with secure_rng: false, or train anew"
            )

    def __reduce__(self) -> tuple[type[SecureRandomness], tuple[()]]:
        return SecureRandomness, ()


def randomness(secure: bool, seed: int = 0) -> SeededRandomness | SecureRandomness:
    """The source of noise that a config asks for by ``secure_rng``; the seed counts only where it is not secure."""
    return SecureRandomness() if secure else SeededRandomness(seed)


def _checked_std(std: float) -> float:
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"the standard deviation of the noise is {std}, expected a finite number of 0 or more")
    return std
