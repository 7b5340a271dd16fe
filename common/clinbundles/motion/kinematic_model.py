"""Motion of a left ventricle by twenty numbers a frame, exactly incompressible, differentiable in all of them."""

from __future__ import annotations

import torch

PARAMETERS = (
    *("long_axis_log_scale", "long_axis_curvature", "shift_x", "shift_y", "shift_z", "tilt_x", "tilt_y"),
    *("twist", "twist_slope", "contraction", "contraction_z", "contraction_zz"),
    *(f"contraction{z}_{wave}{m}" for m in (1, 2) for z in ("", "_z") for wave in ("cos", "sin")),
)
# How far each parameter usually goes over the cycle: the unit in which they are penalised and optimised.
SPREAD = (0.15, 0.08, *(4.0,) * 3, *(0.05,) * 2, *(0.06,) * 2, 0.4, 0.25, 0.25, *(0.1,) * 8)
_LOWEST, _HIGHEST = -0.3, 1.3  # heights at which the shape functions stop changing
_LEAST_SLOPE = 0.3  # of the height: the map stays one to one


class KinematicModel:
    """Moves points that are given at end-diastole.

    In coordinates of the left ventricle at end-diastole (height h = 0 at the endocardial apex, 1 at the base, angle
    theta, radius R about the long axis), with the endocardial radius E(theta, h) and the map g of the height::

        h' = g(h) = 1 - s (1 - h) + c (1 - h)^2      r^2 = (R^2 - k(theta, h) E^2) / g'(h)     for R >= E
        theta' = theta + twist + twist_slope (h - 1/2)         r^2 = R^2 (1 - k) / g'(h)       in the cavity

    followed by a rotation about the middle of the ventricle and a shift. det F = 1 in the wall whatever k, g and the
    twist are, as in the closed-form hearts of Arts et al. (Journal of Biomechanics 25, 1992) and of
    ``docs/heart_phantom.md``; here E is any measured outline and g is curved, because the apex thickens inwards.

    Args:
        apex: (3,) endocardial apex at end-diastole, mm.
        base: (3,) centre of the mitral plane, mm.
        endocardium: (N, 3) points of the endocardium, mm; E is a smooth function through them.

    Raises:
        ValueError: too few points, or an axis that is no ventricle's.
    """

    def __init__(self, apex: torch.Tensor, base: torch.Tensor, endocardium: torch.Tensor) -> None:
        self.length = float((base - apex).norm())
        if not 30 < self.length < 160:
            raise ValueError(f"the long axis is {self.length:.0f} mm from apex to base: expected 30 to 160 mm")
        if len(endocardium) < 50:
            raise ValueError(f"{len(endocardium)} points of the endocardium are too few: expected 50 or more")
        upright = (base - apex) / self.length
        across = torch.eye(3, dtype=upright.dtype, device=upright.device)[upright.abs().argmin()]
        first = torch.nn.functional.normalize(across - (across @ upright) * upright, dim=0)
        self.axes = torch.stack([first, torch.linalg.cross(upright, first), upright])  # rows x, y, z of the ventricle
        self.apex = apex
        height, angle, squared = self._coordinates(endocardium)
        shapes = _outline_shapes(angle, height)
        ridge = 1e-3 * len(shapes) * torch.eye(shapes.shape[1], dtype=shapes.dtype, device=shapes.device)
        self.outline = torch.linalg.solve(shapes.T @ shapes + ridge, shapes.T @ squared.sqrt())

    def endocardial_radius(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Radius (N,) of points about the axis, E (N,) at their angle and height (mm), and the height (N,)."""
        height, angle, squared = self._coordinates(points)
        return squared.sqrt(), self._outline(angle, height), height

    def __call__(self, parameters: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Where points are at t.

        Args:
            parameters: (T, 20) in the order of ``PARAMETERS``; shifts in mm, angles in radian. Zeros: no motion.
            points: (N, 3) mm at end-diastole.

        Returns:
            (T, N, 3) mm.
        """
        height, angle, squared = self._coordinates(points)
        outline = self._outline(angle, height) ** 2
        scale, curvature, shift, tilt, twist, contraction = parameters.split([1, 1, 3, 2, 2, 11], dim=1)
        below = 1 - height
        slope = (scale.exp() - 2 * curvature * below).clamp(min=_LEAST_SLOPE)
        moved_height = 1 - scale.exp() * below + curvature * below.square()
        k = contraction @ _contraction_shapes(angle, height).T
        cavity = squared < outline
        moved_squared = torch.where(cavity, squared * (1 - k), squared - k * outline).clamp(min=1e-4) / slope
        moved_angle = angle + twist[:, :1] + twist[:, 1:] * (height - 0.5)
        radius = moved_squared.sqrt()
        moved = torch.stack(
            [radius * moved_angle.cos(), radius * moved_angle.sin(), (moved_height - 0.5) * self.length], dim=-1
        )
        turned = torch.einsum("tij,tnj->tni", _rotations(tilt), moved)
        middle = self.apex + 0.5 * self.length * self.axes[2]
        return turned @ self.axes + middle + shift[:, None] @ self.axes

    def _coordinates(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Height, angle, squared radius in mm^2."""
        local = (points - self.apex) @ self.axes.T
        squared = local[:, :2].square().sum(1).clamp(min=1e-6)
        return local[:, 2] / self.length, torch.atan2(local[:, 1], local[:, 0]), squared

    def _outline(self, angle: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        return (_outline_shapes(angle, height) @ self.outline).clamp(min=0) * (height > 0)


def zero_motion(frames: int, like: torch.Tensor) -> torch.Tensor:
    """Parameters (T, 20) of a heart that does not move."""
    return torch.zeros(frames, len(PARAMETERS), dtype=like.dtype, device=like.device)


def spread(like: torch.Tensor) -> torch.Tensor:
    """``SPREAD`` as a tensor (20,)."""
    return torch.tensor(SPREAD, dtype=like.dtype, device=like.device)


def _outline_shapes(angle: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """(N, 28): waves around times powers of the height that vanish at the apex as a rounded end does."""
    h = height.clamp(0.0, _HIGHEST)
    powers = [(h + 1e-8).sqrt(), h, h.square(), h**3]
    return torch.stack([power * wave for power in powers for wave in _waves(angle, 3)], dim=1)


def _contraction_shapes(angle: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """(N, 11) in the order of the last eleven ``PARAMETERS``."""
    h = height.clamp(_LOWEST, _HIGHEST) - 0.5
    around = _waves(angle, 2)[1:]
    columns = [torch.ones_like(h), h, h.square() - 1 / 12]
    for m in range(2):
        cosine, sine = around[2 * m], around[2 * m + 1]
        columns += [cosine, sine, h * cosine, h * sine]
    return torch.stack(columns, dim=1)


def _waves(angle: torch.Tensor, highest: int) -> list[torch.Tensor]:
    waves = [torch.ones_like(angle)]
    for m in range(1, highest + 1):
        waves += [(m * angle).cos(), (m * angle).sin()]
    return waves


def _rotations(tilt: torch.Tensor) -> torch.Tensor:
    """(T, 3, 3) rotations about axes across the long axis, by the exponential of (tilt_x, tilt_y, 0)."""
    zero = torch.zeros_like(tilt[:, 0])
    x, y = tilt[:, 0], tilt[:, 1]
    skew = torch.stack([zero, zero, y, zero, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)
