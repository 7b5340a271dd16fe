"""Displacement fields in mm on the centred grid: sampling, warping, composing, inverting, Jacobian.

A field is a tensor (B, 3, I, J, K) of mm along the x, y, z of the exam frame. It lives on a **domain**, the frame whose
places it is asked at:

- ``"ed"``: p_t = p_ED + Phi(p_ED) (Meng et al. 2024, DeepMesh);
- ``"t"``: p_ED = p_t + Phi(p_t) (Meng et al. 2022, MulViMotion), so that I_ED(x + Phi(x)) looks like I_t(x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clinbundles.motion.motion_grid import GRID_SPACING_MM, grid_points, sample_at

DOMAINS = ("ed", "t")


def warp(
    image: torch.Tensor,
    field: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    mode: str = "bilinear",
    padding_mode: str = "border",
) -> torch.Tensor:
    """Pull an image back along a field: out(x) = image(x + field(x)).

    Args:
        image: (B, C, I, J, K).
        field: (B, 3, I, J, K) in mm, on the same grid.
        spacing_mm: of the grid.
        mode: "bilinear" or "nearest".
        padding_mode: what lies outside the image.

    Returns:
        (B, C, I, J, K).
    """
    if image.shape[0] != field.shape[0] or image.shape[2:] != field.shape[2:] or field.shape[1] != 3:
        raise ValueError(
            f"image has shape {tuple(image.shape)} and field {tuple(field.shape)}: expected (B, C, I, J, K) and "
            "(B, 3, I, J, K) on one grid"
        )
    points = grid_points(field.shape[2:], spacing_mm, field.dtype, field.device)
    return sample_at(image, points + field.movedim(1, -1), spacing_mm, padding_mode, mode)


def at_rest_at_ed(displacements: torch.Tensor) -> torch.Tensor:
    """Displacements (T, ...) of a cycle, zero at frame 0: end-diastole is what they are measured from."""
    return torch.cat([torch.zeros_like(displacements[:1]), displacements[1:]])


def sample_field(
    field: torch.Tensor, points: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM
) -> torch.Tensor:
    """Displacements (B, N, 3) in mm at places (B, N, 3) in mm; beyond the grid that of its border."""
    return sample_at(field, points, spacing_mm).movedim(1, -1)


def compose(first: torch.Tensor, second: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """The field of going along ``first`` and then along ``second``: first(x) + second(x + first(x))."""
    return first + warp(second, first, spacing_mm)


def invert(field: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM, iterations: int = 20) -> torch.Tensor:
    """The field that goes back, by fixed-point iteration: inverse(y) <- -field(y + inverse(y)).

    Converges where the field changes by less than 1 mm per mm (Chen et al., Medical Physics 35, 2008).
    """
    inverse = -field
    for _ in range(iterations):
        inverse = -warp(field, inverse, spacing_mm)
    return inverse


def invert_at(
    field: torch.Tensor,
    points: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    iterations: int = 20,
) -> torch.Tensor:
    """Displacements (B, N, 3) of the inverse at places (B, N, 3): y = p - field(y), repeated; gives y - p."""
    places = points - sample_field(field, points, spacing_mm)
    for _ in range(iterations):
        places = points - sample_field(field, places, spacing_mm)
    return places - points


def field_gradient(field: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """Spatial derivatives by central differences (one-sided at the border): (B, 3, 3, I, J, K), [b, c, a] = dc/da."""
    return torch.stack(
        [_derivative(field, axis, float(step)) for axis, step in zip((2, 3, 4), spacing_mm, strict=True)], dim=2
    )


def _derivative(field: torch.Tensor, axis: int, step: float) -> torch.Tensor:
    count = field.shape[axis]
    if count < 2:
        raise ValueError(f"a field of shape {tuple(field.shape)} has no derivative along axis {axis}: one voxel only")
    ahead = torch.cat([field.narrow(axis, 1, count - 1), field.narrow(axis, count - 1, 1)], dim=axis)
    behind = torch.cat([field.narrow(axis, 0, 1), field.narrow(axis, 0, count - 1)], dim=axis)
    width = torch.full([count], 2 * step, dtype=field.dtype, device=field.device)
    width[0] = width[-1] = step
    shape = [1] * field.ndim
    shape[axis] = count
    return (ahead - behind) / width.reshape(shape)


def deformation_gradient(field: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """F = I + grad Phi at every voxel: (B, 3, 3, I, J, K)."""
    identity = torch.eye(3, dtype=field.dtype, device=field.device)
    return field_gradient(field, spacing_mm) + identity[None, :, :, None, None, None]


def deformation_gradient_at(
    field: torch.Tensor,
    points: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    step_mm: float = 1.0,
) -> torch.Tensor:
    """F = I + grad Phi at places (B, N, 3): (B, N, 3, 3), by central differences of the trilinear field."""
    columns = []
    for axis in range(3):
        offset = torch.zeros(3, dtype=points.dtype, device=points.device)
        offset[axis] = step_mm
        ahead = sample_field(field, points + offset, spacing_mm)
        behind = sample_field(field, points - offset, spacing_mm)
        columns.append((ahead - behind) / (2 * step_mm))
    return torch.stack(columns, dim=-1) + torch.eye(3, dtype=field.dtype, device=field.device)


def determinant(matrix: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Determinant of 3 x 3 matrices whose rows and columns are the axes ``row`` and ``column`` of a tensor."""
    rows = [part.unbind(column - 1 if column > row else column) for part in matrix.unbind(row)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def jacobian_determinant(field: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """det(I + grad Phi) at every voxel: (B, I, J, K); 1 keeps volume, at most 0 folds."""
    return determinant(deformation_gradient(field, spacing_mm), 1, 2)


@dataclass(frozen=True)
class DisplacementField:
    """One displacement field, or one of each frame, with its grid and its domain.

    Attributes:
        vectors: (B, 3, I, J, K) in mm along the axes of the exam frame; B may count frames.
        domain: "ed" or "t" (see above).
        spacing_mm: of the centred grid.
    """

    vectors: torch.Tensor
    domain: str
    spacing_mm: tuple[float, float, float] = GRID_SPACING_MM

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise ValueError(f"a displacement field lives on domain 'ed' or 't', not on '{self.domain}'")
        if self.vectors.ndim != 5 or self.vectors.shape[1] != 3:
            raise ValueError(f"a displacement field has shape (B, 3, I, J, K), not {tuple(self.vectors.shape)}")

    def from_ed(self, points: torch.Tensor) -> torch.Tensor:
        """Where points (B, N, 3) of end-diastole are at t, in mm."""
        if self.domain == "ed":
            return points + sample_field(self.vectors, points, self.spacing_mm)
        return points + invert_at(self.vectors, points, self.spacing_mm)

    def to_ed(self, points: torch.Tensor) -> torch.Tensor:
        """Where points (B, N, 3) of time t were at end-diastole, in mm."""
        if self.domain == "t":
            return points + sample_field(self.vectors, points, self.spacing_mm)
        return points + invert_at(self.vectors, points, self.spacing_mm)

    def on(self, domain: str) -> DisplacementField:
        """The same motion as a field on ``domain``, inverted if need be."""
        if domain == self.domain:
            return self
        return DisplacementField(invert(self.vectors, self.spacing_mm), domain, self.spacing_mm)
