"""Small random problems of motion-compensated reconstruction, in float64 unless asked otherwise."""

from __future__ import annotations

import torch

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding


def complex_normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def unit_maps(coils: int, rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    """Maps (N, X, Y) whose root sum of squares is 1."""
    maps = complex_normal(coils, rows, columns, seed=seed)
    return maps / torch.linalg.vector_norm(maps, dim=0)


def line_mask(frames: int, columns: int, share: float = 0.5, seed: int = 2) -> torch.Tensor:
    drawn = torch.rand(frames, columns, generator=torch.Generator().manual_seed(seed))
    return (drawn < share).double()


def random_flow(*leading: int, rows: int, columns: int, pixels: float = 1.5, seed: int = 3) -> torch.Tensor:
    """Flow (..., 2, X, Y), at least 0.05 pixels away from the kinks at whole pixels; some places lie outside."""
    flow = pixels * torch.randn(
        *leading, 2, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return flow.floor() + 0.05 + 0.9 * (flow - flow.floor())


def line_encoding(frames: int = 4, coils: int = 3, rows: int = 7, columns: int = 8, path: str = "auto", seed: int = 1):
    return CoilFourierEncoding(unit_maps(coils, rows, columns, seed), line_mask(frames, columns), path)
