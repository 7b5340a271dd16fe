"""Random transforms that give each case the same result every time: for validation on augmented images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from monai.transforms import Compose


class CaseSeeded(Compose):
    """A `Compose` whose random state is set from the case before each call.

    The result depends on `seed` and on the case's name alone: not on the epoch, the order of the cases, the number of
    workers or of processes. So the metrics of two epochs, of two runs, or of training and evaluation can be compared.

    Args:
        transforms: as in `Compose`.
        seed: another seed gives other random draws for all cases.
        key: entry of the sample with the name of its case.

    Raises:
        KeyError: a sample has no such entry.
    """

    def __init__(
        self, transforms: Sequence[Callable[..., Any]] | Callable[..., Any], seed: int = 0, key: str = "case"
    ) -> None:
        super().__init__(transforms)
        self.seed = seed
        self.key = key

    def __call__(self, input_: Any, *args: Any, **kwargs: Any) -> Any:
        """Seed every random transform, then apply them."""
        if self.key not in input_:
            raise KeyError(f"the sample has no {self.key!r} to seed its random transforms by; it has {list(input_)}")
        self.set_random_state(seed=zlib.crc32(f"{self.seed}/{input_[self.key]}".encode()))
        return super().__call__(input_, *args, **kwargs)
