"""Starting torchrun as a user does, and waiting for its end with a limit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from python_fork_server import SERVER
from toy_bundles import make_toy_bundle

OVERLAYS = Path(__file__).resolve().parents[3] / "bundles" / "retinal_octa_vessel_segmentation" / "configs"
ONE_NODE = ("--standalone", "--nnodes=1", "--nproc_per_node=2")
LIMIT_S = 120


def toy_with_log(folder: Path) -> Path:
    """A toy bundle that says what it does, as the real ones do; gives its configs folder."""
    configs = make_toy_bundle("toy_volume_labels", folder) / "configs"
    shutil.copy(OVERLAYS / "logging.conf", configs)
    return configs


def start(
    folder: Path, launch: tuple[str, ...], configs: list[Path], python: str | None = None, **overrides: object
) -> subprocess.Popen[str]:
    """Start `monai.bundle run` in one process (no `launch`) or under torchrun; all output in one pipe.

    Without `python`, processes are forks of one that has the libraries already (python_fork_server.py).
    """
    folder.mkdir(parents=True, exist_ok=True)
    torchrun = ("-m", "torch.distributed.run", *launch) if launch else ()
    root = configs[0].parents[1]
    command = [python or SERVER.python(), *torchrun, "-m", "monai.bundle", "run", "--bundle_root", str(root)]
    command += ["--config_file", str([str(path) for path in configs])]
    command += [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def end(process: subprocess.Popen[str]) -> str:
    """Everything that the command has printed, once it has ended."""
    try:
        return process.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still running after {LIMIT_S} s: {process.communicate()[0][-3000:]}") from None


def process_of_rank(torchrun: subprocess.Popen[str], rank: int) -> int:
    """Process id of one of torchrun's processes."""
    stop = time.time() + LIMIT_S
    while time.time() < stop and torchrun.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                variables = (entry / "environ").read_bytes().split(b"\0") if parent == torchrun.pid else []
            except OSError:
                continue
            if f"RANK={rank}".encode() in variables:
                return int(entry.name)
        time.sleep(0.2)
    raise AssertionError(f"no process of rank {rank}: {torchrun.communicate()[0][-3000:]}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
