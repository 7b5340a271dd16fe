"""Simulated data sets: generated on first use, one folder per case, whole or not there at all.

A set lies in `<dataset_dir>/<name of the manifest>/`: `set.json` says which simulator and arguments made it, each
folder `<seed>` is one case with the simulator's files and `case.json`. A case is made in a hidden folder and renamed
when it is complete, so that a run may be broken off anywhere and is continued by the next one.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import filelock
import numpy
from tqdm import tqdm

from clinbundles.data.content_hash import file_hash
from clinbundles.data.manifest import Manifest
from clinbundles.data.problems import ManifestError, MissingDataError, SimulatedSetError

_LOG = logging.getLogger(__name__)

Simulator = Callable[..., dict[str, Any]]
"""`simulate(folder, seed, **arguments)` writes files into `folder` (Path) and returns the case's dictionary.

A value that is a Path, or a text that names a file written, is a file relative to `folder`; all others are plain JSON.
A case of several independent samples, such as the images of a patient, has them as `records`, a list of dictionaries.
Everything random comes from `seed`. If the code changes its output, raise `SIMULATOR_REVISION` of its module.
"""


def cache_folder() -> Path:
    """Where simulated sets go unless a folder is given: $CLINBUNDLES_CACHE, else ~/.cache/clinbundles."""
    chosen = os.environ.get("CLINBUNDLES_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "clinbundles"


def simulated_cases(
    manifest: Manifest,
    parent: Path,
    split: str,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Cases of a simulated set in the order of their seeds; those that are missing are generated first.

    A case that has `records` gives one dictionary for each of them, which also holds what is said of the whole case;
    `limit` counts cases.

    Several processes may ask at once: one generates, the others wait for it. A complete set is only read, so that it
    may lie on a read-only disk.

    Raises:
        SimulatedSetError: the folder was made with other arguments, or the simulator breaks its agreement.
        MissingDataError: a file of a finished case was deleted or cut short.
    """
    if manifest.simulator is None:
        raise ManifestError(f"{manifest.path} has no simulator")
    target, arguments = manifest.simulator
    seeds = _seeds(manifest, split)[:limit]
    folder = parent.resolve() / manifest.name
    recipe = {"simulator": target, "revision": _revision(target), "arguments": arguments}
    if not all(_case_file(folder, seed).is_file() for seed in seeds):
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            _refuse_other_recipe(folder, recipe)
            _remove_leftovers(folder)
            _note_recipe(folder, recipe)
            todo = [seed for seed in seeds if not _case_file(folder, seed).is_file()]
            with tqdm(
                total=len(todo), desc=f"simulating {manifest.name}", unit="case", disable=not (progress and todo)
            ) as bar:
                for _ in _generate(folder, target, arguments, todo, workers):
                    bar.update()
    _refuse_other_recipe(folder, recipe)
    return [record for seed in seeds for record in _read_case(folder, seed)]


def generate_case(folder: Path, target: str, arguments: dict[str, Any], seed: int) -> int:
    """Make one case under the set's folder, visible only when it is complete; returns the seed."""
    simulate = _simulator(target)
    final = folder / _case_name(seed)
    if final.exists():
        raise MissingDataError(f"{final} has lost its case.json: delete that folder, the next run makes it again")
    workshop = folder / f".making-{seed}-{uuid.uuid4().hex}"
    workshop.mkdir()
    try:
        try:
            returned = simulate(workshop, seed, **arguments)
        except TypeError as problem:
            if problem.__traceback__ is not None and problem.__traceback__.tb_next is None:
                raise SimulatedSetError(f"{target} does not take the manifest's arguments: {problem}") from None
            raise
        record = {"seed": seed, **_plain_case(returned, workshop, target)}
        _write_json(workshop / "case.json", record)
        for path in workshop.rglob("*"):
            _flush(path)
        os.replace(workshop, final)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return seed


def _generate(folder: Path, target: str, arguments: dict[str, Any], seeds: list[int], workers: int) -> Iterator[int]:
    if workers <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield generate_case(folder, target, arguments, seed)
        return
    # A forked child of a process that has used threads (PyTorch, numba) may hang: start fresh ones.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=context) as pool:
        tasks = [pool.submit(generate_case, folder, target, arguments, seed) for seed in seeds]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _seeds(manifest: Manifest, split: str) -> list[int]:
    chosen = manifest.splits.values() if split == "all" else [manifest.splits[split]]
    return [seed for part in chosen for seed in range(part["first_seed"], part["first_seed"] + part["cases"])]


def _simulator(target: str) -> Simulator:
    module_name, _, name = target.rpartition(".")
    if not name.startswith("simulate"):  # a manifest is data: it must not be able to call anything else
        raise SimulatedSetError(f"the simulator {target} is refused: the name of a simulator begins with 'simulate'")
    try:
        simulate = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as problem:
        raise SimulatedSetError(
            f"the simulator {target} cannot be imported ({problem}): is the project installed here?"
        ) from problem
    if not callable(simulate):
        raise SimulatedSetError(f"{module_name} has no function {name!r}, which the manifest names as its simulator")
    return simulate


def _revision(target: str) -> int:
    module = importlib.import_module(_simulator(target).__module__)
    return int(getattr(module, "SIMULATOR_REVISION", 1))


def _plain_case(returned: Any, workshop: Path, target: str) -> dict[str, Any]:
    """What case.json says of a case: `entry`, `files` and, where there are any, `records` of both."""
    if not isinstance(returned, dict):
        raise SimulatedSetError(f"{target} returned {type(returned).__name__}, expected the dictionary of the case")
    of_case = {key: value for key, value in returned.items() if key != "records"}
    case = _plain(of_case, workshop, target)
    parts = [case]
    if "records" in returned:
        case["records"] = [_plain(record, workshop, target) for record in returned["records"]]
        parts += case["records"]
    if not any(part["files"] for part in parts):
        raise SimulatedSetError(f"{target} returned no file: expected names of files that it wrote into its folder")
    return case


def _plain(returned: dict[str, Any], workshop: Path, target: str) -> dict[str, Any]:
    """`entry`: JSON; `files`: for each key that is a file, its name, size and hash."""
    entry, files = {}, {}
    for key, value in returned.items():
        is_path = isinstance(value, os.PathLike)
        path = workshop / os.fspath(value) if is_path or (isinstance(value, str) and value) else None
        if path is not None and path.is_file():
            name = path.relative_to(workshop).as_posix()
            files[key] = {"name": name, "bytes": path.stat().st_size, "sha256": file_hash(path)}
        elif is_path:
            raise SimulatedSetError(f"{target} says that {key!r} is the file {value}, but wrote no such file")
        else:
            entry[key] = value
    try:
        json.dumps(entry)
    except TypeError as problem:
        raise SimulatedSetError(f"{target} returned values that JSON cannot hold: {problem}") from None
    return {"entry": entry, "files": files}


def _read_case(folder: Path, seed: int) -> list[dict[str, Any]]:
    name, place = _case_name(seed), folder / _case_name(seed)
    said = json.loads(_case_file(folder, seed).read_text(encoding="utf-8"))
    case = {"case": name, "patient": name, **_with_paths(said, place)}
    if "records" not in said:
        return [case]
    return [
        {**case, "case": f"{name}_{number}", **_with_paths(record, place)}
        for number, record in enumerate(said["records"])
    ]


def _with_paths(said: dict[str, Any], place: Path) -> dict[str, Any]:
    """An entry with the absolute paths of its files, which must be there in full."""
    entry = dict(said["entry"])
    for key, file in said["files"].items():
        path = place / file["name"]
        size = path.stat().st_size if path.is_file() else None
        if size != file["bytes"]:
            found = "missing" if size is None else f"{size} bytes long instead of {file['bytes']}"
            raise MissingDataError(f"{path} is {found}: delete the folder {place}, the next run makes it again")
        entry[key] = str(path)
    return entry


def _refuse_other_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    path = folder / "set.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(recipe))
    changes = [
        f"{key} was {before[key]!r}, is now {now[key]!r}"
        for key in ("simulator", "revision")
        if before[key] != now[key]
    ]
    old, new = before["arguments"], now["arguments"]
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            changes.append(f"{key} was {old.get(key, 'not given')!r}, is now {new.get(key, 'not given')!r}")
    if changes:
        raise SimulatedSetError(
            f"the simulated set in {folder} was made differently: {'; '.join(changes)}. It is not reused. Delete that "
            "folder (it holds nothing but generated cases) or let dataset_dir name another one"
        )


def _note_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    path, versions = folder / "set.json", {"numpy": numpy.__version__}
    if not path.is_file():
        _write_json(path, {**recipe, "made_with": versions})
        return
    before = json.loads(path.read_text(encoding="utf-8"))["made_with"]
    if before != versions:
        _LOG.warning(
            "%s was begun with %s and is continued with %s: cases may differ in detail", folder, before, versions
        )


def _remove_leftovers(folder: Path) -> None:
    """Remove what broken-off runs left; only the holder of the lock may do so."""
    for path in folder.glob(".making-*"):
        shutil.rmtree(path, ignore_errors=True)


def _lock(folder: Path) -> filelock.BaseFileLock:
    # fcntl frees the lock when its holder dies: nothing to clean up after a crash.
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0.1)
    except filelock.Timeout:
        _LOG.warning("another process generates %s: waiting for it", folder)
        return lock
    lock.release()
    return lock


def _case_name(seed: int) -> str:
    return f"{seed:06d}"


def _case_file(folder: Path, seed: int) -> Path:
    return folder / _case_name(seed) / "case.json"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    beside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _flush(path: Path) -> None:
    """Put a file onto the disk before the rename that makes it count (a power cut may come in between)."""
    if path.is_file():
        with open(path, "r+b") as file:
            os.fsync(file.fileno())
