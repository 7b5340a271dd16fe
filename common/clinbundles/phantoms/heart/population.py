"""Population of hearts: clinical numbers as published, shapes as they vary, poses and chests as patients lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.activation import Activation
from clinbundles.phantoms.heart.anatomy import Anatomy, solve_anatomy
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.kinematics import Motion
from clinbundles.phantoms.heart.rigid_motion import RigidMotion, rotation_matrix
from clinbundles.phantoms.heart.surroundings import Surroundings
from clinbundles.phantoms.heart.tissue import Interior

NORMS: dict[str, dict[str, tuple[float, float]]] = {
    "M": {
        "edv_ml": (166.0, 32.0),
        "ef": (0.58, 0.05),
        "mass_g": (103.0, 21.0),
        "rv_edv_ml": (182.0, 36.0),
        "rv_ef": (0.54, 0.06),
    },
    "F": {
        "edv_ml": (124.0, 21.0),
        "ef": (0.61, 0.05),
        "mass_g": (70.0, 13.0),
        "rv_edv_ml": (130.0, 24.0),
        "rv_ef": (0.58, 0.06),
    },
}
"""Mean and SD by sex of healthy adults of 45-74 years (UK Biobank; papillary muscles counted as cavity).

Petersen et al.: Reference ranges for cardiac structure and function using cardiovascular magnetic resonance in
Caucasians from the UK Biobank population cohort. Journal of Cardiovascular Magnetic Resonance 19:18, 2017.

Looked up: EF in its abstract; EDV (mean, SD) and the means of mass in public texts that quote its Table 12; the SD of
mass follows from what they quote (64-148 g in men, 17 g for both sexes). Approximate, not seen in print: the right
ventricle; quoted ranges fit the women's RVEF (47-68 %) and allow their RVEDV of 130 mL, but 126 mL as well.
"""

SHORTENING = (0.16, 0.022)
"""Mean and SD of 1 - lz at an EF of 0.6: base descent 14 mm.

Looked up: 17.1 +- 2.3 % by MRI between epicardial apex and mitral plane, our length, in 234 healthy adults (JCMR 17:69,
2015); 16.3 % of the wall by ultrasound in 1266 (HUNT3, PMC6802996). Descent 16 mm by MRI in 12 (Carlsson et al. 2007),
about 12-15 mm by ultrasound. MESA's shortening between landmarks, computed by us from a public table: 13.4 +- 3.6 %.

It gives an endocardial GLS of -0.18 +- 0.02. Feature tracking differs by software: pooled -0.184, single studies of
healthy adults -0.156 (men) to -0.234, SD 0.018-0.037. Women exceed men by 0.008-0.034 there, by 0.01 here."""

TWIST_DEGREES = {"apex": (-9.0, 2.5), "base": (4.0, 1.5)}
"""Mean and SD at end-systole about the axis apex -> base: seen from the apex, the apex turns counter-clockwise.

Young and Cowan (Evaluation of left ventricular torsion by cardiovascular magnetic resonance, JCMR 14:49, 2012) give
about 10 and 3 degrees, the same difference; the SDs are ours. Per length it is 1.3 degrees/cm: near feature tracking
(1.0 +- 0.4 in men, 1.2 +- 0.4 in women), a third of tagging in MESA (3.8; Yoneyama et al. 2016)."""


def draw_heart(
    rng: np.random.Generator | int,
    sex: str | None = None,
    *,
    diseased_share: float = 0.0,
    pose_degrees: float = 12.0,
) -> Heart:
    """A heart of the population.

    Args:
        rng: generator, or a seed.
        sex: "M" or "F"; drawn when None.
        diseased_share: probability of a regional wall motion disorder or of a dilated or thickened ventricle.
        pose_degrees: SD of the rotation of the heart from its usual pose about each axis (cut at 25 degrees).
    """
    rng = np.random.default_rng(rng)
    drawn_sex = "MF"[int(rng.integers(2))]
    sex = drawn_sex if sex is None else sex
    if sex not in NORMS:
        raise ValueError(f"sex is {sex!r}, expected 'M', 'F' or None")
    numbers = _draw_numbers(rng, sex)
    disease = _draw_disease(rng, rng.random() < diseased_share)
    numbers["edv_ml"] = min(numbers["edv_ml"] * disease["volume"], 300.0)  # larger ones leave the field of view
    numbers["mass_g"] *= disease["mass"]
    numbers["ef"] *= disease["ef"]
    anatomy = _draw_anatomy(rng, numbers, disease)
    motion = _draw_motion(rng, numbers, anatomy, disease)
    interior = _draw_interior(rng)
    rotation = usual_pose() @ rotation_matrix(np.radians(np.clip(rng.normal(0.0, pose_degrees, 3), -25.0, 25.0)))
    return Heart(
        anatomy=anatomy,
        motion=motion,
        interior=interior,
        surroundings=_draw_surroundings(rng, anatomy),
        rotation=rotation,
        base=rng.normal(0.0, 15.0, 3) + np.array([-35.0, 10.0, 20.0]),
        rigid=_draw_rigid_motion(rng),
    )


def mean_heart(sex: str = "M") -> Heart:
    """The heart of that sex with every number at its mean, in the usual pose."""
    numbers = {name: mean for name, (mean, _) in NORMS[sex].items()}
    return _with(_Still(), numbers)


def usual_pose() -> NDArray[np.float64]:
    """(3, 3): columns x (septum -> lateral), y (inferior), z (apex -> base) of the usual heart in RAS.

    The apex points left, anterior and inferior; x is (left + posterior) / sqrt 2, normal to the axis.
    """
    axis = np.array([0.62, -0.62, 0.48])  # right, posterior, superior: from the apex to the base
    axis /= np.linalg.norm(axis)
    across = np.array([-1.0, -1.0, 0.0])
    across -= axis * (across @ axis)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(axis, across), axis], axis=1)


class _Still(np.random.Generator):
    """A generator that always returns the mean."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return loc if size is None else np.full(size, loc, float)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return 0.5 * (low + high) if size is None else np.full(size, 0.5 * (low + high))


def _with(rng: np.random.Generator, numbers: dict[str, float]) -> Heart:
    disease = _draw_disease(rng, False)
    anatomy = _draw_anatomy(rng, numbers, disease)
    return Heart(
        anatomy=anatomy,
        motion=_draw_motion(rng, numbers, anatomy, disease),
        interior=_draw_interior(rng),
        surroundings=_draw_surroundings(rng, anatomy),
        rotation=usual_pose(),
        base=np.array([-35.0, 10.0, 20.0]),
        rigid=RigidMotion.none(),
    )


def _bounded(rng: np.random.Generator, mean: float, deviation: float, size: Any = None, limit: float = 2.5) -> Any:
    """Normal, cut at `limit` SD."""
    return np.clip(rng.normal(mean, deviation, size), mean - limit * deviation, mean + limit * deviation)


def _draw_numbers(rng: np.random.Generator, sex: str) -> dict[str, float]:
    """Clinical numbers of one person; body size couples the volumes and the mass."""
    size = rng.normal(0.0, 1.0)
    coupling = {"edv_ml": 0.85, "mass_g": 0.7, "rv_edv_ml": 0.85, "ef": -0.15, "rv_ef": -0.15}
    drawn = {}
    for name, (mean, deviation) in NORMS[sex].items():
        share = coupling[name]
        score = share * size + math.sqrt(1.0 - share**2) * rng.normal(0.0, 1.0)
        drawn[name] = mean + deviation * float(np.clip(score, -2.6, 2.6))
    return drawn


def _draw_disease(rng: np.random.Generator, present: bool) -> dict[str, float]:
    """Factors of the clinical numbers, and the region that moves less and later."""
    disease = {
        "volume": 1.0, "mass": 1.0, "ef": 1.0, "hypokinesia": 0.0, "delay": 0.0,
        "angle": float(rng.uniform(0.0, 2.0 * math.pi)), "height": float(rng.uniform(0.15, 0.85)),
    }  # fmt: skip
    if not present:
        return disease
    kind = rng.choice(["infarct", "dilated", "thick", "delayed"], p=[0.3, 0.25, 0.3, 0.15])
    if kind == "infarct":
        disease |= {"hypokinesia": rng.choice([0.4, 0.8]), "ef": rng.uniform(0.65, 0.95), "volume": rng.uniform(1, 1.3)}
    elif kind == "dilated":
        disease |= {"ef": rng.uniform(0.4, 0.8), "volume": rng.uniform(1.2, 1.7), "mass": rng.uniform(1.1, 1.6)}
    elif kind == "thick":
        disease |= {"ef": rng.uniform(0.95, 1.15), "volume": rng.uniform(0.8, 1.0), "mass": rng.uniform(1.3, 2.3)}
    else:
        disease |= {"delay": rng.uniform(0.05, 0.15), "ef": rng.uniform(0.7, 1.0), "hypokinesia": 0.2}
    return disease


def _draw_anatomy(rng: np.random.Generator, numbers: dict[str, float], disease: dict[str, float]) -> Anatomy:
    rv_half_span = 0.5 * _bounded(rng, 2.75, 0.14)
    rv_centre = math.pi + _bounded(rng, 0.12, 0.12)
    form = Anatomy(
        radius=1.0,
        half_length=1.0,
        base=_bounded(rng, 0.60, 0.06),
        wall=1.0,
        outer_half_length=1.0,
        oval_cos=_bounded(rng, 0.0, 0.04),
        oval_sin=_bounded(rng, 0.0, 0.02),
        trefoil_cos=_bounded(rng, 0.0, 0.012),
        trefoil_sin=_bounded(rng, 0.0, 0.012),
        wall_cos=_bounded(rng, 0.0, 0.05),
        wall_sin=_bounded(rng, 0.0, 0.05),
        septum=_bounded(rng, 1.10, 0.07),
        rv_depth=1.0,
        rv_centre=rv_centre,
        rv_half_span=rv_half_span,
        rv_power=float(rng.uniform(0.55, 1.0)),
        rv_apex=_bounded(rng, 0.72, 0.07),
        rv_skew=float(rng.uniform(-0.3, 0.3)),
        rv_turn=_bounded(rng, 0.2, 0.15),
        rv_wall=_bounded(rng, 2.6, 0.4),
        fat=float(rng.uniform(0.5, 5.0)),
        fat_angle=float(rng.uniform(-math.pi, math.pi)),
        fat_uneven=float(rng.uniform(0.2, 0.95)),
        atrium_height=float(rng.uniform(42.0, 58.0)),
        atrium_radius=float(rng.uniform(20.0, 27.0)),
        right_atrium_depth=float(rng.uniform(28.0, 42.0)),
        aorta_radius=float(rng.uniform(12.0, 16.0)),
        aorta_angle=rv_centre + _bounded(rng, 0.70, 0.12),
        aorta_distance=float(rng.uniform(17.0, 23.0)),
        aorta_tilt=float(rng.uniform(-0.15, 0.15)),
        pulmonary_radius=float(rng.uniform(11.0, 15.0)),
        pulmonary_angle=rv_centre + _bounded(rng, 1.15, 0.1),
        pulmonary_distance=float(rng.uniform(42.0, 52.0)),
    )
    return solve_anatomy(
        form,
        slenderness=_bounded(rng, 2.05, 0.14) / max(disease["volume"], 1.0) ** 0.5,  # a dilated heart is rounder
        apex_wall=_bounded(rng, 0.75, 0.08),
        edv_ml=numbers["edv_ml"],
        muscle_ml=numbers["mass_g"] / 1.05,
        rv_edv_ml=numbers["rv_edv_ml"],
    )


def _draw_motion(
    rng: np.random.Generator, numbers: dict[str, float], anatomy: Anatomy, disease: dict[str, float]
) -> Motion:
    end_systole = float(rng.uniform(0.30, 0.42))
    filled = end_systole + float(rng.uniform(0.20, 0.30))
    ability = numbers["ef"] / 0.6
    wanted = Motion(
        course=Activation(
            end_systole=end_systole,
            filled=filled,
            diastasis=float(rng.uniform(0.08, 0.28)),
            kick=float(rng.uniform(max(0.76, filled + 0.03), 0.86)),
        ),
        contraction=1.0,
        apical_gain=_bounded(rng, 0.05, 0.08),
        shortening=float(np.clip(ability * _bounded(rng, *SHORTENING), 0.03, 0.26)),
        twist_base=math.radians(ability * _bounded(rng, *TWIST_DEGREES["base"])),
        twist_apex=math.radians(ability * _bounded(rng, *TWIST_DEGREES["apex"])),
        rv_contraction=numbers["rv_ef"],
        region_angle=disease["angle"],
        region_height=-disease["height"] * anatomy.cavity_length,
        region_width=float(rng.uniform(0.5, 0.9)),
        region_length=float(rng.uniform(14.0, 22.0)),
        hypokinesia=disease["hypokinesia"],
        delay=disease["delay"],
        bend=_bounded(rng, 0.0, 1.5),
    )
    return with_ejection_fraction(anatomy, wanted, numbers["ef"])


def _draw_rigid_motion(rng: np.random.Generator) -> RigidMotion:
    """Movement of the whole heart: estimates of ours, as no table of it was found; none on average.

    Along the axis the apex does not stay exactly: what is published as base descent is measured in a resting frame.
    """
    degree = math.pi / 180.0
    return RigidMotion(
        shift=_bounded(rng, 0.0, 1.0, 3) * [1.5, 1.5, 2.5],
        tilt=_bounded(rng, 0.0, 1.0, 3) * [2.5 * degree, 2.5 * degree, 1.0 * degree],
        early_shift=_bounded(rng, 0.0, 0.8, 3),
        early_tilt=_bounded(rng, 0.0, 1.0, 3) * [1.0 * degree, 1.0 * degree, 0.5 * degree],
        lag=_bounded(rng, 0.0, 0.03),
    )


def with_ejection_fraction(anatomy: Anatomy, motion: Motion, ejection_fraction: float) -> Motion:
    """The same motion, its contraction scaled so that <k> at end-systole is the wanted EF.

    The strongest contraction of any spot is held below 0.9 of the cavity's area: where the disease is too large for
    the EF, its hypokinesia is what gives way.
    """
    for _ in range(8):
        unit = _bare(anatomy, motion._replace(contraction=1.0))
        scaled = motion._replace(contraction=ejection_fraction / unit.ejection_fraction)
        strongest = scaled.contraction * (1.0 + max(scaled.apical_gain, 0.0))
        if strongest < 0.9:
            return scaled
        motion = motion._replace(hypokinesia=0.6 * motion.hypokinesia, apical_gain=0.6 * motion.apical_gain)
    raise ValueError(f"an EF of {ejection_fraction:.2f} cannot be had with this region: it leaves no blood at the apex")


def _draw_interior(rng: np.random.Generator) -> Interior:
    return Interior(
        papillary_size=float(rng.uniform(0.15, 0.32)),
        papillary_depth=float(rng.uniform(0.55, 0.75)),
        papillary_angle_1=-math.pi / 4 + _bounded(rng, 0.0, 0.2),
        papillary_angle_2=math.pi / 2 + _bounded(rng, 0.25, 0.2),
        papillary_top=float(rng.uniform(0.22, 0.32)),
        papillary_bottom=float(rng.uniform(0.70, 0.85)),
        trabecular_rim=float(rng.uniform(1.5, 6.0)),
        trabecular_phase=float(rng.uniform(0.0, 2.0 * math.pi)),
    )


def _draw_surroundings(rng: np.random.Generator, anatomy: Anatomy) -> Surroundings:
    """Positions from the middle of the left ventricle; the diaphragm lies just below the inferior wall."""
    radius = anatomy.radius + anatomy.wall + anatomy.fat
    return Surroundings(
        midline=float(rng.uniform(38.0, 55.0)),
        chest_middle=float(rng.uniform(-30.0, -12.0)),
        chest_half_width=float(rng.uniform(155.0, 190.0)),
        chest_half_depth=float(rng.uniform(88.0, 125.0)),
        fat=float(rng.uniform(8.0, 32.0)),
        chest_wall=float(rng.uniform(9.0, 18.0)),
        diaphragm=-radius - float(rng.uniform(2.0, 12.0)),
        diaphragm_tilt=float(rng.uniform(0.10, 0.35)),
        liver_edge=float(rng.uniform(-50.0, 15.0)),
        aorta_right=float(rng.uniform(10.0, 26.0)),
        aorta_anterior=float(rng.uniform(-78.0, -62.0)),
        aorta_radius=float(rng.uniform(10.0, 13.5)),
        mediastinum_edge=float(rng.uniform(12.0, 55.0)),
        mediastinum_grain=float(rng.uniform(-1.5, 1.5)),
        recess_fat=float(rng.uniform(1.6, 5.2)),
        recess_share=float(rng.uniform(-0.6, 1.0)),
    )


def _bare(anatomy: Anatomy, motion: Motion) -> Heart:
    """A heart of which only the volumes matter."""
    interior = Interior(*[0.0] * len(Interior._fields))
    surroundings = Surroundings(*[0.0] * len(Surroundings._fields))
    return Heart(anatomy, motion, interior, surroundings, np.eye(3), np.zeros(3), RigidMotion.none())
