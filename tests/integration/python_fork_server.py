"""A Python that has imported the libraries, and runs each command in a fork of itself.

To start a bundle's run, Python imports PyTorch, MONAI and MLflow: four seconds of a core, far more than the small runs
of the tests need themselves. The server imports once; :mod:`forked_python` stands for the command `python` and asks it.
A command runs in a process of its own all the same, in the working directory, environment and mounts of the one who
asks and on its standard streams; what it starts by `sys.executable` (torchrun's workers, FLARE's sites) are forks, too.
An ordinary Python runs the first training of each bundle, packages in fresh environments, and runs that are killed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).with_name("forked_python.py")
PYTHON = "python"
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_START_S = 120


@dataclass
class ForkServer:
    """The server, started when it is first needed; ends with this process."""

    process: subprocess.Popen[bytes] | None = None
    folder: tempfile.TemporaryDirectory[str] | None = None

    def python(self) -> str:
        """The program that stands for `python` in a command."""
        if not Path("/proc/self/ns").exists():  # not Linux
            return sys.executable
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.folder is not None
        return str(Path(self.folder.name, PYTHON))

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="fork_server_")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}
        environment["MONAI_FAIL_ON_DUPLICATE_CONFIG"] = "1"
        address, stub = Path(self.folder.name, "socket"), Path(self.folder.name, PYTHON)
        stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{CLIENT}" "{address}" "$@"\n')
        stub.chmod(0o700)
        self.process = subprocess.Popen([sys.executable, __file__, str(address)], env=environment)
        atexit.register(self.stop)
        end = time.monotonic() + _START_S
        while not address.exists():
            assert self.process.poll() is None, "the fork server did not start"
            assert time.monotonic() < end, f"the fork server needs more than {_START_S} s"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and whatever still runs in its forks."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)


SERVER = ForkServer()
"""Of this process of tests."""


def serve(address: str) -> dict[str, Any]:
    """Fork for each request. Returns in the forks only, with the command to run."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address + ".new")
    listener.listen(64)
    os.rename(address + ".new", address)  # it is there when it can be used
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    askers: dict[int, socket.socket] = {}  # process -> who waits for its end
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    selector.register(wake, selectors.EVENT_READ)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    request, streams = _receive(connection)
                    child = os.fork()
                    if child == 0:
                        signal.set_wakeup_fd(-1)
                        selector.close()
                        listener.close()
                        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                        for other in (connection, *askers.values()):
                            other.close()
                        askers.clear()
                        asker = int.from_bytes(peer[:4], sys.byteorder)
                        return {**request, "streams": streams, "asker": asker, "address": address}
                    for stream in streams:
                        os.close(stream)
                    askers[child] = connection
                    selector.register(connection, selectors.EVENT_READ, child)
                elif key.fileobj == wake:
                    os.read(wake, 4096)
                else:
                    numbers = key.fileobj.recv(100)
                    _pass_on(numbers, key.data)
                    if not numbers:
                        selector.unregister(key.fileobj)
            _answer_for_the_ended(askers, selector)
    finally:
        for child in askers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)


def _pass_on(numbers: bytes, child: int) -> None:
    """Send the signals that the asker got; one that is gone takes with it what it has asked for."""
    with contextlib.suppress(ProcessLookupError):
        for number in numbers:
            os.kill(child, number)
        if not numbers:
            os.killpg(child, signal.SIGKILL)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.setblocking(True)
    content, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not content.endswith(b"\n"):
        content += connection.recv(1 << 20)
    return json.loads(content), list(streams)


def _answer_for_the_ended(askers: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    while askers:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        connection = askers.pop(child)
        with contextlib.suppress(KeyError):
            selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        connection.close()


def become(command: dict[str, Any]) -> None:
    """Turn this fork into the process that was asked for, and run its module or script."""
    os.setsid()
    for number, stream in enumerate(command["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(command["environment"])
    mounts = f"/proc/{command['asker']}/ns/mnt"
    if os.readlink(mounts) != os.readlink("/proc/self/ns/mnt"):
        with open(mounts) as namespace:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(namespace.fileno(), _NEW_MOUNTS):
                raise OSError(ctypes.get_errno(), "cannot enter the mounts of the one who asks")
    os.chdir(command["folder"])
    sys.executable = str(Path(command["address"]).with_name(PYTHON))  # what the command starts are forks, too
    first, *rest = command["words"]
    while first == "-u":
        first, *rest = rest
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


def end(run: Callable[[dict[str, Any]], None], command: dict[str, Any]) -> None:
    """Run, then end as Python does, but without taking the libraries apart, which takes a second and more."""
    code: Any = 0
    try:
        run(command)
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    import highdicom  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import mlflow  # noqa: F401
    import monai.bundle  # noqa: F401
    import torch.distributed.run  # noqa: F401

    import clinbundles.engines.study_evaluator
    import clinbundles.handlers
    import clinbundles.transforms.load_image_study  # noqa: F401

    gc.freeze()  # a collection in a fork would write to, and so copy, every page of the libraries
    end(become, serve(sys.argv[1]))
