"""Serve bundles to 3D Slicer and OHIF: python -m clinbundles.hosts.label BUNDLE [BUNDLE ...] --studies FOLDER."""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from clinbundles.hosts.hosted_bundle import BundleError, find_bundle
from clinbundles.hosts.label.bundle_settings import settings_of_each
from clinbundles.hosts.label.torchvision_operators import make_torchvision_importable

_SWITCHES = {"true": True, "false": False}
_MAIN = "from clinbundles.hosts.label.label_app import LabelApp as LabelApp  # MONAI Label looks for it here\n"


def main(words: list[str] | None = None) -> None:
    """Read the command line, make the workspace, start the server in this process."""
    arguments, rest = _parser().parse_known_args(words)
    try:
        bundles = [find_bundle(name) for name in arguments.bundles]
        names = [bundle.name for bundle in bundles]
        if len(set(names)) < len(names):
            raise BundleError(f"each bundle is served once, found {', '.join(names)}")
        for bundle in bundles:
            bundle.refuse_raw_data("viewers of MONAI Label show images")
            if bundle.takes_exam:
                raise BundleError(
                    f"{bundle.name} takes all images of an examination at once, and viewers of MONAI Label show one: "
                    "use its command line, or MONAI Deploy"
                )
        settings = _settings(rest)
        settings_of_each(bundles, settings)
        studies = _studies(arguments.studies)
        workspace = Path(arguments.workspace or _usual_workspace(studies)).expanduser().resolve()
        _refuse_taken_port(arguments.host, arguments.port)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    (workspace / "main.py").write_text(_MAIN, encoding="utf-8")
    _set_defaults(workspace)
    print(f"Bundles:   {', '.join(names)}")
    print(f"Studies:   {studies}")
    print(f"Workspace: {workspace} (log, trained weights)")
    print(f"Address:   http://{arguments.host}:{arguments.port} (stop with Ctrl+C)")
    print(bundles[0].notice, flush=True)
    if not _is_loopback(arguments.host) and os.environ.get("MONAI_LABEL_AUTH_ENABLE", "").lower() not in ("true", "1"):
        print(
            f"WARNING: on {arguments.host} everybody in the network can read all studies and change their labels. Use "
            "127.0.0.1, or switch authentication on (MONAI_LABEL_AUTH_ENABLE, see docs/label.md) behind TLS.",
            file=sys.stderr,
            flush=True,
        )
    conf = {"bundles": json.dumps([str(bundle.root) for bundle in bundles]), "settings": json.dumps(settings)}
    _serve(workspace, studies, conf, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.hosts.label",
        description="Serve bundles to 3D Slicer and OHIF through MONAI Label. Research use only.",
        epilog="Any other --NAME VALUE sets an id of the bundles' inference configs, such as --fov_mm 6.",
        allow_abbrev=False,
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="name of an installed bundle, or its folder")
    parser.add_argument("--studies", required=True, help="folder with the images, or address of a DICOMweb store")
    parser.add_argument("--workspace", help="folder for log and trained weights; default: one for each studies folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--ssl_keyfile", help="key for HTTPS")
    parser.add_argument("--ssl_certfile", help="certificate for HTTPS")
    return parser


def _settings(words: list[str]) -> dict[str, Any]:
    """``--name value`` and ``--name=value`` as the bundle command line reads them."""
    settings: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (equals or rest):
            raise ValueError(f"{word!r} is not understood: settings are given as --NAME VALUE; see --help")
        text = value if equals else rest.pop(0)
        settings[name.replace("-", "_")] = _SWITCHES.get(text.lower(), DefaultParseValue(text))
    return settings


def _studies(text: str) -> str:
    if text.startswith(("http://", "https://")):
        return text.rstrip("/")
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"the studies folder {folder} does not exist: give the folder that holds the images")
    return str(folder)


def _usual_workspace(studies: str) -> Path:
    """A place of the user's own that is the same each time for the same studies."""
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    name = "".join(letter if letter.isalnum() else "_" for letter in studies.rsplit("/", 1)[-1])
    return base / "clinbundles" / "label" / f"{name}_{hashlib.sha256(studies.encode()).hexdigest()[:8]}"


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _set_defaults(workspace: Path) -> None:
    """MONAI Label's settings, which the processes that it starts for training must see too."""
    os.environ.setdefault("PYTHONPATH", "")  # MONAI Label reads it unasked
    os.environ.setdefault("MONAI_LABEL_SESSION_PATH", str(workspace / "sessions"))
    os.environ.setdefault("MPLBACKEND", "Agg")
    for part in ("USERNAME", "PASSWORD"):  # of the DICOMweb store; its proxy for OHIF knows the older name alone
        os.environ.setdefault(f"MONAI_LABEL_DICOMWEB_{part}", os.environ.get(f"MONAI_LABEL_DATASTORE_{part}", ""))


def _serve(workspace: Path, studies: str, conf: dict[str, str], arguments: argparse.Namespace) -> None:
    make_torchvision_importable()
    from monailabel.main import Main  # only now: it imports torchvision

    words = ["start_server", "--app", str(workspace), "--studies", studies]
    words += ["--host", arguments.host, "--port", str(arguments.port)]
    words += ["--uvicorn_app", "clinbundles.hosts.label.server:app"]
    for name, value in conf.items():
        words += ["--conf", name, value]
    for name in ("ssl_keyfile", "ssl_certfile"):
        if getattr(arguments, name):
            words += [f"--{name}", getattr(arguments, name)]
    server = Main()
    server.action_start_server(server.args_parser().parse_args(words))


if __name__ == "__main__":
    main()
