"""Other ways to the motion of the wall's points, to be beaten: no motion, population mean, Demons, FFD, VoxelMorph.

Each takes an exam as ``LoadImageCineExamd`` gives it and points at end-diastole in mm of the exam frame, and gives
their displacements (T, N, 3) in mm. Registrations see the short-axis volume on the motion grid, as conventional
methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import itk
import numpy as np
import torch
from monai.networks.nets import VoxelMorph, VoxelMorphUNet

from clinbundles.motion.displacement_field import DisplacementField, sample_field
from clinbundles.motion.field_losses import diffusion_energy
from clinbundles.motion.motion_grid import GRID_SIZE, GRID_SPACING_MM
from clinbundles.motion.motion_truth import MotionTruth

Tracker = Callable[[Mapping[str, Any], torch.Tensor], torch.Tensor]


def static(exam: Mapping[str, Any], points: torch.Tensor) -> torch.Tensor:
    """The heart stays as at end-diastole."""
    return torch.zeros(len(exam["image"]), len(points), 3)


def exact_mesh(exam: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (V, 3) at end-diastole in mm of the exam frame, and faces, of the exact heart."""
    world = np.asarray(exam["frame_to_world"], dtype=float)
    with np.load(exam["truth"]) as file:
        vertices = (np.asarray(file["vertices"][0], float) - world[:3, 3]) @ world[:3, :3]
        return torch.from_numpy(vertices).float(), torch.from_numpy(file["faces"].astype(np.int64))


# --- population mean --------------------------------------------------------------------------------------------------


def wall_features(points: np.ndarray) -> np.ndarray:
    """(N, 60) smooth functions of a place in the wall: height, angle, depth, each relative to the heart's own size."""
    low, high = np.percentile(points[:, 2], [1, 99])
    height = 2 * (points[:, 2] - low) / (high - low) - 1
    across = points[:, :2] - np.median(points[:, :2], axis=0)
    angle, radius = np.arctan2(across[:, 1], across[:, 0]), np.hypot(*across.T)
    levels = np.stack([height**power for power in range(4)], axis=1)
    depth = (radius - levels @ np.linalg.lstsq(levels, radius, rcond=None)[0]) / 5
    around = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    through = np.stack([np.ones_like(depth), depth, depth**2], axis=1)
    return np.einsum("na,nb,nc->nabc", levels, around, through).reshape(len(points), -1)


class PopulationMean:
    """Mean displacement of the training hearts at each frame, along the wall's axes, at the same place of the wall.

    It is told the exact points and axes of the wall of each heart, and the exact motion of all training hearts.
    """

    def __init__(self, truths: Sequence[MotionTruth]) -> None:
        inputs = np.concatenate([wall_features(truth.points.numpy()) for truth in truths])
        parts = [torch.einsum("tnc,nac->nta", truth.displacements, truth.axes).flatten(1).numpy() for truth in truths]
        square = inputs.T @ inputs + 10 * np.eye(inputs.shape[1])
        self.weights = np.linalg.solve(square, inputs.T @ np.concatenate(parts))

    def displacements(self, truth: MotionTruth) -> torch.Tensor:
        """(T, N, 3) at a heart's points, of whose truth only points and axes are looked at."""
        parts = wall_features(truth.points.numpy()) @ self.weights
        parts = parts.reshape(len(truth.points), -1, 3)
        return torch.einsum("nta,nac->tnc", torch.from_numpy(parts).float(), truth.axes)


# --- registration of volumes ------------------------------------------------------------------------------------------


def _itk_image(volume: np.ndarray) -> Any:
    """(I, J, K) on the motion grid as an ITK image in mm of the exam frame. A copy: ITK must own its memory."""
    image = itk.image_from_array(np.ascontiguousarray(volume.astype(np.float32).transpose(2, 1, 0)))
    image.SetSpacing([float(step) for step in GRID_SPACING_MM])
    image.SetOrigin([-(count - 1) / 2 * step for count, step in zip(volume.shape, GRID_SPACING_MM, strict=True)])
    return image


def demons_field(first: np.ndarray, second: np.ndarray, sigma: float = 1.5, iterations: int = 60) -> np.ndarray:
    """(3, I, J, K) in mm on the domain of ``first``, by diffeomorphic Demons (Vercauteren et al. 2009).

    Raises:
        RuntimeError: an all-zero field, which ITK gives when it has lost its image.
    """
    fixed, moving = _itk_image(first), _itk_image(second)
    vectors = itk.Image[itk.Vector[itk.F, 3], 3]
    method = itk.DiffeomorphicDemonsRegistrationFilter[type(fixed), type(fixed), vectors].New()
    method.SetFixedImage(fixed)
    method.SetMovingImage(moving)
    method.SetNumberOfIterations(iterations)
    method.SetStandardDeviations(sigma)
    method.SmoothDisplacementFieldOn()
    method.Update()
    field = itk.array_from_image(method.GetOutput()).transpose(3, 2, 1, 0).copy()
    if not np.abs(field).max() > 0:
        raise RuntimeError("Demons gave a zero field")
    return field


LONGEST_STEP_MM = 30.0  # Euclidean norm over all coefficients: about 1 mm for each control point of the heart


def ffd_points(
    first: np.ndarray, second: np.ndarray, points: np.ndarray, spacing_mm: float = 10.0, iterations: int = 25
) -> np.ndarray:
    """Displacements (N, 3) in mm of points of ``first`` by a cubic B-spline free-form deformation (mean squares).

    Two levels of smoothing; control points ``spacing_mm`` apart in the plane and 16 mm along the axis. ITK
    has no bending penalty: few iterations keep the deformation smooth (L-BFGS of ITK takes minutes for a frame).
    """
    fixed, moving = _itk_image(first), _itk_image(second)
    transform = itk.BSplineTransform[itk.D, 3, 3].New()
    extent = [(count - 1) * step for count, step in zip(first.shape, GRID_SPACING_MM, strict=True)]
    transform.SetTransformDomainOrigin([-length / 2 for length in extent])
    transform.SetTransformDomainPhysicalDimensions(extent)
    transform.SetTransformDomainMeshSize(
        [max(1, round(length / step)) for length, step in zip(extent, (spacing_mm, spacing_mm, 16.0), strict=True)]
    )
    transform.SetIdentity()
    metric = itk.MeanSquaresImageToImageMetricv4[type(fixed), type(fixed)].New()
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New()
    optimizer.SetLearningRate(LONGEST_STEP_MM)
    optimizer.SetMinimumStepLength(1.0)
    optimizer.SetRelaxationFactor(0.7)
    optimizer.SetNumberOfIterations(iterations)
    method = itk.ImageRegistrationMethodv4[type(fixed), type(fixed)].New()
    method.SetFixedImage(fixed)
    method.SetMovingImage(moving)
    method.SetMetric(metric)
    method.SetOptimizer(optimizer)
    method.SetInitialTransform(transform)
    method.InPlaceOn()
    method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
    method.SetMetricSamplingPercentage(0.2)
    method.MetricSamplingReinitializeSeed(0)
    method.SetNumberOfLevels(2)
    method.SetShrinkFactorsPerLevel([1, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.Update()
    return np.array([transform.TransformPoint([float(x) for x in point]) for point in points]) - points


def demons(
    exam: Mapping[str, Any], points: torch.Tensor, frames: Sequence[int] | None = None, **settings: Any
) -> torch.Tensor:
    """Diffeomorphic Demons to end-diastole, only of ``frames`` if given, NaN at the others."""

    def move(first: np.ndarray, second: np.ndarray) -> torch.Tensor:
        field = torch.from_numpy(demons_field(first, second, **settings))[None]
        return sample_field(field, points[None])[0]

    return _each_frame(exam, len(points), move, frames)


def ffd(
    exam: Mapping[str, Any], points: torch.Tensor, frames: Sequence[int] | None = None, **settings: Any
) -> torch.Tensor:
    """B-spline free-form deformation; half a minute a frame, hence only ``frames`` if given, NaN at the others."""
    places = points.double().numpy()

    def move(first: np.ndarray, second: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ffd_points(first, second, places, **settings)).float()

    return _each_frame(exam, len(points), move, frames)


def _each_frame(
    exam: Mapping[str, Any],
    points: int,
    move: Callable[[np.ndarray, np.ndarray], torch.Tensor],
    frames: Sequence[int] | None,
) -> torch.Tensor:
    cine = np.asarray(exam["image"], dtype=np.float32)
    found = torch.full((len(cine), points, 3), torch.nan)
    found[0] = 0
    for frame in range(1, len(cine)) if frames is None else frames:
        found[frame] = move(cine[0], cine[frame])
    return found


# --- VoxelMorph -------------------------------------------------------------------------------------------------------


def train_voxelmorph(
    exams: Sequence[Mapping[str, Any]], steps: int, seed: int = 0, batch: int = 4, smoothness: float = 0.05
) -> torch.nn.Module:
    """MONAI's VoxelMorph on pairs (end-diastole, t) of the short-axis volume, unsupervised.

    Loss: mean squares and smoothness.

    Args:
        exams: training exams.
        steps: of the optimiser; so that it has as much time as the network that it is compared with.
        seed: of weights and pairs.
        batch: pairs of a step.
        smoothness: weight of the squared gradient in mm per mm; squared differences have the weight 10.
    """
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    backbone = VoxelMorphUNet(
        spatial_dims=3, in_channels=2, unet_out_channels=16, channels=(8, 16, 16, 16, 16, 16),
        final_conv_channels=(16, 8), kernel_size=3,
    )  # fmt: skip
    network = VoxelMorph(backbone=backbone, integration_steps=7, half_res=True, spatial_dims=3)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    network.train()
    for _ in range(steps):
        chosen = [exams[index]["image"] for index in draw.integers(len(exams), size=batch)]
        frames = [draw.integers(1, len(cine)) for cine in chosen]
        first = torch.stack([torch.as_tensor(cine[0]).float()[None] for cine in chosen])
        second = torch.stack(
            [torch.as_tensor(cine[frame]).float()[None] for cine, frame in zip(chosen, frames, strict=True)]
        )
        warped, voxels = network(first, second)
        loss = 10 * (warped - second).square().mean() + smoothness * diffusion_energy(_in_mm(voxels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _in_mm(voxels: torch.Tensor) -> torch.Tensor:
    return voxels * torch.tensor(GRID_SPACING_MM).reshape(1, 3, 1, 1, 1)


def voxelmorph(network: torch.nn.Module) -> Tracker:
    """A trained VoxelMorph as a tracker; its field lives on t."""

    def track(exam: Mapping[str, Any], points: torch.Tensor) -> torch.Tensor:
        cine = torch.as_tensor(exam["image"]).float()[:, None]
        assert tuple(cine.shape[2:]) == GRID_SIZE
        with torch.no_grad():
            _, voxels = network(cine[:1].expand(len(cine), -1, -1, -1, -1), cine)
        many = points[None].expand(len(cine), -1, -1)
        moved = DisplacementField(_in_mm(voxels), "t").from_ed(many) - many
        return torch.cat([torch.zeros_like(moved[:1]), moved[1:]])

    return track
