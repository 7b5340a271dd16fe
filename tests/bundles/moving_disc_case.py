"""A small case of undersampled cine k-space for tests: a disc with a rim that beats, with exactly known motion."""

from __future__ import annotations

import math

import torch

from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import UnrolledSettings, reconstruct
from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.flow_composition import invert_flow
from clinbundles.mcmr.sampling_masks import variable_density_lines

SIZE, FRAMES, COILS = (40, 48), 8, 4
ROI = (8, 10, 32, 38)
SETTINGS = UnrolledSettings(outer_iterations=1, neighbours=3)


def beating_flow(share: float = 0.22) -> torch.Tensor:
    """(T, 2, X, Y) pixels, template -> frame: places around the middle move out and in by a share of their radius."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]) - 20.0, torch.arange(SIZE[1]) - 24.0, indexing="ij")
    fall = torch.exp(-(rows**2 + columns**2) / (2 * 9.0**2))
    beat = share * torch.cos(2 * math.pi * torch.arange(FRAMES) / FRAMES)
    return beat[:, None, None, None] * (torch.stack([rows, columns]) * fall)


def moving_disc(share: float = 0.22) -> torch.Tensor:
    """(T, X, Y) complex64 frames."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]) - 20.0, torch.arange(SIZE[1]) - 24.0, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    body = 0.3 * torch.sigmoid(18 - radius)
    template = body + 0.7 * torch.sigmoid(2 * (9 - radius)) - 0.6 * torch.sigmoid(2 * (5 - radius))
    frames = warp(template.expand(FRAMES, -1, -1), invert_flow(beating_flow(share), 60))
    phase = 0.3 * torch.sin(rows / 15) + 0.2 * columns / 24
    return torch.polar(frames.contiguous(), phase.expand_as(frames).contiguous())


def coil_maps() -> torch.Tensor:
    """(N, X, Y) complex64 of unit root-sum-of-squares."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    sizes = torch.stack([torch.exp(-((rows - a) ** 2 + (columns - b) ** 2) / 3) for a, b in corners])
    maps = torch.polar(sizes, torch.stack([a * rows + b * columns for a, b in corners]))
    return maps / sizes.square().sum(0).sqrt()


def disc_sample(
    flow: torch.Tensor | None = None,
    *,
    share: float = 0.22,
    acceleration: float = 4.0,
    noise_sd: float = 0.02,
    settings: UnrolledSettings = SETTINGS,
) -> dict:
    """A sample as inference hands it to postprocessing: loaded case and ``pred``.

    Args:
        flow: what the network is made to say; the truth by default.
        share: of the radius, how much the disc beats.
        acceleration: of the mask.
        noise_sd: root of the mean |noise|^2 of a sample.
        settings: of the reconstruction.
    """
    reference, maps = moving_disc(share), coil_maps()
    mask = variable_density_lines(FRAMES, SIZE[1], acceleration, seed=1)
    chance = torch.Generator().manual_seed(0)
    noise = torch.randn(FRAMES, COILS, *SIZE, 2, generator=chance) * noise_sd / math.sqrt(2)
    encoding = CoilFourierEncoding(maps, mask)
    kspace = encoding.forward(reference) + torch.view_as_complex(noise) * mask[:, None, None]
    told = (beating_flow(share) if flow is None else flow).flatten(0, 1)[None]
    with torch.no_grad():
        iterates = reconstruct(encoding, encoding.adjoint(kspace), lambda _: told, settings)
    affine = torch.tensor([[0.0, 2.0, 0, -48], [-1.5, 0, 0, 30], [0, 0, 8, 5], [0, 0, 0, 1]], dtype=torch.float64)
    return {
        "kspace": kspace,
        "mask": mask,
        "sensitivity_maps": maps,
        "maps_method": "given",
        "reference": reference,
        "spacing_mm": torch.tensor([1.5, 2.0]),
        "spacing_known": True,
        "frame_ms": 100.0,
        "cyclic": True,
        "case": "disc",
        "affine": affine,
        "roi": ROI,
        "noise_sd": noise_sd,
        "pred": iterates,
    }
