"""A federation whose sites run `bad_site.py`: `python federations.py FILE`, the file by :func:`federation`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinbundles.hosts.federated.federated_plan import make_plan
from clinbundles.hosts.federated.simulation import SimulationError, simulate
from clinbundles.hosts.hosted_bundle import find_bundle

WAIT_S = 5


def federation(root: Path, data: Sequence[Path], folder: Path, **numbers: int) -> list[Path]:
    """The command's words, without Python's."""
    description = folder.with_suffix(".json")
    content = {"bundle": str(root), "data": [str(path) for path in data], "folder": str(folder), "numbers": numbers}
    description.write_text(json.dumps(content))
    return [Path(__file__), description]


def environment(broken: Mapping[str, Mapping[str, str]] | None) -> dict[str, str]:
    """Environment of a federation: one thread a process, and what the broken sites do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "BROKEN_SITES": json.dumps(broken or {})}


def main(description: Path) -> None:
    content = json.loads(description.read_text())
    folder, numbers = Path(content["folder"]), content["numbers"]
    plan = make_plan(
        find_bundle(content["bundle"]),
        ("configs/train.yaml",),
        {},
        local_epochs=3,
        output_dir=folder,
        site_data=content["data"][: numbers["sites"]],
        wait_s=WAIT_S,
        **numbers,
    )
    try:
        simulate(plan, folder, client_script=Path(__file__).with_name("bad_site.py"))
    except SimulationError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
