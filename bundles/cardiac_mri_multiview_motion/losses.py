"""The training loss: images and labels of the planes that were scanned, and what is known of muscle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import cross_entropy, grid_sample

from clinbundles.motion.displacement_field import warp
from clinbundles.motion.field_losses import HuberSmoothness, bending_energy, diffusion_energy, incompressibility
from clinbundles.motion.motion_grid import GRID_SPACING_MM, sample_at
from clinbundles.motion.plane_slicing import plane_points, planes_from_poses

UNKNOWN = 255
MYOCARDIUM = 2


def label_edges(labels: torch.Tensor) -> torch.Tensor:
    """The paper's contours: 1 on the inner, 4-connected boundary of the myocardium, 0 elsewhere; 255 stays."""
    wall = labels == MYOCARDIUM
    padded = torch.nn.functional.pad(wall, (1, 1, 1, 1))
    inner = padded[..., :-2, 1:-1] & padded[..., 2:, 1:-1] & padded[..., 1:-1, :-2] & padded[..., 1:-1, 2:]
    return torch.where(labels == UNKNOWN, labels, (wall & ~inner).to(labels.dtype))


def overlap_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Soft Dice loss over the foreground classes: logits (B, C, N), labels (B, N), 255 left out."""
    known = (labels != UNKNOWN).to(logits.dtype)[:, None]
    probability = logits.softmax(dim=1) * known
    truth = torch.stack([(labels == value).to(logits.dtype) for value in range(logits.shape[1])], dim=1)
    overlap = (probability * truth).sum(dim=(0, 2))
    total = (probability + truth).sum(dim=(0, 2))
    return 1 - ((2 * overlap + 1) / (total + 1))[1:].mean()


def plane_logits(
    logits: torch.Tensor, points: torch.Tensor, displacement: torch.Tensor | None, spacing_mm: Sequence[float]
) -> torch.Tensor:
    """Logits (B, C, N) of a volume at places (B, N, 3), or where the displacement (B, 3, N) takes these to."""
    places = points if displacement is None else points + displacement.movedim(1, -1)
    return sample_at(logits, places, spacing_mm)


class MultiViewLoss(torch.nn.Module):
    """Loss of field and shapes (B, 3 + 2 n, I, J, K) against one pair of frames.

    Terms, each with its weight (0 leaves it out):

    - ``image``: MSE of the short-axis volume at end-diastole, warped to t, against that at t (paper);
    - ``lax_image``: the same in each long-axis plane, along the displacement's part in the plane;
    - ``shape``: mean over {tissues at t, tissues at end-diastole warped to t, tissues at end-diastole} of cross-entropy
      and soft Dice on the scanned planes (paper: edges, cross-entropy without class weights, no Dice);
    - ``bending``: squared second derivatives per voxel (mm) where the network sees myocardium at t: affine is free;
    - ``diffusion``: squared gradient, everywhere;
    - ``huber``: the paper's smoothness, see :class:`clinbundles.motion.field_losses.HuberSmoothness`;
    - ``volume``: (det J - 1)^2 where the network sees myocardium at t;
    - ``truth``: distance in mm to the exact motion of points of the wall, where a case has it (simulated hearts).

    Args:
        image, lax_image, shape, bending, diffusion, huber, volume, truth: weights.
        warped_shape: whether tissues at end-diastole warped to t count in ``shape``.
        predicted_shape: whether tissues at t and at end-diastole count in ``shape``; without them and with
            ``warped_shape`` alone the head has only the warped term.
        class_weights: of the tissues in the cross-entropy; None: all 1.
        edges: the paper's two classes, inner boundary of the myocardium or not.
        overlap: weight of soft Dice beside the cross-entropy; 0 as in the paper.
        paper_huber: the paper's constants and sums in ``huber``.
        spacing_mm: of the motion grid.
    """

    def __init__(
        self,
        image: float = 10.0,
        lax_image: float = 10.0,
        shape: float = 1.0,
        bending: float = 0.0,
        diffusion: float = 0.1,
        huber: float = 0.0,
        volume: float = 0.1,
        truth: float = 0.3,
        warped_shape: bool = True,
        predicted_shape: bool = True,
        class_weights: Sequence[float] | None = (0.5, 1.0, 1.5, 1.0),
        edges: bool = False,
        overlap: float = 1.0,
        paper_huber: bool = False,
        spacing_mm: Sequence[float] = GRID_SPACING_MM,
    ) -> None:
        super().__init__()
        self.weights = {
            "image": image,
            "lax_image": lax_image,
            "shape": shape,
            "bending": bending,
            "diffusion": diffusion,
            "huber": huber,
            "volume": volume,
            "truth": truth,
        }
        self.warped_shape = warped_shape
        self.predicted_shape = predicted_shape
        self.edges = edges
        self.overlap = overlap
        self.spacing_mm = tuple(float(step) for step in spacing_mm)
        self.huber = HuberSmoothness(paper=paper_huber, spacing_mm=spacing_mm)
        weights = None if class_weights is None or edges else torch.tensor([float(one) for one in class_weights])
        self.register_buffer("class_weights", weights, persistent=False)

    def terms(self, outputs: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms with a weight, unweighted.

        Args:
            outputs: field, logits at end-diastole, logits at t: (B, 3 + 2 n, I, J, K).
            targets: ``image`` (B, 2, I, J, K), ``lax`` (B, 2, P, H, W), ``lax_pose`` (B, P, 3, 4), ``planes_label``
                (B, 2, M, H, W) with 255 where unknown, ``planes_pose`` (B, M, 3, 4), ``wall_points`` (B, N, 3) at
                end-diastole and ``wall_displacements`` (B, N, 3) at t, NaN where unknown.
        """
        field = outputs[:, :3]
        classes = (outputs.shape[1] - 3) // 2
        at_ed, at_t = outputs[:, 3 : 3 + classes], outputs[:, 3 + classes :]
        terms: dict[str, torch.Tensor] = {}
        if self.weights["image"]:
            image = targets["image"]
            terms["image"] = (warp(image[:, :1], field, self.spacing_mm) - image[:, 1:]).square().mean()
        if self.weights["lax_image"]:
            terms["lax_image"] = self._lax_image(field, targets["lax"], targets["lax_pose"])
        if self.weights["shape"] and classes:
            terms["shape"] = self._shape(field, at_ed, at_t, targets["planes_label"], targets["planes_pose"])
        wall = at_t.detach().softmax(dim=1)[:, MYOCARDIUM : MYOCARDIUM + 1] if classes > MYOCARDIUM else None
        if self.weights["bending"]:
            # per voxel, as MONAI's BendingEnergyLoss counts: most along the axis that is sampled worst, where labels
            # and pictures say least, so that motion between base and apex is interpolated linearly
            terms["bending"] = bending_energy(field, (1.0, 1.0, 1.0), wall)
        if self.weights["diffusion"]:
            terms["diffusion"] = diffusion_energy(field, self.spacing_mm)
        if self.weights["huber"]:
            terms["huber"] = self.huber(field)
        if self.weights["volume"]:
            terms["volume"] = incompressibility(field, wall, self.spacing_mm)
        if self.weights["truth"]:
            terms["truth"] = self._truth(field, targets["wall_points"], targets["wall_displacements"])
        return terms

    def forward(self, outputs: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of the terms."""
        total = outputs.new_zeros(())
        for name, value in self.terms(outputs, targets).items():
            total = total + self.weights[name] * value
        return total

    def _lax_image(self, field: torch.Tensor, lax: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        batch, _, views, height, width = lax.shape
        planes, present = planes_from_poses(pose)
        points = plane_points(planes, (height, width))[0].reshape(batch, -1, 3)
        moved = points + sample_at(field, points, self.spacing_mm).movedim(1, -1)
        moved = moved.reshape(batch, views, height * width, 3)
        pixels = torch.einsum("bprc,bpnc->bpnr", pose[:, :, :2, :3], moved) + pose[:, :, None, :2, 3]
        scale = torch.tensor([2 / (height - 1), 2 / (width - 1)], dtype=lax.dtype, device=lax.device)
        grid = (pixels * scale - 1).flip(-1).reshape(batch * views, height, width, 2)
        at_ed = lax[:, 0].reshape(batch * views, 1, height, width)
        warped = grid_sample(at_ed, grid, padding_mode="border", align_corners=True)
        error = (warped.reshape(batch, views, height, width) - lax[:, 1]).square().mean(dim=(2, 3))
        return (error * present).sum() / present.sum().clamp(min=1)

    def _truth(self, field: torch.Tensor, points: torch.Tensor, displacements: torch.Tensor) -> torch.Tensor:
        known = torch.isfinite(displacements).all(dim=-1)
        there = torch.where(known[..., None], displacements, torch.zeros_like(displacements))
        back = sample_at(field, points + there, self.spacing_mm).movedim(1, -1)  # from t to end-diastole
        error = ((back + there).square().sum(-1) + 1e-4).sqrt()
        return (error * known).sum() / known.sum().clamp(min=1)

    def _shape(
        self,
        field: torch.Tensor,
        at_ed: torch.Tensor,
        at_t: torch.Tensor,
        labels: torch.Tensor,
        pose: torch.Tensor,
    ) -> torch.Tensor:
        batch, _, _, height, width = labels.shape
        planes, _ = planes_from_poses(pose)
        points = plane_points(planes, (height, width))[0].reshape(batch, -1, 3)
        wanted = label_edges(labels) if self.edges else labels
        label_ed, label_t = (wanted[:, frame].reshape(batch, -1).long() for frame in (0, 1))
        parts = []
        if self.predicted_shape:
            parts.append(self._compare(plane_logits(at_t, points, None, self.spacing_mm), label_t))
            parts.append(self._compare(plane_logits(at_ed, points, None, self.spacing_mm), label_ed))
        if self.warped_shape:
            displacement = sample_at(field, points, self.spacing_mm)
            parts.append(self._compare(plane_logits(at_ed, points, displacement, self.spacing_mm), label_t))
        return torch.stack(parts).mean() if parts else field.new_zeros(())

    def _compare(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = cross_entropy(logits, labels, weight=self.class_weights, ignore_index=UNKNOWN)
        if self.overlap:
            value = value + self.overlap * overlap_loss(logits, labels)
        return value
