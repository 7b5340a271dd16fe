"""A simulated cine exam as demonstrations give it to inference: the images alone, the truth beside them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

IMAGES = ("sax", "lax_2ch", "lax_3ch", "lax_4ch")


def simulate_exam(folder: Path, seed: int, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Simulate one exam below ``folder``: everything into ``truth``, its images also into ``exams/simulated_heart``.

    Args:
        folder: of the demonstration.
        seed: of the heart.
        settings: of ``simulate_heart_exam``.

    Returns:
        ``exams``, the folder to give to inference, and the simulator's case.
    """
    truth, exam = folder / "truth", folder / "exams" / "simulated_heart"
    truth.mkdir(parents=True, exist_ok=True)
    exam.mkdir(parents=True, exist_ok=True)
    case = simulate_heart_exam(truth, seed, **settings)
    for image in IMAGES:
        shutil.copy(truth / case[image], exam)
    return exam.parent, case
