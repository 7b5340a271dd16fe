"""Pairwise motion of a cine: every pair of frames is registered by itself, for machines with a GPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, grid_sample, pad
from torch.utils.checkpoint import checkpoint

from cardiac_mri_mcmr_reconstruction.networks import upsample_convex

STRIDE = 4
LEVELS = 4


class Graft(nn.Module):
    """Recurrent all-pairs flow between a block of three frames in time and a single frame.

    The frame that owns the pixel grid is seen with its neighbours in time; the other frame, which is sampled, alone.
    Their features are multiplied in all pairs of places. A recurrent unit looks into the products around the present
    flow and refines it. So the looking up and the warp of the frame have one direction.

    Architecture: RAFT (Teed and Deng, ECCV 2020) with features at a quarter of the resolution and a block of frames, as
    in GRAFT (Pan et al., MICCAI 2022). 5.62 million parameters; the cost grows with the number of pairs.

    Args:
        width: channels of the first convolution; all encoders scale with it.
        hidden: channels of the recurrent state.
        radius: pixels on each side that are looked up in each of the four levels.
        iterations: of the recurrent update.
        cyclic: the last frame comes before the first, as in a cine that was sorted by the heart's phase.
        pairs_at_once: bounds the memory: a pair's products take ``4 / 3 (X Y / 16)^2`` numbers. While training, a
            block of pairs is computed again in the backward pass.
    """

    def __init__(
        self,
        width: int = 64,
        hidden: int = 128,
        radius: int = 4,
        iterations: int = 12,
        cyclic: bool = True,
        pairs_at_once: int = 8,
    ) -> None:
        super().__init__()
        self.radius, self.iterations, self.cyclic, self.pairs_at_once = radius, iterations, cyclic, pairs_at_once
        self.hidden = hidden
        self.encoder = _encoder(width, 4 * width, nn.InstanceNorm2d)
        self.context = _encoder(width, 2 * hidden, nn.BatchNorm2d)
        looked_up = LEVELS * (2 * radius + 1) ** 2
        self.of_products = nn.Sequential(
            nn.Conv2d(looked_up, 4 * width, 1), nn.ReLU(), nn.Conv2d(4 * width, 3 * width, 3, padding=1), nn.ReLU()
        )
        self.of_flow = nn.Sequential(
            nn.Conv2d(2, 2 * width, 7, padding=3), nn.ReLU(), nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU()
        )
        self.of_both = nn.Sequential(nn.Conv2d(4 * width, hidden - 2, 3, padding=1), nn.ReLU())
        self.along_rows = ConvGRU(hidden, 2 * hidden, (1, 5))
        self.along_columns = ConvGRU(hidden, 2 * hidden, (5, 1))
        self.flow_head = nn.Sequential(
            nn.Conv2d(hidden, 4 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(4 * width, 2, 3, padding=1)
        )
        self.mask_head = nn.Sequential(
            nn.Conv2d(hidden, 4 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(4 * width, 9 * STRIDE**2, 1)
        )

    def forward(self, image: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Flows between frames.

        Args:
            image: (B, T, X, Y) magnitudes of a cine in [0, 1], at least 32 x 32 pixels.
            weights: (T, S), S = T: pairs of weight zero are not computed and have zero flow. None: all pairs.

        Returns:
            (B, T, S, 2, X, Y) pixels, row then column: ``image[t](p + flow[t, s](p))`` looks like ``image[s](p)``. Zero
            for t = s.
        """
        batch, frames, height, width = image.shape
        smallest = STRIDE * 2 ** (LEVELS - 1)
        if min(height, width) < smallest:
            raise ValueError(
                f"image has {height} x {width} pixels: expected at least {smallest} on each side, since features at a "
                f"quarter of the resolution are halved {LEVELS - 1} times; pad it, or take another network"
            )
        wanted = torch.ones(frames, frames) if weights is None else weights.detach().cpu()
        if wanted.shape != (frames, frames):
            raise ValueError(
                f"weights has shape {tuple(wanted.shape)}: expected ({frames}, {frames}) for {frames} frames"
            )
        targets, sources = torch.nonzero((wanted != 0) & ~torch.eye(frames, dtype=torch.bool), as_tuple=True)
        # Pixel i of the features lies on pixel 4 i of the image: the image is filled up at its end only.
        scaled = pad(2 * image - 1, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        owners = torch.stack([self._shifted(scaled, -1), scaled, self._shifted(scaled, 1)], dim=2).flatten(0, 1)
        of_owner, context = self.encoder(owners), self.context(owners)
        of_sampled = self.encoder(scaled.flatten(0, 1)[:, None].expand(-1, 3, -1, -1))
        flow = image.new_zeros(batch, frames, frames, 2, height, width)
        for case in range(batch):
            for t, s in zip(targets.split(self.pairs_at_once), sources.split(self.pairs_at_once), strict=True):
                block = (of_owner[case * frames + s], of_sampled[case * frames + t], context[case * frames + s])
                if torch.is_grad_enabled():
                    fine = checkpoint(self._flow_of_pairs, *block, use_reentrant=False)
                else:
                    fine = self._flow_of_pairs(*block)
                flow[case, t, s] = fine[..., :height, :width].to(flow.dtype)
        return flow

    def _shifted(self, frames: torch.Tensor, by: int) -> torch.Tensor:
        """Frame number t + by at place t of dimension 1."""
        count = frames.shape[1]
        places = torch.arange(count, device=frames.device) + by
        return frames[:, places % count if self.cyclic else places.clamp(0, count - 1)]

    def _flow_of_pairs(self, owner: torch.Tensor, sampled: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Flow (P, 2, 4 H, 4 W) from features (P, C, H, W) of the grid's owner and of the sampled frame."""
        state, given = torch.tanh(context[:, : self.hidden]), torch.relu(context[:, self.hidden :])
        pyramid = all_pairs_products(owner, sampled)
        precise = torch.promote_types(owner.dtype, torch.float32)  # places need more digits than mixed precision has
        flow = owner.new_zeros(len(owner), 2, *owner.shape[2:], dtype=precise)
        for _ in range(self.iterations):
            flow = flow.detach()
            found = self.of_products(look_up(pyramid, flow, self.radius))
            seen = torch.cat([given, self.of_both(torch.cat([found, self.of_flow(flow)], dim=1)), flow], dim=1)
            state = self.along_columns(self.along_rows(state, seen), seen)
            flow = flow + self.flow_head(state)
        return upsample_convex(flow, 0.25 * self.mask_head(state))


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit.

    Args:
        hidden: channels of the state.
        inputs: channels of the input.
        kernel: rows and columns, odd.
    """

    def __init__(self, hidden: int, inputs: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        around = (kernel[0] // 2, kernel[1] // 2)
        self.gates = nn.Conv2d(hidden + inputs, 2 * hidden, kernel, padding=around)
        self.candidate = nn.Conv2d(hidden + inputs, hidden, kernel, padding=around)

    def forward(self, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The next state (B, hidden, H, W)."""
        update, reset = torch.sigmoid(self.gates(torch.cat([state, inputs], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([reset * state, inputs], dim=1)))
        return (1 - update) * state + update * candidate


class NormedResidualBlock(nn.Module):
    """Two convolutions with norm, beside a projection with norm where the size changes."""

    def __init__(self, channels: int, out: int, norm: type[nn.Module], stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=stride, padding=1), norm(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1), norm(out), nn.ReLU(),
        )  # fmt: skip
        same = stride == 1 and channels == out
        self.beside = nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride), norm(out))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, out, H / stride, W / stride)."""
        return torch.relu(self.body(features) + self.beside(features))


def _encoder(width: int, out: int, norm: type[nn.Module]) -> nn.Sequential:
    """(B, 3, X, Y) to (B, out, X / 4, Y / 4)."""
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3),
        norm(width),
        nn.ReLU(),
        NormedResidualBlock(width, width, norm),
        NormedResidualBlock(width, width, norm),
        NormedResidualBlock(width, 2 * width, norm, stride=2),
        NormedResidualBlock(2 * width, 2 * width, norm),
        NormedResidualBlock(2 * width, 2 * width, norm),
        NormedResidualBlock(2 * width, 2 * width, norm),
        nn.Conv2d(2 * width, out, 1),
    )


def all_pairs_products(owner: torch.Tensor, sampled: torch.Tensor) -> list[torch.Tensor]:
    """Products of the features at every place of the owner with those at every place of the sampled frame.

    Args:
        owner: (P, C, H, W).
        sampled: (P, C, H, W).

    Returns:
        For each level (P H W, 1, H / 2^level, W / 2^level), divided by sqrt(C): owner's places first, means of 2 x 2
        of the sampled frame's places after.
    """
    pairs, channels, height, width = owner.shape
    products = torch.bmm(owner.flatten(2).transpose(1, 2), sampled.flatten(2)) / channels**0.5
    levels = [products.reshape(pairs * height * width, 1, height, width)]
    for _ in range(LEVELS - 1):
        levels.append(avg_pool2d(levels[-1], 2))
    return levels


def look_up(pyramid: list[torch.Tensor], flow: torch.Tensor, radius: int) -> torch.Tensor:
    """Bilinear values of the products around p + flow(p), zero outside.

    Args:
        pyramid: of :func:`all_pairs_products`.
        flow: (P, 2, H, W) pixels of the features' grid, rows then columns.
        radius: pixels of each level on each side.

    Returns:
        (P, levels (2 radius + 1)^2, H, W): level by level, offsets row by row.
    """
    pairs, _, height, width = flow.shape
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 0]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 1]
    around = torch.arange(-radius, radius + 1, device=flow.device, dtype=flow.dtype)
    across = len(around)
    found = []
    for level, products in enumerate(pyramid):
        # A mean of 2^level pixels lies in the middle between them: count from pixels' edges, (i + 1/2) / 2^level.
        size = 2.0**level
        row = ((rows + 0.5) / size).reshape(-1, 1, 1) + around[:, None]
        column = ((columns + 0.5) / size).reshape(-1, 1, 1) + around
        at = torch.stack(
            [
                (2 * column / products.shape[3] - 1).expand(-1, across, -1),
                (2 * row / products.shape[2] - 1).expand(-1, -1, across),
            ],
            dim=-1,
        )
        values = grid_sample(products.to(at.dtype), at, align_corners=False)
        found.append(values.reshape(pairs, height, width, across**2))
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2)
