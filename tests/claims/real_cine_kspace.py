"""Multi-coil k-space made of real cines, which no network has seen.

The cines are magnitudes of two scanners, reconstructed, filtered and interpolated by their makers: biv-me (Siemens, 3
T, 25 phases; acquired 256 x 191, shown 256 x 208) and Sunnybrook SC-HF-I-4 (GE, 1.5 T, 20 phases; acquired 256 x 192,
shown 256 x 256). They stand for the object. So this is in part an **inverse crime**: the object has a limited
resolution and the scanner's noise is frozen into it, phase and coils are made up, frames are mean pictures over many
heartbeats, and arrhythmia, breathing and off-resonance are missing. What is real: anatomy, contrast, motion through
and within the plane, flowing blood. Only the lines that scanners measure are kept: the matrix is smaller than theirs.

Made up: the phase is that of the simulated cines (two waves of 0.5 rad, drifting by 0.03 rad). Eight loops after Biot
and Savart stand around a chest of ordinary size with the heart in its place, in patient coordinates; normalised to unit
root-sum-of-squares, as these images are. Phase and coils are multiplied on the images' own grid; the Fourier transform
is then cut to pixels of 1.875 mm, so that no map on the reconstruction's grid reproduces it exactly. White noise: blood
(95th percentile in the heart's region) is 25 times the root of its mean square in one coil.

The heart's region is the box of what moves: the standard deviation over time of the reference, smoothed over 16 mm
(full width at half maximum), its largest connected part above a quarter of the maximum, 5 mm wider on each side.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cine_strips import COILS, plain
from scipy.ndimage import gaussian_filter, label

from cardiac_mri_mcmr_reconstruction.pipeline import preprocessing
from clinbundles.cine.cine_files import exam_files, read_planes
from clinbundles.mcmr.fourier import READOUT, fft2c, fftc, ifft2c, ifftc
from clinbundles.phantoms.cine_kspace.coil_array import draw_coils
from clinbundles.phantoms.cine_kspace.look import draw_look
from clinbundles.phantoms.heart.simulated_exam import exam_heart

PIXEL_MM = 1.875  # of the acquisition: 192 x 156 of biv-me, 176 x 176 of Sunnybrook
SNR = 25.0
STRIP_MARGIN = 8  # readout rows beyond the heart's region that are reconstructed with it


@dataclass(frozen=True)
class RealSlice:
    """A slice of a real cine.

    Attributes:
        name: of the slice.
        archive: in the folder of real cines.
        plane: of the archive's stack.
        readout: image axis (0: along DICOM's rows, 1: along its columns) that was read out, as the header says.
        seed: of phase, coils and noise.
    """

    name: str
    archive: str
    plane: int
    readout: int
    seed: int


SLICES = (
    RealSlice("biv-me SAX 2", "bivme_patient1/SAX2_Se1.tar.xz", 0, 0, 1),
    RealSlice("biv-me SAX 3", "bivme_patient1/SAX3_Se2.tar.xz", 0, 0, 2),
    RealSlice("biv-me SAX 4", "bivme_patient1/SAX4_Se3.tar.xz", 0, 0, 3),
    RealSlice("biv-me LAX 4CH", "bivme_patient1/LAX_4CH_Se6.tar.xz", 0, 0, 4),
    RealSlice("Sunnybrook 4", "sunnybrook/SC-HF-I-4_cine.tar.xz", 3, 1, 5),
    RealSlice("Sunnybrook 6", "sunnybrook/SC-HF-I-4_cine.tar.xz", 5, 1, 6),
)


@dataclass(frozen=True)
class RealCine:
    """Magnitudes of one slice as the scanner shows them.

    Attributes:
        images: (T, X, Y), X along the readout.
        affine: (4, 4) index (x, y) to RAS mm.
        spacing_mm: of a pixel, both directions alike.
        frame_ms: between frames.
    """

    images: np.ndarray
    affine: np.ndarray
    spacing_mm: float
    frame_ms: float


def read_cine(one: RealSlice, real_data: Path, folder: Path) -> RealCine:
    """Unpack a slice's archive, if need be, and read it."""
    packed = real_data / "cardiac_cine" / one.archive
    unpacked = folder / packed.name.removesuffix(".tar.xz")
    if not unpacked.is_dir():
        with tarfile.open(packed) as archive:
            archive.extractall(unpacked, filter="data")
    (view,) = read_planes(exam_files(unpacked))
    images, affine = view.image[:, :, one.plane], view.affines[one.plane].copy()
    if one.readout == 1:
        images, affine = images.swapaxes(0, 1), affine[:, [1, 0, 2, 3]]
    return RealCine(
        np.moveaxis(images, -1, 0), affine, float(view.pixel_mm[0]), float(np.median(np.diff(view.times_ms)))
    )


def centred_crop(kspace: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(..., X, Y) around n // 2."""
    first = [n // 2 - m // 2 for n, m in zip(kspace.shape[-2:], size, strict=True)]
    return kspace[..., first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


def heart_box(cine: torch.Tensor, pixel_mm: float) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of what moves most in magnitudes (T, X, Y): see above."""
    moving = gaussian_filter(cine.abs().std(0).numpy(), 16 / 2.355 / pixel_mm)
    parts, _ = label(moving > 0.25 * moving.max())
    largest = parts == np.bincount(parts[parts > 0]).argmax()
    margin = round(5 / pixel_mm)
    edges = []
    for axis, size in enumerate(largest.shape):
        inside = np.flatnonzero(largest.any(axis=1 - axis))
        edges.append((max(int(inside[0]) - margin, 0), min(int(inside[-1]) + 1 + margin, size)))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def write_case(one: RealSlice, cine: RealCine, folder: Path) -> dict[str, Any]:
    """Write fully sampled k-space with noise and the noise-free reference, as a case of the bundle.

    Returns:
        the case: paths of `kspace` (T, N, X, Y) and `reference` (T, X, Y), `roi`, `spacing_mm`, `frame_ms` and so on.
    """
    generator = np.random.default_rng(one.seed)
    source = cine.images.shape[1:]
    size = tuple(round(n * cine.spacing_mm / PIXEL_MM / 2) * 2 for n in source)
    scale = (size[0] * size[1] / (source[0] * source[1])) ** 0.5  # one image intensity on both grids
    x, y = np.meshgrid(*(np.arange(n) for n in source), indexing="ij")
    points = (cine.affine @ np.stack([x, y, 0 * x, 0 * x + 1]).reshape(4, -1))[:3].T
    look = draw_look(generator)
    drift = np.array([look.drift_at(t / len(cine.images)) for t in range(len(cine.images))])
    phase = np.exp(1j * look.phase(points.reshape(*source, 3))) * drift[:, None, None]
    images = torch.from_numpy((cine.images * phase).astype(np.complex64))
    reference = scale * ifft2c(centred_crop(fft2c(images), size))
    roi = heart_box(reference, PIXEL_MM)
    heart = reference[:, roi[0] : roi[2], roi[1] : roi[3]].abs()
    blood = float(torch.quantile(heart.flatten(), 0.95))
    # the middle of the region on the scanner's grid, where the chest has its heart
    middle = [(a + b - 1) / 2 - m // 2 for a, b, m in zip(roi[:2], roi[2:], size, strict=True)]
    middle = [n // 2 + offset * n / m for offset, n, m in zip(middle, source, size, strict=True)]
    heart_at = (cine.affine @ np.array([*middle, 0, 1]))[:3]
    around = exam_heart(one.seed)[0].surroundings
    maps = draw_coils(generator, around, COILS).sensitivity(points - heart_at).reshape(COILS, *source)
    maps = torch.from_numpy(maps / np.sqrt((np.abs(maps) ** 2).sum(0)))
    clean = [scale * centred_crop(fft2c(images * coil), size) / blood for coil in maps]
    kspace = torch.stack(clean, dim=1)
    noise = generator.standard_normal((2, *kspace.shape), np.float32) / np.float32(SNR * 2**0.5)
    np.save(folder / "kspace.npy", (kspace.numpy() + noise[0] + 1j * noise[1]).astype(np.complex64))
    np.save(folder / "reference.npy", (reference / blood).numpy())
    return {
        "kspace": str(folder / "kspace.npy"),
        "reference": str(folder / "reference.npy"),
        "spacing_mm": [PIXEL_MM, PIXEL_MM],
        "frame_ms": cine.frame_ms,
        "cyclic": True,
        "noise_sd": 1 / SNR,
        "roi": list(roi),
        "case": one.name,
    }


def undersampled(case: dict[str, Any], rate: float) -> dict[str, Any]:
    """A strip of readout rows of a case that keeps a share of its lines; the bundle's own steps estimate its maps.

    As in ``cine_strips``: rows do not know of each other in k-space, so that a strip is a smaller examination.

    Returns:
        ``kspace`` (T, N, R, Y), ``mask`` (T, Y), ``sensitivity_maps`` (N, R, Y), ``reference`` (T, R, Y), ``roi`` in
        the strip, ``cyclic``, ``case``.
    """
    sample = preprocessing(acceleration=rate, coils=COILS, maps="espirit", for_network=False)(dict(case))
    x0, y0, x1, y1 = case["roi"]
    reference = plain(sample["reference"])
    first, last = max(x0 - STRIP_MARGIN, 0), min(x1 + STRIP_MARGIN, reference.shape[-2])
    last -= (last - first) % 8
    rows = slice(first, last)
    return {
        "kspace": fftc(ifftc(plain(sample["kspace"]), READOUT)[..., rows, :], READOUT),
        "mask": plain(sample["mask"]),
        "sensitivity_maps": plain(sample["sensitivity_maps"])[..., rows, :].contiguous(),
        "reference": reference[..., rows, :].contiguous(),
        "roi": (x0 - first, y0, min(x1, last) - first, y1),
        "cyclic": True,
        "case": case["case"],
    }
