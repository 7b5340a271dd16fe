"""Command line: a moving picture of a simulated heart."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clinbundles.phantoms.heart.heart_movie import heart_movie
from clinbundles.phantoms.heart.population import draw_heart


def main(arguments: list[str] | None = None) -> int:
    """Write the GIF; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.phantoms.heart",
        description="Write an animated GIF of one beat of a simulated heart: short axis, 4CH, 2CH and 3CH, with the "
        "outline of its mesh (endocardium red, epicardium yellow).",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT.gif", help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the heart and of the picture's look (default 0)")
    parser.add_argument("--sex", choices=["M", "F"], help="drawn from the seed if not given")
    parser.add_argument("--diseased", action="store_true", help="a heart with disturbed motion or an altered wall")
    parser.add_argument("--frames", type=int, default=16, help="pictures of the beat (default 16)")
    chosen = parser.parse_args(arguments)
    if chosen.output.suffix.lower() != ".gif":
        parser.error(f"{chosen.output} does not end in .gif, the only format written")
    if chosen.frames < 2:
        parser.error(f"--frames is {chosen.frames}, expected at least 2")
    if not chosen.output.parent.is_dir():
        parser.error(f"the folder {chosen.output.parent} does not exist")
    heart = draw_heart(chosen.seed, chosen.sex, diseased_share=float(chosen.diseased))
    heart_movie(heart, chosen.output, seed=chosen.seed, frames=chosen.frames)
    print(
        f"{chosen.output}: EDV {heart.edv_ml:.0f} mL, EF {100.0 * heart.ejection_fraction:.0f} %, "
        f"mass {heart.mass_g:.0f} g"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
