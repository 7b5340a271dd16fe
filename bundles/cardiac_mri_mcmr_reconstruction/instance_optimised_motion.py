"""Motion fitted to a cine: it is registered to its own mean along the motion, from rest or from a network's motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, pad

from cardiac_mri_mcmr_reconstruction.networks import sample_at


class InstanceOptimisedMotion(nn.Module):
    """Displacements between the mean of the carried frames and every frame; called like a motion network.

    Displacements are cubic B-splines in space and a short Fourier series in time without a constant, so that their
    mean over the frames is zero. From coarse to fine, Adam makes the carried frames agree with their mean: mean of
    ``sqrt(d^2 + tolerance^2) - tolerance`` over ``tolerance``, which counts aliasing and inflow less than squares do,
    plus the bending energy of every harmonic (Rueckert et al., IEEE TMI 1999, for the splines; groupwise to the mean
    after Metz et al., Medical Image Analysis 2011). Finer control points add to the coarser ones.

    It begins at rest, or at the motion that ``start`` gives, of which the splines and waves keep what they can show
    (least squares).

    No chance is involved: the same cine has the same motion. The input gets no gradient.

    Args:
        start: gives motion to begin with, called as this is; null: rest.
        steps: of Adam, shared out evenly among the scales.
        scales: (shrink, spacing) from coarse to fine: pixels that are averaged to one in each direction, pixels between
            the control points that join in.
        harmonics: of the heart beat. A heart's motion has little beyond the fourth.
        bending: weight of the mean squared second derivatives, per pixel.
        slowness: the n-th harmonic bends at ``1 + slowness n^2`` times that weight.
        tolerance: difference of magnitudes, in [0, 1], up to which squares count.
        rate: first step of Adam in pixels; it falls to zero at every scale.
        cyclic: the last frame comes before the first. Otherwise half a cosine wave and its multiples stand in for the
            Fourier series.
    """

    def __init__(
        self,
        start: Callable[[torch.Tensor], torch.Tensor] | None = None,
        steps: int = 90,
        scales: Sequence[Sequence[float]] = ((4, 32), (2, 16), (1, 10)),
        harmonics: int = 4,
        bending: float = 100.0,
        slowness: float = 1.0,
        tolerance: float = 0.01,
        rate: float = 0.15,
        cyclic: bool = True,
    ) -> None:
        super().__init__()
        for shrink, spacing in scales:
            if shrink < 1 or shrink != int(shrink) or spacing <= 0:
                raise ValueError(
                    f"scale ({shrink}, {spacing}): expected (shrink, spacing), a whole number of at least 1 and pixels "
                    "above 0"
                )
        if not scales or min(steps, harmonics) < 1 or min(bending, slowness) < 0 or min(tolerance, rate) <= 0:
            raise ValueError(
                f"{len(scales)} scales, steps={steps}, harmonics={harmonics}, bending={bending}, slowness={slowness}, "
                f"tolerance={tolerance}, rate={rate}: expected at least one scale, step and harmonic, weights of at "
                "least 0, and tolerance and rate above 0"
            )
        self.start, self.steps = start, steps
        self.scales = [(int(shrink), float(spacing)) for shrink, spacing in scales]
        self.harmonics, self.bending, self.slowness = harmonics, bending, slowness
        self.tolerance, self.rate, self.cyclic = tolerance, rate, cyclic

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Displacements of all frames.

        Args:
            image: (B, T, X, Y) magnitudes of a cine in [0, 1], T at least 3.

        Returns:
            (B, 2 T, X, Y) pixels, rows then columns for each frame t: ``image_t(p + v_t(p))`` looks like the template
            at p. Its mean over the frames is zero.
        """
        if image.ndim != 4 or image.shape[1] < 3:
            raise ValueError(f"image has shape {tuple(image.shape)}: expected (B, T, X, Y) with at least 3 frames")
        image = image.detach()
        if self.start is None:
            starts = [None] * len(image)
        else:
            starts = list(self.start(image).detach().unflatten(1, (image.shape[1], 2)))
        with torch.inference_mode(False), torch.enable_grad():
            pairs = zip(image, starts, strict=True)
            flows = [self._register(cine.clone(), None if start is None else start.clone()) for cine, start in pairs]
        return torch.stack(flows).flatten(1, 2)

    def _register(self, cine: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
        """Displacements (T, 2, X, Y) of one cine (T, X, Y) that begin at those of ``start``."""
        waves, order = beat_waves(len(cine), self.harmonics, self.cyclic)
        waves, order = waves.to(cine), order.to(cine)
        stiffness = self.bending * (1 + self.slowness * order.square())
        spacings = [spacing for _, spacing in self.scales]
        controls = [cine.new_zeros(len(order), 2, *control_points(cine.shape[1:], spacing)) for spacing in spacings]
        whole = shrunk(cine, 1)[1:]
        if start is not None:
            controls[-1] = SplineField(spacings[-1:], controls[-1:], *whole).closest(waves_of(start, waves))
        for number, (shrink, spacing) in enumerate(self.scales):
            steps = (number + 1) * self.steps // len(spacings) - number * self.steps // len(spacings)
            free = controls[: number + 1]
            for control in free:
                control.requires_grad_()
            small, rows, columns = shrunk(cine, shrink)
            field = SplineField(spacings, controls, rows, columns)
            step = max(spacing / 2, 1.0)
            coarse = (torch.arange(0, cine.shape[1], step).to(cine), torch.arange(0, cine.shape[2], step).to(cine))
            bent = [SplineField(spacings, controls, *coarse, of) for of in ((2, 0), (1, 1), (0, 2))]
            optimiser = torch.optim.Adam(free, lr=self.rate, betas=(0.9, 0.99))
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
            for _ in range(steps):
                flow = torch.einsum("tk,kcxy->tcxy", waves, field(controls))
                carried = sample_at(small[:, None], flow / shrink)[:, 0]
                apart = carried - carried.mean(0, keepdim=True)
                loss = (apart.square() / self.tolerance**2 + 1).sqrt().mean()
                for part, times in zip(bent, (1, 2, 1), strict=True):
                    loss = loss + times * (stiffness * part(controls).square().mean((1, 2, 3))).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            flow = torch.einsum("tk,kcxy->tcxy", waves, SplineField(spacings, controls, *whole)(controls))
            return flow - flow.mean(0, keepdim=True)


class SplineField:
    """Sum of cubic B-splines of several control grids, at the crossings of given rows and columns.

    Args:
        spacings: pixels between the control points of each grid; the second one lies on pixel 0.
        controls: (..., rows, columns) of each grid; only their sizes count here.
        rows: places in pixels.
        columns: places in pixels.
        derivatives: how often to differentiate along rows' and columns' axes, at most twice each.
    """

    def __init__(
        self,
        spacings: Sequence[float],
        controls: Sequence[torch.Tensor],
        rows: torch.Tensor,
        columns: torch.Tensor,
        derivatives: tuple[int, int] = (0, 0),
    ) -> None:
        self.bases = []
        for spacing, control in zip(spacings, controls, strict=True):
            across_rows, across_columns = (
                cubic_b_splines(places / spacing + 1, count, derivative) / spacing**derivative
                for places, count, derivative in zip((rows, columns), control.shape[-2:], derivatives, strict=True)
            )
            self.bases.append((across_rows, across_columns.T))

    def __call__(self, controls: Sequence[torch.Tensor]) -> torch.Tensor:
        """(..., rows, columns)."""
        parts = [left @ control @ right for (left, right), control in zip(self.bases, controls, strict=True)]
        return torch.stack(parts).sum(0)

    def closest(self, values: torch.Tensor) -> torch.Tensor:
        """Controls of the one grid whose field is nearest to values (..., rows, columns), in least squares."""
        ((left, right),) = self.bases
        return torch.linalg.pinv(left) @ values @ torch.linalg.pinv(right)


def control_points(plane: Sequence[int], spacing: float) -> list[int]:
    """How many control points, rows and columns, cover a plane of (X, Y) pixels."""
    return [math.ceil((size - 1) / spacing) + 3 for size in plane]


def cubic_b_splines(places: torch.Tensor, count: int, derivative: int = 0) -> torch.Tensor:
    """Uniform cubic B-splines about 0, 1, ..., count - 1 at places (P,), or their first or second derivative.

    Returns:
        (P, count).
    """
    away = places[:, None] - torch.arange(count).to(places)
    far = (2 - away.abs()).clamp(min=0)
    near = (1 - away.abs()).clamp(min=0)
    if derivative == 0:
        return (far**3 - 4 * near**3) / 6
    if derivative == 1:
        return -away.sign() * (far**2 - 4 * near**2) / 2
    if derivative == 2:
        return far - 4 * near
    raise ValueError(f"derivative is {derivative}: expected 0, 1 or 2")


def beat_waves(frames: int, harmonics: int, cyclic: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves in time whose mean over the frames is zero, and whose mean square is one.

    Args:
        frames: T.
        harmonics: at most; fewer where the frames cannot show so many.
        cyclic: sines and cosines of the beat; otherwise cosines of half waves, twice as many.

    Returns:
        (T, K) and their order (K,) in waves per cine.
    """
    time = torch.arange(frames, dtype=torch.float64)[:, None]
    if cyclic:
        order = torch.arange(1, min(harmonics, (frames - 1) // 2) + 1, dtype=torch.float64)
        angle = 2 * math.pi * order * time / frames
        return 2**0.5 * torch.cat([angle.cos(), angle.sin()], dim=1), order.repeat(2)
    order = torch.arange(1, min(2 * harmonics, frames - 1) + 1, dtype=torch.float64) / 2
    return 2**0.5 * (2 * math.pi * order * (time + 0.5) / frames).cos(), order


def waves_of(flow: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
    """The share (K, 2, X, Y) of each wave (T, K) of :func:`beat_waves` in a flow (T, 2, X, Y), in least squares."""
    return torch.einsum("tk,tcxy->kcxy", waves, flow) / len(flow)


def shrunk(cine: torch.Tensor, by: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means of by x by pixels of a cine (T, X, Y), and where their middles lie: rows and columns in pixels."""
    height, width = cine.shape[-2:]
    filled = pad(cine[None], (0, -width % by, 0, -height % by), mode="replicate")
    small = avg_pool2d(filled, by)[0]
    rows, columns = (by * torch.arange(count).to(cine) + (by - 1) / 2 for count in small.shape[-2:])
    return small, rows, columns
