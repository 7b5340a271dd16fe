"""What is simulated: the heart, its slice, frames, coils and look of one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.cine_kspace.carried_chest import CarriedChest
from clinbundles.phantoms.cine_kspace.coil_array import CoilArray, draw_coils
from clinbundles.phantoms.cine_kspace.look import Look, draw_look
from clinbundles.phantoms.cine_kspace.slice_plan import SlicePlan, plan_slice
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.rigid_motion import RigidMotion
from clinbundles.phantoms.heart.simulated_exam import exam_heart


@dataclass(frozen=True)
class Acquisition:
    """One acquisition before it is drawn.

    Attributes:
        heart, sex: of the population; the same as `exam_heart` of this seed.
        plan: slice and field of view.
        times: (T,) middle of each frame, fractions of the cycle; frame 0 is end-diastole.
        coils, look: see there.
        snr: blood over the root of the noise's mean square.
        cycle_ms: duration of the heart's cycle.
        noise_rng: generator of what is left to draw, the noise.
    """

    heart: Heart
    sex: str
    plan: SlicePlan
    times: NDArray[np.float64]
    coils: CoilArray
    look: Look
    snr: float
    cycle_ms: float
    noise_rng: np.random.Generator

    @property
    def chest(self) -> CarriedChest:
        """What moves: the heart and the chest that it carries."""
        return CarriedChest(self.heart, self.look.reach)


def draw_acquisition(
    seed: int,
    *,
    frames: int = 25,
    matrix: int = 128,
    spacing_mm: float = 2.25,
    coils: int = 8,
    slab_mm: float = 8.0,
    long_axis_share: float = 0.2,
    diseased_share: float = 0.3,
    long_axis_motion: bool = True,
    snr: tuple[float, float] = (15.0, 40.0),
) -> Acquisition:
    """The acquisition of a seed; the arguments are those of `simulate_cine_kspace`."""
    if frames < 3:
        raise ValueError(f"frames is {frames}, expected at least 3 over the cycle")
    if matrix < 16:
        raise ValueError(f"matrix is {matrix}, expected at least 16 pixels")
    heart, sex = exam_heart(seed, diseased_share=diseased_share)
    if not long_axis_motion:
        heart = _without_long_axis_motion(heart)
    plan_rng, coil_rng, look_rng, scan_rng, noise_rng = np.random.default_rng([seed, 1]).spawn(5)
    plan = plan_slice(
        heart, plan_rng, matrix=matrix, spacing_mm=spacing_mm, slab_mm=slab_mm, long_axis_share=long_axis_share
    )
    return Acquisition(
        heart=heart,
        sex=sex,
        plan=plan,
        times=np.arange(frames) / frames,
        coils=draw_coils(coil_rng, heart.surroundings, coils),
        look=draw_look(look_rng),
        snr=float(scan_rng.uniform(*snr)),
        cycle_ms=float(scan_rng.uniform(700.0, 1150.0)),
        noise_rng=noise_rng,
    )


def _without_long_axis_motion(heart: Heart) -> Heart:
    """The same heart of constant length, which as a whole only shifts across its axis and turns about it."""
    rigid, across, about = heart.rigid, np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    flat = RigidMotion(
        rigid.shift * across, rigid.tilt * about, rigid.early_shift * across, rigid.early_tilt * about, rigid.lag
    )
    return replace(heart, motion=heart.motion._replace(shortening=0.0), rigid=flat)
