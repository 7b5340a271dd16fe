"""Groupwise motion of a cine: all frames are registered to a template that the network makes of their features."""

from __future__ import annotations

import torch
from torch import nn


class GroupwiseMotionNet(nn.Module):
    """Displacements between a template and every frame of a cine, at a cost linear in the number of frames.

    Each frame is seen with its two neighbours in time. Features at a quarter of the resolution are carried by the
    present displacements and averaged over the frames: the template. Local correlations of the template with the
    carried frames drive a recurrent update that also looks at the state of the neighbouring frames. The mean
    displacement over the frames is zero, which fixes the template's place. Groupwise registration to a template after
    Pan et al., Medical Image Analysis 2024; recurrent update after RAFT (Teed and Deng, ECCV 2020), here with local
    correlation.

    Args:
        features: channels of the features.
        hidden: channels of the recurrent state.
        radius: of the local correlation, in pixels of a quarter of the resolution.
        iterations: of the recurrent update.
        cyclic: the last frame comes before the first, as in a cine that was sorted by the heart's phase.
    """

    def __init__(
        self, features: int = 48, hidden: int = 32, radius: int = 3, iterations: int = 4, cyclic: bool = True
    ) -> None:
        super().__init__()
        self.radius, self.iterations, self.cyclic = radius, iterations, cyclic
        self.features = features
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 7, stride=2, padding=3),
            nn.InstanceNorm2d(32),
            nn.ReLU(),
            ResidualBlock(32, 32),
            ResidualBlock(32, features, stride=2),
            nn.Conv2d(features, features, 1),
        )
        self.context = nn.Conv2d(2 * features, 2 * hidden, 3, padding=1)
        correlations = (2 * radius + 1) ** 2
        self.of_correlation = nn.Sequential(nn.Conv2d(correlations, hidden, 1), nn.ReLU())
        self.of_flow = nn.Sequential(nn.Conv2d(2, 16, 7, padding=3), nn.ReLU())
        self.update = TemporalConvGRU(hidden, 2 * hidden + 16 + 2)
        self.flow_head = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 2, 3, padding=1)
        )
        self.mask_head = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 144, 1))
        nn.init.normal_(self.flow_head[2].weight, std=1e-3)
        nn.init.zeros_(self.flow_head[2].bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Displacements of all frames.

        Args:
            image: (B, T, X, Y) magnitudes of a cine in [0, 1].

        Returns:
            (B, 2 T, X, Y) pixels, rows then columns for each frame t: ``image_t(p + v_t(p))`` looks like the template
            at p. Its mean over the frames is zero.
        """
        batch, frames, height, width = image.shape
        down, right = (-height) % 4, (-width) % 4
        padded = torch.nn.functional.pad(image, (0, right, 0, down), mode="replicate")
        before, after = self._neighbours(padded)
        blocks = torch.stack([before, padded, after], dim=2).flatten(0, 1)
        features = self.encoder(2 * blocks - 1)
        rows, columns = features.shape[2:]
        flow = features.new_zeros(batch * frames, 2, rows, columns)
        mean = features.reshape(batch, frames, -1, rows, columns).mean(1, keepdim=True)
        context = self.context(torch.cat([features, self._of_each_frame(mean, frames)], dim=1))
        state, given = torch.tanh(context[:, : context.shape[1] // 2]), torch.relu(context[:, context.shape[1] // 2 :])
        for _ in range(self.iterations):
            carried = sample_at(features, flow)
            template = carried.reshape(batch, frames, -1, rows, columns).mean(1, keepdim=True)
            similar = self.of_correlation(
                local_correlation(self._of_each_frame(template, frames), carried, self.radius)
            )
            seen = torch.cat([given, similar, self.of_flow(flow), flow], dim=1)
            before, after = self._neighbours(state.reshape(batch, frames, -1, rows, columns))
            state = self.update(state, before.flatten(0, 1), after.flatten(0, 1), seen)
            flow = self._centred(flow + self.flow_head(state), batch, frames)
        fine = upsample_convex(flow, 0.25 * self.mask_head(state))[:, :, :height, :width]
        fine = self._centred(fine, batch, frames)
        return fine.reshape(batch, 2 * frames, height, width)

    def _neighbours(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames before and after each one, along dimension 1."""
        first = frames[:, -1:] if self.cyclic else frames[:, :1]
        last = frames[:, :1] if self.cyclic else frames[:, -1:]
        return torch.cat([first, frames[:, :-1]], dim=1), torch.cat([frames[:, 1:], last], dim=1)

    @staticmethod
    def _of_each_frame(template: torch.Tensor, frames: int) -> torch.Tensor:
        return template.expand(-1, frames, -1, -1, -1).flatten(0, 1)

    @staticmethod
    def _centred(flow: torch.Tensor, batch: int, frames: int) -> torch.Tensor:
        apart = flow.reshape(batch, frames, 2, flow.shape[2], flow.shape[3])
        return (apart - apart.mean(1, keepdim=True)).flatten(0, 1)


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, beside a projection where the size changes."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=stride, padding=1),
            nn.InstanceNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1),
            nn.InstanceNorm2d(out),
        )
        same = stride == 1 and channels == out
        self.beside = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride=stride)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, out, H / stride, W / stride)."""
        return torch.relu(self.body(features) + self.beside(features))


class TemporalConvGRU(nn.Module):
    """Convolutional gated recurrent unit whose candidate also sees the states of the frames before and after.

    Args:
        hidden: channels of the state.
        inputs: channels of the input.
    """

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(hidden + inputs, 2 * hidden, 3, padding=1)
        self.candidate = nn.Conv2d(3 * hidden + inputs, hidden, 3, padding=1)

    def forward(
        self, state: torch.Tensor, before: torch.Tensor, after: torch.Tensor, inputs: torch.Tensor
    ) -> torch.Tensor:
        """The next state; all (B T, C, H, W)."""
        gates = torch.sigmoid(self.gates(torch.cat([state, inputs], dim=1)))
        keep, reset = gates[:, : self.hidden], gates[:, self.hidden :]
        candidate = torch.tanh(self.candidate(torch.cat([reset * state, before, after, inputs], dim=1)))
        return (1 - keep) * state + keep * candidate


def sample_at(features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Bilinear values of features (B, C, H, W) at p + flow(p); flow (B, 2, H, W) in pixels, rows then columns."""
    height, width = features.shape[2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 0]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 1]
    grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    return torch.nn.functional.grid_sample(features, grid, padding_mode="border", align_corners=True)


def local_correlation(first: torch.Tensor, second: torch.Tensor, radius: int) -> torch.Tensor:
    """Products of first (B, C, H, W) at p with second at p + d, summed over the channels and divided by sqrt(C).

    Returns:
        (B, (2 radius + 1)^2, H, W), d row by row.
    """
    height, width = first.shape[2:]
    wide = torch.nn.functional.pad(second, (radius, radius, radius, radius))
    products = []
    for row in range(2 * radius + 1):
        for column in range(2 * radius + 1):
            products.append((first * wide[:, :, row : row + height, column : column + width]).sum(1))
    return torch.stack(products, dim=1) / first.shape[1] ** 0.5


def upsample_convex(flow: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flow (B, 2, H, W) at four times the resolution, each value a convex combination of its 3 x 3 neighbours, times 4.

    Args:
        flow: pixels of the coarse grid.
        weights: (B, 9 * 16, H, W), before the softmax over the neighbours.

    Returns:
        (B, 2, 4 H, 4 W) in pixels of the fine grid (Teed and Deng, ECCV 2020, section 3.3).
    """
    batch, _, height, width = flow.shape
    share = torch.softmax(weights.reshape(batch, 1, 9, 4, 4, height, width), dim=2)
    wide = torch.nn.functional.pad(4 * flow, (1, 1, 1, 1), mode="replicate")
    around = []
    for i in range(3):
        for j in range(3):
            around.append(wide[:, :, i : i + height, j : j + width])
    neighbours = torch.stack(around, dim=2)[:, :, :, None, None]
    fine = (share * neighbours).sum(2)  # (B, 2, 4, 4, H, W)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, 4 * height, 4 * width)
