"""Normal operator of motion-compensated reconstruction, and what its derivatives need.

H_t = sum_s w[t, s] U_{t->s}^T (A_s^H A_s) U_{t->s} + regularisation * I (Pan et al., MICCAI 2022, with weights and a
proximal term). It goes through the source frames one by one: all targets are warped onto the grid of the frame, meet
the frame's A^H A together, and are warped back, so that the working memory is that of a single frame's pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from clinbundles.mcmr.bilinear_warp import pull_pairs, slope_pairs, splat_pairs
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding


class MotionCompensatedNormal:
    """H of all targets.

    Args:
        encoding: of S source frames.
        flow: real (T, S, 2, X, Y) in pixels.
        weights: real (T, S), at least 0; pairs of weight 0 cost nothing and their flow is not looked at.
        regularisation: at least 0.
    """

    def __init__(
        self, encoding: CoilFourierEncoding, flow: torch.Tensor, weights: torch.Tensor, regularisation: float
    ) -> None:
        _check(encoding, flow, weights, regularisation)
        self.encoding = encoding
        self.targets, self.sources = weights.shape
        self.flow = flow.detach().reshape(self.targets * self.sources, 2, *encoding.plane).contiguous()
        self.weights = weights.detach().to(flow.dtype)
        self.regularisation = float(regularisation)
        self._used = (self.weights > 0).cpu().numpy()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """H x: complex (T, X, Y) to (T, X, Y)."""
        images = images.contiguous()
        result = images * self.regularisation
        for source, targets in self._sources():
            seen = self.encoding.normal_rows(self.pull(images, source, targets), source)
            self.splat_into(result, source, targets, seen)
        return result

    def right_side(self, adjoint_images: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """b_t = sum_s w[t, s] U^T (A_s^H y_s) + regularisation * z_t.

        Args:
            adjoint_images: A^H y, complex (S, X, Y).
            prior: z, complex (T, X, Y).
        """
        result = (prior.detach() * self.regularisation).contiguous()
        for source, targets in self._sources():
            rows = adjoint_images[source][:, None].expand(-1, len(targets), -1).contiguous()
            self.splat_into(result, source, targets, rows)
        return result

    def gradients(
        self,
        solution: torch.Tensor,
        adjoint_solution: torch.Tensor,
        adjoint_images: torch.Tensor,
        flow_gradient: torch.Tensor | None,
        weights_gradient: torch.Tensor | None,
        adjoint_images_gradient: torch.Tensor | None,
    ) -> None:
        """Fill in the gradients of a loss, by implicit differentiation of H x = b.

        With v = H^-1 dloss/dx and r_s = A_s^H y_s - A_s^H A_s U x: by the flow w (D(U v; r) - D(U x; A^H A U v)), where
        D(U a; q) is the derivative of Re <U a, q>; by the weights Re <U v, r>; by A^H y the sum of w U v over targets.

        Args:
            solution: x, complex (T, X, Y).
            adjoint_solution: v, complex (T, X, Y).
            adjoint_images: A^H y, complex (S, X, Y).
            flow_gradient: zeros (T, S, 2, X, Y), or None if it is not wanted.
            weights_gradient: zeros (T, S), or None; pairs of weight 0 get 0.
            adjoint_images_gradient: zeros, complex (S, X, Y), or None.
        """
        for source, targets in self._sources():
            count, index = len(targets), torch.as_tensor(targets, device=solution.device)
            factors = self.weights[index, source]
            pulled_v = self.pull(adjoint_solution, source, targets)
            if adjoint_images_gradient is not None:
                adjoint_images_gradient[source] = (pulled_v * factors[:, None]).sum(1)
            if flow_gradient is None and weights_gradient is None:
                continue
            pulled_x = self.pull(solution, source, targets)
            seen = self.encoding.normal_rows(torch.cat([pulled_x, pulled_v], dim=1), source)
            residual = (adjoint_images[source][:, None] - seen[:, :count]).contiguous()
            if weights_gradient is not None:
                agreement = torch.view_as_real(pulled_v).double() * torch.view_as_real(residual).double()
                weights_gradient[index, source] = agreement.sum((0, 2, 3)).to(weights_gradient.dtype)
            if flow_gradient is not None:
                pairs = targets * self.sources + source
                out = flow_gradient.view_as(self.flow)
                seen_v = seen[:, count:].contiguous()
                slope_pairs(adjoint_solution, self.flow, targets, pairs, residual, out, factors, rows_first=True)
                slope_pairs(solution, self.flow, targets, pairs, seen_v, out, -factors, rows_first=True)

    def pull(self, images: torch.Tensor, source: int, targets: np.ndarray) -> torch.Tensor:
        """U_{t->s} x_t of some targets, row by row: complex (X, K, Y)."""
        rows, columns = self.encoding.plane
        out = images.new_empty((rows, len(targets), columns))
        pull_pairs(images, self.flow, targets, targets * self.sources + source, out, rows_first=True)
        return out

    def splat_into(self, images: torch.Tensor, source: int, targets: np.ndarray, rows: torch.Tensor) -> None:
        """Add w[t, s] U_{t->s}^T of rows (X, K, Y) to images (T, X, Y)."""
        factors = self.weights[torch.as_tensor(targets, device=images.device), source]
        pairs = targets * self.sources + source
        splat_pairs(images, self.flow, targets, pairs, rows, factors, rows_first=True)

    def _sources(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each source frame that is used, with its targets."""
        for source in range(self.sources):
            targets = np.flatnonzero(self._used[:, source])
            if len(targets):
                yield source, targets


def _check(encoding: CoilFourierEncoding, flow: torch.Tensor, weights: torch.Tensor, regularisation: float) -> None:
    if weights.ndim != 2 or weights.shape[1] != encoding.frames or bool((weights < 0).any()):
        raise ValueError(
            f"weights: found {tuple(weights.shape)} from {float(weights.min()):g}, expected (T, {encoding.frames}), at "
            "least 0: one column for each frame of the encoding"
        )
    expected = (*weights.shape, 2, *encoding.plane)
    precision = encoding.sensitivity_maps.real.dtype
    if tuple(flow.shape) != expected or flow.dtype != precision:
        raise ValueError(
            f"flow: found {tuple(flow.shape)} {flow.dtype}, expected (T, S, 2, X, Y) {expected} {precision}, the "
            "precision of the sensitivity maps"
        )
    if not regularisation >= 0:
        raise ValueError(f"regularisation is {regularisation:g}: expected at least 0")
