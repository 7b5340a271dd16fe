"""Parameters of vessel growth, in millimetres and degrees, with the published values as defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


def _require(value: float, name: str, low: float, high: float, unit: str, open_below: bool = False) -> None:
    inside = (
        isinstance(value, (int, float))
        and math.isfinite(value)
        and low <= value <= high
        and not (open_below and value == low)
    )
    if not inside:
        bounds = f"{'above' if open_below else 'at least'} {low}" + (
            f" and at most {high}" if math.isfinite(high) else ""
        )
        raise ValueError(f"{name} is {value}; expected a number {bounds} {unit}".rstrip())


@dataclass(frozen=True)
class GrowthStage:
    """One growth stage (a vascular complex); every length is in mm at the start and shrinks by 1 / sigma.

    Args:
        name: vascular complex, "SVC" or "DVC".
        iterations: growth steps of the stage.
        sinks_per_step: candidate oxygen sinks drawn per step and 9 mm2 of field.
        eps_n_mm: greatest distance at which a vessel keeps sinks away; with ``exclusion="fixed"`` the distance itself.
        eps_s_mm: least distance between sinks.
        eps_k_mm: distance at which a new vessel satisfies a sink.
        delta_mm: distance within which a vessel perceives sinks.
        gamma_deg: opening angle of the perception cone.
        phi_deg: standard deviation of the sinks' angles above which a leaf bifurcates.
        omega: weight in [0, 1] of the vessel's own direction against the sinks' pull.
        kappa: bifurcation exponent of Murray's law.
        delta_sigma: growth of the scale sigma per step.
        rotation_floor: least weight (squared, in units of the field) of turning around the fovea.
    """

    name: str
    iterations: int
    sinks_per_step: int = 2000
    eps_n_mm: float = 0.18
    eps_s_mm: float = 0.135
    eps_k_mm: float = 0.135
    delta_mm: float = 0.2925
    gamma_deg: float = 50.0
    phi_deg: float = 15.0
    omega: float = 0.3
    kappa: float = 2.55
    delta_sigma: float = 0.02
    rotation_floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("eps_n_mm", "eps_s_mm", "eps_k_mm", "delta_mm"):
            _require(getattr(self, name), f"stage {self.name}: {name}", 0.0, math.inf, "mm", open_below=True)
        _require(self.gamma_deg, f"stage {self.name}: gamma_deg", 0.0, 180.0, "degrees", open_below=True)
        _require(self.phi_deg, f"stage {self.name}: phi_deg", 0.0, 180.0, "degrees")
        _require(self.omega, f"stage {self.name}: omega", 0.0, 1.0, "")
        _require(self.kappa, f"stage {self.name}: kappa", 1.0, math.inf, "")
        _require(self.delta_sigma, f"stage {self.name}: delta_sigma", 0.0, math.inf, "per step")
        _require(self.rotation_floor, f"stage {self.name}: rotation_floor", 0.0, 1.0, "")
        _require(self.iterations, f"stage {self.name}: iterations", 0, math.inf, "")
        _require(self.sinks_per_step, f"stage {self.name}: sinks_per_step", 1, math.inf, "")


SUPERFICIAL = GrowthStage(name="SVC", iterations=100)
DEEP = GrowthStage(
    name="DVC",
    iterations=150,
    eps_n_mm=0.09,
    eps_s_mm=0.0675,
    eps_k_mm=0.0675,
    delta_mm=0.14625,
    gamma_deg=90.0,
    omega=0.0,
    kappa=2.9,
    rotation_floor=0.01,
)


@dataclass(frozen=True)
class GrowthParameters:
    """What grows one eye. Defaults: K24, data set of 18 June 2023 (3 x 3 mm around the fovea).

    Args:
        field_mm: side of the square field of view in mm.
        slab_mm: thickness of the slab in mm; only its en-face projection is used.
        arterial_trees: number of arterial roots.
        venous_trees: number of venous roots.
        roots: "faces" (stumps on the lateral faces) or "nerve" (all roots within 0.3 mm of ``nerve_centre``).
        nerve_centre: optic nerve head in units of the field, for ``roots="nerve"``.
        step_mm: length of a segment at the start; it shrinks with sigma during the first stage.
        least_step_mm: least length of a segment.
        terminal_radius_mm: radius of a capillary.
        faz_mm, faz_sd_mm: mean and standard deviation of the foveal avascular zone's size. No sink lies within half of
            it; vessels turn away from the fovea within about twice of it. 0 mm: no avascular zone.
        faz_centre: fovea in units of the field.
        rotation_mm: radius within which vessels turn around the fovea; 0 switches it off.
        rotation_delay: steps before turning sets in.
        exclusion: "radius" keeps sinks away by the oxygen distance of each vessel, "fixed" by ``eps_n_mm``.
        stages: the vascular complexes, in order.
    """

    field_mm: float
    slab_mm: float = 0.0393
    arterial_trees: int = 8
    venous_trees: int = 8
    roots: str = "faces"
    nerve_centre: tuple[float, float] = (0.43, 0.88)
    step_mm: float = 0.1
    least_step_mm: float = 0.04
    terminal_radius_mm: float = 0.0025
    faz_mm: float = 0.44
    faz_sd_mm: float = 0.04
    faz_centre: tuple[float, float] = (0.5, 0.5)
    rotation_mm: float = 1.05
    rotation_delay: int = 15
    exclusion: str = "radius"
    stages: tuple[GrowthStage, ...] = field(default=(SUPERFICIAL, DEEP))

    def __post_init__(self) -> None:
        for name in ("field_mm", "slab_mm", "step_mm", "least_step_mm", "terminal_radius_mm"):
            _require(getattr(self, name), name, 0.0, math.inf, "mm", open_below=True)
        for name in ("faz_mm", "faz_sd_mm", "rotation_mm"):
            _require(getattr(self, name), name, 0.0, math.inf, "mm")
        if self.faz_mm + 3 * self.faz_sd_mm >= self.field_mm:
            raise ValueError(
                f"faz_mm is {self.faz_mm} (sd {self.faz_sd_mm}) but field_mm is {self.field_mm}: "
                "the foveal avascular zone must fit into the field; give both in mm"
            )
        if self.arterial_trees < 1 or self.venous_trees < 0:
            raise ValueError(
                f"found {self.arterial_trees} arterial and {self.venous_trees} venous trees; at least 1 and 0"
            )
        for name, allowed in (("roots", ("faces", "nerve")), ("exclusion", ("radius", "fixed"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {allowed}")
        if not self.stages:
            raise ValueError("stages is empty; expected at least one growth stage, such as SVC")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GrowthParameters:
        """Parameters from a plain mapping (a YAML section); ``stages`` is a list of mappings.

        Raises:
            ValueError: an unknown or a missing name, or a value out of range; the message names it.
        """
        values = dict(config)
        if "field_mm" not in values:
            raise ValueError(
                "growth parameters: field_mm is missing; give the side of the field of view in mm, such as 3.0"
            )
        if "stages" in values:
            values["stages"] = tuple(
                stage if isinstance(stage, GrowthStage) else _build(GrowthStage, stage, f"stage {i}")
                for i, stage in enumerate(values["stages"])
            )
        for name in ("faz_centre", "nerve_centre"):
            if isinstance(values.get(name), Sequence):
                values[name] = tuple(float(v) for v in values[name])
        return _build(cls, values, "growth parameters")


def _build(kind: type, values: Mapping[str, Any], where: str) -> Any:
    known = [f.name for f in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"{where}: unknown names {unknown}; expected some of {known}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
