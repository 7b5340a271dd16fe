"""A^H A of one coil-Fourier encoding by two ways: readout-wise Gram matrices for line masks, FFTs for any mask.

A = M F S: times sensitivity maps, centred FFT, times mask. In A^H A the shifts of the centred FFT cancel once the mask
is shifted, and for a line mask, which is the same at all readout positions, so does the readout's transform: row x of
the image meets only itself,

    (A^H A u)(x, y) = sum_y' R_x[y, y'] tau[y - y'] u(x, y'),   R_x[y, y'] = sum_n conj(S_n(x, y)) S_n(x, y'),

tau being the point spread of the mask. R is formed once, whatever the number of coils, and shared by all frames.
Both take real densities too, in place of a mask: then the result is S^H F^H diag(density) F S.
"""

from __future__ import annotations

import torch

_ROWS_AT_ONCE = 16  # their Gram matrices stay in the processor's cache between being formed and being used


class GramNormal:
    """Readout-wise Gram matrices; their cost does not depend on the number of coils.

    Args:
        sensitivity_maps: complex (N, X, Y).
        density: real (S, Y), lines of each frame.
    """

    def __init__(self, sensitivity_maps: torch.Tensor, density: torch.Tensor) -> None:
        by_row = sensitivity_maps.permute(1, 2, 0)  # X Y N
        # transposed, as images stand on the left: R_x[y', y] = sum_n S_n(y') conj(S_n(y))
        self.coils = torch.bmm(by_row, by_row.mH)  # X Y' Y
        columns = density.shape[-1]
        shifted = torch.fft.ifftshift(density, dim=-1).to(sensitivity_maps.dtype)
        self.spread = torch.fft.ifft(shifted, dim=-1)  # S Y
        steps = torch.arange(columns, device=density.device)
        self.differences = (steps[None, :] - steps[:, None]) % columns  # [y', y] -> y - y'

    def apply_rows(self, rows: torch.Tensor, frame: int) -> torch.Tensor:
        """A_s^H A_s of K images, given and returned row by row: complex (X, K, Y)."""
        spread = self.spread[frame][self.differences]
        blocks = zip(rows.split(_ROWS_AT_ONCE), self.coils.split(_ROWS_AT_ONCE), strict=True)
        return torch.cat([torch.bmm(block, coils * spread) for block, coils in blocks])


class FourierNormal:
    """FFTs of every coil's image.

    Args:
        sensitivity_maps: complex (N, X, Y).
        density: real (S, Y) for lines, which needs transforms along Y only, or (S, X, Y).
    """

    def __init__(self, sensitivity_maps: torch.Tensor, density: torch.Tensor) -> None:
        self.sensitivity_maps = sensitivity_maps
        self.axes = (-1,) if density.ndim == 2 else (-2, -1)
        shifted = torch.fft.ifftshift(density, dim=self.axes)
        self.density = shifted[:, None, :] if density.ndim == 2 else shifted  # S 1 Y or S X Y

    def apply(self, image: torch.Tensor, frame: int) -> torch.Tensor:
        """A_s^H A_s of one image, complex (X, Y)."""
        spectrum = torch.fft.fftn(self.sensitivity_maps * image, dim=self.axes)
        seen = torch.fft.ifftn(spectrum * self.density[frame], dim=self.axes)
        return (self.sensitivity_maps.conj() * seen).sum(0)

    def apply_rows(self, rows: torch.Tensor, frame: int) -> torch.Tensor:
        """A_s^H A_s of K images, given and returned row by row: complex (X, K, Y)."""
        return torch.stack([self.apply(image, frame) for image in rows.unbind(1)], dim=1)
