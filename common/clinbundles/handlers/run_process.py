"""Runs whose process is gone: a killed process (SIGKILL, out of memory, power cut) cannot close its own run.

Each run carries tags that tell the process that opened it. Whoever opens a run later in the same experiment, on the
same machine, marks those as failed that are still "running" while their process is not. This needs Linux's /proc;
elsewhere such a run stays "running", and is not continued either.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import mlflow

__all__ = ["end_runs_of_dead_processes", "process_tags"]

TAG_MACHINE = "clinbundles.machine"
TAG_PROCESS = "clinbundles.process"

_REASON = "process was killed: it ended without closing the run (seen when the next run was opened)"


def process_tags() -> dict[str, str]:
    """Tags by which this process can be recognised: a hash for the machine; process id, its start, the boot."""
    identity = _identity(os.getpid())
    return {TAG_MACHINE: _machine(), TAG_PROCESS: identity} if identity else {}


def end_runs_of_dead_processes(client: mlflow.MlflowClient, experiment_id: str, end_tag: str) -> list[str]:
    """Mark as FAILED what processes of this machine left open; gives the ids of those runs.

    Args:
        client: MLflow client of the store.
        experiment_id: experiment in that store.
        end_tag: tag that gets the reason.
    """
    if not process_tags():
        return []
    query = f"attributes.status = 'RUNNING' and tags.`{TAG_MACHINE}` = '{_machine()}'"
    ended = []
    for run in client.search_runs([experiment_id], filter_string=query):
        identity = run.data.tags.get(TAG_PROCESS, "")
        number = identity.split(" ")[0]
        if number.isdecimal() and identity != _identity(int(number)):
            client.set_tag(run.info.run_id, end_tag, _REASON)
            client.set_terminated(run.info.run_id, "FAILED")
            ended.append(run.info.run_id)
    return ended


def _identity(process: int) -> str:
    """A running process as id, clock ticks from boot to its start, boot: shared by no two. "" if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from the state on; the name before it may hold blanks
    return "" if fields[0] in "ZX" else f"{process} {fields[19]} {boot[:8]}"


def _machine() -> str:
    """The same for processes that see each other: two containers of one name on one host do not."""
    namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:16]
