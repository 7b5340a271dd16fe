"""Parts of a logical batch that fit into memory, without tearing a privacy unit."""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["physical_chunks"]


def physical_chunks(unit: torch.Tensor, largest: int) -> Iterator[list[torch.Tensor]]:
    """Cut a batch into chunks of whole units.

    Args:
        unit: (B,) int64, unit of each record of the batch; the records of a unit stand together.
        largest: records that fit into memory, 1 or more.

    Yields:
        Chunks as lists of pieces, each piece (n,) numbers of at most `largest` records. A chunk is one piece, unless
        it is a single unit that is larger than that: its pieces' gradients are to be summed before clipping.
    """
    sizes = torch.unique_consecutive(unit, return_counts=True)[1].tolist()
    start = stop = 0
    for size in sizes:
        if stop > start and stop + size - start > largest:
            yield _pieces(start, stop, largest)
            start = stop
        stop += size
    if stop > start:
        yield _pieces(start, stop, largest)


def _pieces(start: int, stop: int, largest: int) -> list[torch.Tensor]:
    return list(torch.arange(start, stop).split(largest))
