"""The hybrid 2D/3D network that turns an exam at end-diastole and at t into a displacement field.

After Meng et al., "MulViMotion" (IEEE TMI 41(8), 2022): 2D encoders shared by the views and frames, fusion of the
scales and views, 3D decoder. What differs: group instead of batch normalisation (batches are small), displacement in
mm, skip connections in the 3D part, and by default fusion by geometry instead of stacking pictures of different planes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from clinbundles.motion.motion_grid import GRID_SPACING_MM
from clinbundles.motion.view_geometry import lift, upright_pictures

SMALL_ENCODER = ((1, 2), (2, 2), (4, 2), (4, 2))
PAPER_ENCODER = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # with width_2d=64: 64, 128, 256, 512, 512


def _groups(channels: int) -> int:
    return next(groups for groups in (4, 2, 1) if channels % groups == 0)


def _conv2d(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(_groups(outputs), outputs),
        nn.ReLU(inplace=True),
    )


def _conv3d(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(_groups(outputs), outputs),
        nn.ReLU(inplace=True),
    )


class PictureEncoder(nn.Module):
    """Shared 2D encoder: pictures (N, depth, H, W) to features of each level, every level half as large."""

    def __init__(self, depth: int, width: int, levels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        self.channels = [width * factor for factor, _ in levels]
        inputs = depth
        for level, (factor, convolutions) in enumerate(levels):
            outputs = width * factor
            steps = [_conv2d(inputs, outputs, stride=1 if level == 0 else 2)]
            steps += [_conv2d(outputs, outputs) for _ in range(convolutions - 1)]
            self.levels.append(nn.Sequential(*steps))
            inputs = outputs

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Features of the levels, finest first."""
        features: list[torch.Tensor] = []
        for level in self.levels:
            pictures = level(pictures)
            features.append(pictures)
        return features


class MultiScaleFusion(nn.Module):
    """Features of all levels (N, C_l, h_l, w_l) to one map (N, outputs, H, W)."""

    def __init__(self, channels: Sequence[int], width: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.ModuleList(_conv2d(count, width, kernel=1) for count in channels)
        self.join = nn.Sequential(_conv2d(width * len(channels), 2 * width, kernel=1), nn.Conv2d(2 * width, outputs, 1))

    def forward(self, features: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
        """Features of the levels to one map of the wanted size."""
        maps: list[torch.Tensor] = []
        for level, squeeze in enumerate(self.squeeze):
            squeezed = squeeze(features[level])
            maps.append(nn.functional.interpolate(squeezed, [height, width], mode="bilinear", align_corners=False))
        return self.join(torch.cat(maps, dim=1))


class GeometryFusion(nn.Module):
    """Long-axis features at their true places in the motion grid, beside the short-axis stack.

    The features of the stack come as depth (``sax_maps`` values per voxel), those of each plane are lifted to the
    voxels near it, the pictures themselves and the voxel's place in the exam frame are added.
    """

    def __init__(
        self,
        channels: Sequence[int],
        frames: int,
        width: int,
        depth: int,
        coarseness: int,
        spacing_mm: Sequence[float],
        lax_pixel_mm: float,
        reach_mm: float,
        sax_maps: int = 2,
    ) -> None:
        super().__init__()
        joint = [count * frames for count in channels]
        self.coarseness = coarseness
        self.spacing_mm = [float(step) for step in spacing_mm]
        self.lax_pixel_mm = lax_pixel_mm
        self.reach_mm = reach_mm
        self.scalars = width // 2
        self.sax_maps = sax_maps
        self.sax = MultiScaleFusion(joint, width, sax_maps * depth)
        self.lax = MultiScaleFusion(joint, width, width)
        vectors = width - self.scalars
        self.outputs = sax_maps + self.scalars + 2 * vectors + 1 + frames * coarseness**2 + 3

    def forward(
        self,
        sax: list[torch.Tensor],
        lax: list[torch.Tensor],
        pose: torch.Tensor,
        image: torch.Tensor,
    ) -> torch.Tensor:
        """Features of the stack (B, C, h, w) and of the planes (B P, C, h, w) to (B, outputs, I', J', K)."""
        batch, _, rows, columns, depth = image.shape
        views = pose.shape[1]
        height, width = rows // self.coarseness, columns // self.coarseness
        flat = self.sax(sax, height, width)
        stack = flat.reshape(batch, self.sax_maps, depth, height, width).permute(0, 1, 3, 4, 2)
        maps = self.lax(lax, height, width)
        maps = maps.reshape(batch, views, maps.shape[1], height, width)
        spacing = self.spacing_mm
        points = _coarse_points(height, width, depth, spacing, float(self.coarseness), pose)
        picture_rows = lax[0].shape[2]
        # coarse pixels cover what `coarseness` fine ones cover: their outermost centres lie further in
        extent = self.lax_pixel_mm * picture_rows * (height - 1) / (2.0 * height)
        lifted = lift(maps[:, :, : self.scalars], maps[:, :, self.scalars :], pose, points, extent, self.reach_mm)
        places = (points / 50.0).permute(3, 0, 1, 2).unsqueeze(0).expand(batch, 3, height, width, depth)
        return torch.cat([stack, lifted, _unshuffle(image, self.coarseness), places], dim=1)


class StackedFusion(nn.Module):
    """The paper's fusion: pixels of all views as channels, whatever planes they lie in."""

    def __init__(
        self, channels: Sequence[int], frames: int, width: int, depth: int, views: int, coarseness: int
    ) -> None:
        super().__init__()
        joint = [count * frames for count in channels]
        self.coarseness = coarseness
        self.sax = MultiScaleFusion(joint, width, width)
        self.lax = MultiScaleFusion(joint, width, width)
        self.join = nn.Sequential(
            _conv2d(width * (views + 1), max(width, depth), kernel=1), nn.Conv2d(max(width, depth), depth, 1)
        )
        self.outputs = 1

    def forward(
        self,
        sax: list[torch.Tensor],
        lax: list[torch.Tensor],
        pose: torch.Tensor,
        image: torch.Tensor,
    ) -> torch.Tensor:
        """Features of the stack (B, C, h, w) and of the planes (B P, C, h, w) to (B, 1, I', J', K)."""
        batch = image.shape[0]
        height, width = image.shape[2] // self.coarseness, image.shape[3] // self.coarseness
        maps = self.lax(lax, height, width).reshape(batch, -1, height, width)
        joined = self.join(torch.cat([self.sax(sax, height, width), maps], dim=1))
        return joined.unsqueeze(1).permute(0, 1, 3, 4, 2)


class VolumeDecoder(nn.Module):
    """3D part: down ``levels`` times by two and up again with skip connections, then to the full size."""

    def __init__(self, inputs: int, width: int, outputs: int, levels: int, coarseness: int) -> None:
        super().__init__()
        self.coarseness = coarseness
        widths = [width * 2**level for level in range(levels + 1)]
        self.entry = nn.Sequential(nn.Conv3d(inputs, width, 1), _conv3d(width, width))
        self.down = nn.ModuleList(
            nn.Sequential(nn.AvgPool3d(2), _conv3d(fine, coarse), _conv3d(coarse, coarse))
            for fine, coarse in pairwise(widths)
        )
        self.narrow = nn.ModuleList(
            nn.Conv3d(coarse, fine, 1) for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_conv3d(fine, fine), _conv3d(fine, fine)) for fine in reversed(widths[:-1])
        )
        self.last = nn.Conv3d(width, outputs, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, inputs, I', J', K) to (B, outputs, I, J, K)."""
        volume = self.entry(volume)
        skips: list[torch.Tensor] = []
        for step in self.down:
            skips.append(volume)
            volume = step(volume)
        number = len(skips)
        for narrow, step in zip(self.narrow, self.up):  # noqa: B905 - TorchScript knows no strict
            number -= 1
            skip = skips[number]
            size = [skip.shape[2], skip.shape[3], skip.shape[4]]
            volume = nn.functional.interpolate(narrow(volume), size, mode="trilinear", align_corners=False)
            volume = step(volume + skip)
        volume = self.last(volume)
        if self.coarseness > 1:
            size = [volume.shape[2] * self.coarseness, volume.shape[3] * self.coarseness, volume.shape[4]]
            volume = nn.functional.interpolate(volume, size, mode="trilinear", align_corners=False)
        return volume


class MultiViewMotionNet(nn.Module):
    """Dense 3D displacement of the heart from the short-axis stack and long-axis views at end-diastole and at t.

    Calling it with ``image`` (B, 2, I, J, K) = (ED, t), ``lax`` (B, 2, P, H, W) and ``lax_pose`` (B, P, 3, 4) (mm of
    the exam frame -> pixel i, j and distance n in mm; image and pose of a missing view are zeros) gives the field
    (B, 3, I, J, K) in mm along x, y, z of the exam frame. With ``shape_classes`` it gives (B, 3 + n, I, J, K): behind
    the field the logits of the tissues at end-diastole.

    Args:
        width_2d: channels of the first level of the 2D encoder (paper: 64).
        width_3d: channels of the first level of the 3D decoder (paper: 32).
        fusion: "geometry" lifts long-axis features to their places; "stacked" is the paper's stacking.
        views: P, number of long-axis views; "geometry" takes any number also afterwards.
        depth: K, slices of the motion grid (paper: 64).
        encoder: per level of the 2D encoder its width in ``width_2d`` and its convolutions; ``PAPER_ENCODER``.
        levels_3d: how often the 3D decoder halves its grid (paper: 3).
        coarseness: the 3D decoder works on a grid so many times coarser in plane (paper: 1).
        max_displacement_mm: largest displacement per axis; the output is this times tanh.
        shape_classes: tissues of the shape head; 0: no head.
        shape_width: channels of the first level of its 3D decoder; None: ``width_3d``.
        spacing_mm: of the motion grid.
        lax_pixel_mm: pixel size of the long-axis pictures.
        reach_mm: standard deviation of the weight of a long-axis plane at a distance from it ("geometry").
    """

    def __init__(
        self,
        width_2d: int = 16,
        width_3d: int = 8,
        fusion: str = "geometry",
        views: int = 3,
        depth: int = 16,
        encoder: Sequence[Sequence[int]] = SMALL_ENCODER,
        levels_3d: int = 2,
        coarseness: int = 2,
        max_displacement_mm: float | Sequence[float] = 25.0,
        shape_classes: int = 0,
        shape_width: int | None = None,
        spacing_mm: Sequence[float] = GRID_SPACING_MM,
        lax_pixel_mm: float = 2.0,
        reach_mm: float = 12.0,
    ) -> None:
        super().__init__()
        if fusion not in ("geometry", "stacked"):
            raise ValueError(f"fusion must be 'geometry' or 'stacked', not '{fusion}'")
        self.depth = depth
        self.views = views
        self.any_views = fusion == "geometry"
        self.shape_classes = shape_classes
        self.coarseness = coarseness
        self.lax_pixel_mm = float(lax_pixel_mm)
        self.divisor = max(2 ** (len(encoder) - 1), coarseness * 2**levels_3d)
        self.depth_divisor = 2**levels_3d
        if depth % self.depth_divisor:
            raise ValueError(
                f"depth is {depth} slices, but levels_3d={levels_3d} needs a multiple of {self.depth_divisor}"
            )
        limits = [max_displacement_mm] * 3 if isinstance(max_displacement_mm, (int, float)) else max_displacement_mm
        self.register_buffer("limit_mm", torch.tensor([float(limit) for limit in limits]), persistent=False)
        self.stem = nn.Sequential(_conv2d(1, max(depth // 2, 4)), _conv2d(max(depth // 2, 4), depth))
        self.encoder = PictureEncoder(depth, width_2d, encoder)

        def fuse(frames: int) -> nn.Module:
            channels = self.encoder.channels
            if fusion == "stacked":
                return StackedFusion(channels, frames, width_2d, depth, views, coarseness)
            return GeometryFusion(channels, frames, width_2d, depth, coarseness, spacing_mm, lax_pixel_mm, reach_mm)

        self.fusion = fuse(2)
        self.motion = VolumeDecoder(self.fusion.outputs, width_3d, 3, levels_3d, coarseness)
        nn.init.zeros_(self.motion.last.weight)
        nn.init.zeros_(self.motion.last.bias)
        if shape_classes:
            self.shape_fusion = fuse(1)
            self.shape = VolumeDecoder(
                self.shape_fusion.outputs, shape_width or width_3d, shape_classes, levels_3d, coarseness
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        stem = state_dict.get(f"{prefix}stem.1.0.weight")
        if stem is not None and len(stem) != self.depth:
            raise ValueError(
                f"the weights are those of a network for {len(stem)} slices of the motion grid, this one is built for "
                f"{self.depth}: set its depth to {len(stem)} (and the grid's size), or give other weights"
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _check(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> None:
        if image.dim() != 5 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, I, J, K), end-diastole and t, not {list(image.shape)}")
        if image.shape[4] != self.depth:
            raise ValueError(
                f"image has {image.shape[4]} slices, but this network was built for {self.depth}: resample the stack "
                "to the motion grid, or set depth and train anew"
            )
        if image.shape[2] % self.divisor != 0 or image.shape[3] % self.divisor != 0:
            raise ValueError(f"image is {list(image.shape[2:4])} in plane: multiples of {self.divisor} are needed")
        if lax.dim() != 5 or lax_pose.dim() != 4 or lax.shape[2] != lax_pose.shape[1]:
            shapes = f"{list(lax.shape)} and {list(lax_pose.shape)}"
            raise ValueError(f"lax must be (B, 2, P, H, W) and lax_pose (B, P, 3, 4), not {shapes}")
        if not self.any_views and lax.shape[2] != self.views:
            raise ValueError(f"lax has {lax.shape[2]} views, but this network stacks {self.views}: give zeros for none")

    def _encode(
        self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Features of the stack (2 B, C, h, w) and of the planes (2 B P, C, h, w), end-diastole first, per level."""
        batch, frames, rows, columns, depth = image.shape
        views = lax.shape[2]
        upright = upright_pictures(lax, lax_pose, self.lax_pixel_mm)
        pictures = upright.permute(1, 0, 2, 3, 4).reshape(frames * batch * views, 1, lax.shape[3], lax.shape[4])
        stack = image.permute(1, 0, 4, 2, 3).reshape(frames * batch, depth, rows, columns)
        long_axis = self.encoder(self.stem(pictures))
        short_axis = self.encoder(stack)
        return short_axis, long_axis

    def _field(
        self,
        sax: list[torch.Tensor],
        lax: list[torch.Tensor],
        lax_pose: torch.Tensor,
        image: torch.Tensor,
    ) -> torch.Tensor:
        pairs_sax: list[torch.Tensor] = []
        pairs_lax: list[torch.Tensor] = []
        for level in sax:
            pair = level.unflatten(0, [2, -1])  # not by chunk, which ties an export to one batch size
            pairs_sax.append(torch.cat([pair[0], pair[1]], dim=1))
        for level in lax:
            pair = level.unflatten(0, [2, -1])
            pairs_lax.append(torch.cat([pair[0], pair[1]], dim=1))
        raw = self.motion(self.fusion(pairs_sax, pairs_lax, lax_pose, image))
        return torch.tanh(raw) * self.limit_mm.reshape(1, 3, 1, 1, 1)

    def _shape(
        self,
        sax: list[torch.Tensor],
        lax: list[torch.Tensor],
        lax_pose: torch.Tensor,
        image: torch.Tensor,
        frame: int,
    ) -> torch.Tensor:
        one_sax: list[torch.Tensor] = []
        one_lax: list[torch.Tensor] = []
        for level in sax:
            one_sax.append(level.unflatten(0, [2, -1])[frame])
        for level in lax:
            one_lax.append(level.unflatten(0, [2, -1])[frame])
        return self.shape(self.shape_fusion(one_sax, one_lax, lax_pose, image[:, frame : frame + 1]))

    def forward(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> torch.Tensor:
        """The field (B, 3, I, J, K) in mm, followed by the logits at end-diastole if there is a shape head."""
        self._check(image, lax, lax_pose)
        short_axis, long_axis = self._encode(image, lax, lax_pose)
        field = self._field(short_axis, long_axis, lax_pose, image)
        if hasattr(self, "shape"):  # TorchScript leaves the branch out where there is no head
            field = torch.cat([field, self._shape(short_axis, long_axis, lax_pose, image, 0)], dim=1)
        return field

    @torch.jit.export
    def motion_and_shapes(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> torch.Tensor:
        """For training: field, logits at end-diastole and logits at t, (B, 3 + 2 n, I, J, K)."""
        self._check(image, lax, lax_pose)
        short_axis, long_axis = self._encode(image, lax, lax_pose)
        field = self._field(short_axis, long_axis, lax_pose, image)
        if hasattr(self, "shape"):
            at_ed = self._shape(short_axis, long_axis, lax_pose, image, 0)
            at_t = self._shape(short_axis, long_axis, lax_pose, image, 1)
            field = torch.cat([field, at_ed, at_t], dim=1)
        return field


def _coarse_points(
    height: int,
    width: int,
    depth: int,
    spacing_mm: list[float],
    coarseness: float,
    like: torch.Tensor,
) -> torch.Tensor:
    rows = (
        (torch.arange(height, dtype=like.dtype, device=like.device) - (height - 1) / 2.0) * spacing_mm[0] * coarseness
    )
    columns = (
        (torch.arange(width, dtype=like.dtype, device=like.device) - (width - 1) / 2.0) * spacing_mm[1] * coarseness
    )
    slices = (torch.arange(depth, dtype=like.dtype, device=like.device) - (depth - 1) / 2.0) * spacing_mm[2]
    return torch.stack(
        [
            rows.reshape(-1, 1, 1).expand(height, width, depth),
            columns.reshape(1, -1, 1).expand(height, width, depth),
            slices.reshape(1, 1, -1).expand(height, width, depth),
        ],
        dim=-1,
    )


def _unshuffle(image: torch.Tensor, factor: int) -> torch.Tensor:
    """(B, C, I, J, K) to (B, C factor^2, I / factor, J / factor, K): no pixel is lost on the coarse grid."""
    batch, channels, rows, columns, depth = image.shape
    parts = image.reshape(batch, channels, rows // factor, factor, columns // factor, factor, depth)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(
        batch, channels * factor * factor, rows // factor, columns // factor, depth
    )
