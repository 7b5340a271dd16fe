"""Function of the left ventricle from its volume over the cycle: ED, ES, stroke volume, ejection fraction, mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

MUSCLE_G_PER_ML = 1.05


@dataclass(frozen=True)
class VentricularFunction:
    """Volumes in mL, mass in g, ejection fraction in [0, 1]; frames count from 0."""

    ed_frame: int
    es_frame: int
    edv_ml: float
    esv_ml: float
    mass_g: float | None

    @property
    def stroke_volume_ml(self) -> float:
        """EDV - ESV."""
        return self.edv_ml - self.esv_ml

    @property
    def ejection_fraction(self) -> float:
        """SV / EDV."""
        return self.stroke_volume_ml / self.edv_ml


def ventricular_function(
    cavity_ml: NDArray[np.floating] | Sequence[float],
    myocardium_ml: NDArray[np.floating] | Sequence[float] | None = None,
    ed_frame: int | None = None,
) -> VentricularFunction:
    """Function from the cavity's volumes (T,).

    Args:
        cavity_ml: (T,) mL over the cycle.
        myocardium_ml: (T,) mL; the mass is taken at end-diastole, 1.05 g/mL.
        ed_frame: frame of end-diastole; None: that of the largest volume.

    Raises:
        ValueError: volumes that are not finite and positive.
    """
    volumes = np.asarray(cavity_ml, float)
    if volumes.ndim != 1 or len(volumes) == 0 or not np.isfinite(volumes).all() or (volumes <= 0).any():
        raise ValueError(f"cavity volumes {np.array2string(volumes, threshold=6)}: expected (T,) positive mL")
    first = int(volumes.argmax()) if ed_frame is None else ed_frame
    mass = None if myocardium_ml is None else MUSCLE_G_PER_ML * float(np.asarray(myocardium_ml)[first])
    last = int(volumes.argmin())
    return VentricularFunction(first, last, float(volumes[first]), float(volumes[last]), mass)


def volume_curve_figure(
    cavity_ml: NDArray[np.floating],
    times_ms: NDArray[np.floating],
    myocardium_ml: NDArray[np.floating] | None = None,
    title: str = "",
) -> Figure:
    """Volumes over time after end-diastole, over frames where times are unknown (NaN); ED and ES marked."""
    known = bool(np.isfinite(times_ms).all())
    times = times_ms if known else np.arange(len(times_ms))
    function = ventricular_function(cavity_ml, myocardium_ml, ed_frame=0)
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, cavity_ml, "o-", color="tab:red", label="LV cavity")
    if myocardium_ml is not None:
        axes.plot(times, myocardium_ml, "s--", color="tab:gray", markersize=3, label="LV myocardium")
    for name, frame in (("ED", function.ed_frame), ("ES", function.es_frame)):
        axes.annotate(
            f"{name} {cavity_ml[frame]:.0f} mL", (times[frame], cavity_ml[frame]), textcoords="offset points",
            xytext=(6, 8 if name == "ED" else -14), bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    axes.set_xlabel("time after end-diastole (ms)" if known else "frame")
    axes.set_ylabel("volume (mL)")
    axes.set_ylim(0, 1.15 * float(max(np.max(cavity_ml), 0 if myocardium_ml is None else np.max(myocardium_ml))))
    axes.set_title(f"{title}   EF {100 * function.ejection_fraction:.0f} %".strip())
    axes.legend(loc="upper right", fontsize=8)
    return figure
