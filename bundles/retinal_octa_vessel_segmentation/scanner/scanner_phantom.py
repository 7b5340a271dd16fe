"""Scanner phantom: OCT angiographs of simulated eyes by the physics of the scanner, with exactly known truth.

It shares the growth model with the training simulation, but neither its parameters (`phantom_anatomy`) nor its way to
an image: flow decorrelates complex speckle (`decorrelation`), light is lost by defocus, vignetting and floaters, the
lateral point spread blurs, and the eye moves while it is scanned (`eye_motion`). Networks are tested on
it, never trained.

Axis letters: H rows, W columns.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from retinal_octa_vessel_segmentation.scanner.decorrelation import projected_decorrelation
from retinal_octa_vessel_segmentation.scanner.eye_motion import EyeMotion, displace, draw_eye_motion
from retinal_octa_vessel_segmentation.scanner.phantom_anatomy import (
    CAPILLARY_RADIUS_MM,
    avascular_zone,
    draw_anatomy,
    drop_capillaries,
)
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_growth import grow_vessels
from retinal_octa_vessel_segmentation.simulation.vessel_rasterizer import (
    LARGER_VESSEL_RADIUS_MM,
    vessel_coverage,
    vessel_label,
)

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
AXIAL_RESOLUTION_MM = 0.006
"""Axial resolution of spectral-domain scanners in tissue."""
GRAIN = 0.7
"""Speckle grains relative to the point spread: sqrt(1/2), as light passes the pupil twice."""
FINE = 4
"""The avascular zone is measured on a grid this many times finer than the image."""


@dataclass(frozen=True)
class ScannerSettings:
    """One scan's settings and circumstances.

    Attributes:
        fwhm_mm: full width at half maximum of the lateral point spread.
        repeats: B-scan repeats that are compared.
        depth_pixels: depths that the projection averages.
        spectral_bands: bands into which the spectrum is split; each gives speckle of its own, and D is averaged.
        flow_decorrelation: tau; the speckle of a pixel that is full of fast blood keeps the share exp(-tau).
        capillary_flow: flow in capillaries relative to larger vessels.
        static_correlation: correlation of resting tissue.
        snr_db: signal-to-noise ratio where the signal map is 1.
        floaters: number of vitreous floaters.
        display_gamma: exponent of the display curve.
    """

    fwhm_mm: float
    repeats: int
    depth_pixels: int
    spectral_bands: int
    flow_decorrelation: float
    capillary_flow: float
    static_correlation: float
    snr_db: float
    floaters: int
    display_gamma: float


def draw_scanner_settings(generator: np.random.Generator) -> ScannerSettings:
    """Draw a scanner and an eye's optical quality."""
    return ScannerSettings(
        fwhm_mm=float(generator.uniform(0.012, 0.022)),
        repeats=int(generator.integers(2, 5)),
        depth_pixels=int(generator.integers(3, 7)),
        spectral_bands=int(generator.integers(1, 3)),
        flow_decorrelation=float(generator.uniform(1.0, 2.2)),
        capillary_flow=float(generator.uniform(0.2, 0.5)),
        static_correlation=float(generator.uniform(0.99, 1.0)),
        snr_db=float(generator.uniform(12.0, 22.0)),
        floaters=int(generator.binomial(2, 0.25)),
        display_gamma=float(generator.uniform(0.8, 1.2)),
    )


def smooth_field(shape: tuple[int, int], correlation_px: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian random field of mean 0 and variance 1 with a Gaussian correlation of about `correlation_px` pixels."""
    # drawn on a coarse grid, as a filter of several hundred pixels would take longer than the rest of the scan
    step = max(correlation_px / 4.0, 1.0)
    coarse = [math.ceil(size / step) + 4 for size in shape]
    white = gaussian_filter(generator.standard_normal(coarse), correlation_px / step / math.sqrt(2.0), mode="wrap")
    white = (white - white.mean()) / white.std()
    places = np.meshgrid(*(1.5 + np.arange(size) / step for size in shape), indexing="ij")
    return map_coordinates(white, places, order=3, mode="grid-wrap")


def flow_maps(
    graph: VesselGraph, shape: tuple[int, int], settings: ScannerSettings, generator: np.random.Generator
) -> np.ndarray:
    """Share of the light of each pixel and depth that fast blood scatters, unblurred: (D, H, W) in [0, 1].

    A vessel shows at the depths that it reaches, widened by the axial resolution: a capillary in one or two of them, a
    large vessel in all. Arterioles, venules and larger vessels flow at 1; capillaries at `capillary_flow`, varying
    smoothly over 0.15 mm (lognormal, 35 %).
    """
    variation = np.exp(0.35 * smooth_field(shape, 0.15 / graph.field_mm * shape[0], generator))
    capillary_flow = np.clip(settings.capillary_flow * variation, 0.0, 1.0)
    depth_mm = 0.5 * (graph.start[:, 2] + graph.end[:, 2]) * graph.field_mm
    top, bottom = depth_mm.min(), depth_mm.max()
    edges = np.linspace(top, bottom, settings.depth_pixels + 1)
    reach = graph.radius_mm + AXIAL_RESOLUTION_MM / 2
    capillary = graph.radius_mm < CAPILLARY_RADIUS_MM
    maps = np.zeros((settings.depth_pixels, *shape))
    for layer, above, below in zip(maps, edges[:-1], edges[1:], strict=True):
        present = (depth_mm + reach > above) & (depth_mm - reach < below)
        for flow, members in ((capillary_flow, present & capillary), (1.0, present & ~capillary)):
            if members.any():
                np.maximum(layer, flow * vessel_coverage(graph.select(members), shape), out=layer)
    return maps


def signal_map(
    shape: tuple[int, int],
    fovea: tuple[float, float],
    pixel_mm: float,
    settings: ScannerSettings,
    generator: np.random.Generator,
) -> np.ndarray:
    """Relative power of the light that returns, (H, W) in (0, 1.5]: defocus and vignetting, floaters, foveal pit.

    Defocus and vignetting vary between 0.4 and 1 over more than 1 mm; a floater leaves 20 to 60 % of the light; the
    thin inner retina of the fovea returns half.
    """
    height, width = shape
    rows, columns = np.indices(shape) + 0.5
    slow = smooth_field(shape, 1.2 / pixel_mm, generator)
    slow = (slow - slow.min()) / max(np.ptp(slow), 1e-9)
    signal = 1.0 - generator.uniform(0.0, 0.6) * slow
    for _ in range(settings.floaters):
        centre = generator.uniform((0, 0), shape)
        spread = generator.uniform(0.1, 0.3) / pixel_mm * generator.uniform(0.6, 1.4, 2)
        blob = np.exp(-0.5 * (((rows - centre[0]) / spread[0]) ** 2 + ((columns - centre[1]) / spread[1]) ** 2))
        signal *= 1.0 - generator.uniform(0.4, 0.8) * blob
    pit = np.hypot(rows - fovea[0] * height, columns - fovea[1] * width) * pixel_mm / 0.25
    signal *= 1.0 - 0.5 * np.exp(-0.5 * pit**2)
    tissue = np.exp(0.25 * smooth_field(shape, 0.04 / pixel_mm, generator))
    return signal * np.clip(tissue / 1.1, 0.3, 1.5)


def scan(
    graph: VesselGraph,
    fovea: tuple[float, float],
    shape: tuple[int, int],
    settings: ScannerSettings,
    motion: EyeMotion,
    generator: np.random.Generator,
) -> np.ndarray:
    """One OCT angiograph: (H, W) uint8.

    Args:
        graph: vessels.
        fovea: (x, y) in units of the field.
        shape: (H, W) with H == W; the image spans the field.
        settings: scanner and optical quality.
        motion: motion of the eye.
        generator: source of speckle and noise.
    """
    pixel_mm = graph.field_mm / shape[0]
    sigma_px = settings.fwhm_mm / FWHM_PER_SIGMA / pixel_mm
    signal = displace(signal_map(shape, fovea, pixel_mm, settings, generator), motion.displacement)
    still = settings.static_correlation * (1.0 - motion.bulk[:, None])
    flow = flow_maps(graph, shape, settings, generator)
    flow = np.stack([displace(gaussian_filter(layer, sigma_px), motion.displacement) for layer in flow])
    angiogram = projected_decorrelation(
        np.repeat(still * np.exp(-settings.flow_decorrelation * flow), settings.spectral_bands, axis=0),
        np.sqrt(np.maximum(signal, 1e-6)),
        10.0 ** (-settings.snr_db / 20.0),
        settings.repeats,
        generator,
        grain_px=GRAIN * sigma_px,
    )
    return quantise(angiogram * motion.gain, settings.display_gamma)


def quantise(angiogram: np.ndarray, gamma: float = 1.0, low: float = 1.0, high: float = 99.5) -> np.ndarray:
    """8-bit display: the percentiles `low` and `high` become 0 and 255, with exponent `gamma` between; (H, W) uint8."""
    darkest, brightest = np.percentile(angiogram, (low, high))
    scaled = np.clip((angiogram - darkest) / max(brightest - darkest, 1e-12), 0.0, 1.0)
    return np.rint(255.0 * scaled**gamma).astype(np.uint8)


def simulate_scanner_case(
    folder: Path,
    seed: int,
    *,
    size: int = 304,
    field_mm: float = 3.0,
    severity: float | None = None,
) -> dict[str, Any]:
    """Simulate one eye and its scan, write them into `folder` and return the entry of the data list.

    Files: `image.png` (8 bit), `label.png` (0 background, 1 capillary, 2 larger vessel), `faz.png` (0, 1), `graph.csv`
    (still anatomy, without the scan's motion), `truth.json` (severity, FAZ area, densities, scanner, motion).
    Label and FAZ follow the scan's motion. The same seed gives the same bytes.

    Args:
        folder: existing folder.
        seed: seed of this case.
        size: pixels per side.
        field_mm: side of the field of view.
        severity: 0 (healthy) to 1; drawn uniformly if not given.

    Returns:
        image, label, faz, graph, truth (file names within `folder`), fov_mm, eye, layer, patient, severity.

    Raises:
        ValueError: if `severity` is outside [0, 1].
    """
    folder, shape = Path(folder), (size, size)
    # one stream for each part, so that a change of one leaves the others as they are
    anatomy, growth, optics, movement, noise = np.random.SeedSequence(seed).spawn(5)
    generator = np.random.default_rng(anatomy)
    severity = float(generator.uniform() if severity is None else severity)
    eye = "OD" if generator.random() < 0.5 else "OS"
    parameters, patches = draw_anatomy(generator, severity, field_mm)
    graph = drop_capillaries(grow_vessels(parameters, int(growth.generate_state(1)[0])), patches)
    settings = draw_scanner_settings(np.random.default_rng(optics))
    motion = draw_eye_motion(shape, np.random.default_rng(movement))
    image = scan(graph, parameters.faz_centre, shape, settings, motion, np.random.default_rng(noise))

    still = vessel_label(graph, shape).astype(np.uint8)
    still[vessel_label(graph, shape, LARGER_VESSEL_RADIUS_MM)] = 2
    fine_zone = avascular_zone(graph, parameters.faz_centre, FINE * size)
    still_zone = fine_zone.reshape(size, FINE, size, FINE).mean(axis=(1, 3)) >= 0.5
    label = displace(still, motion.displacement, order=0)
    zone = displace(still_zone, motion.displacement)

    for name, array in (("image", image), ("label", label), ("faz", zone.astype(np.uint8))):
        Image.fromarray(array).save(folder / f"{name}.png", optimize=False)
    graph.write_csv(folder / "graph.csv")
    truth = {
        "seed": seed,
        "severity": severity,
        "faz_area_mm2": float(fine_zone.sum() * (field_mm / FINE / size) ** 2),
        "fovea": list(parameters.faz_centre),
        "dropout_patches": [asdict(patch) for patch in patches],
        "vessel_area_density": float((label > 0).mean()),
        "larger_vessel_area_density": float((label == 2).mean()),
        "vessel_length_density_mm_per_mm2": projected_length_density(graph),
        "scanner": asdict(settings),
        "saccade_rows": list(motion.saccade_rows),
        "bulk_motion_rows": np.flatnonzero(motion.bulk).tolist(),
        "merged_from_two_scans": bool((motion.gain != 1).any()),
        "anatomy": {
            "kappa": parameters.stages[0].kappa,
            "phi_deg": parameters.stages[0].phi_deg,
            "faz_mm": parameters.faz_mm,
            "terminal_radius_mm": parameters.terminal_radius_mm,
            "arterial_trees": parameters.arterial_trees,
            "venous_trees": parameters.venous_trees,
        },
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {
        "image": "image.png",
        "label": "label.png",
        "faz": "faz.png",
        "graph": "graph.csv",
        "truth": "truth.json",
        "fov_mm": [field_mm, field_mm],
        "eye": eye,
        "layer": "full",
        "patient": f"phantom{seed}",
        "severity": round(severity, 6),
    }


def projected_length_density(graph: VesselGraph) -> float:
    """En-face length of the segments whose middle lies in the field, per area of the field, in mm / mm2."""
    step = (graph.end - graph.start)[:, :2]
    middle = 0.5 * (graph.end + graph.start)[:, :2]
    inside = ((middle >= 0) & (middle <= 1)).all(axis=1)
    return float(np.linalg.norm(step[inside], axis=1).sum() / graph.field_mm)
