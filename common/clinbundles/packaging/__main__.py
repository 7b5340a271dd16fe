"""`python -m clinbundles.packaging BUNDLE`: write the bundle's zip."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Write dist/NAME_vVERSION.zip: the bundle with JSON twins of its configs, TorchScript (models/model.ts), ONNX
(models/model.onnx, where the network has that form) and SHA256SUMS. The zip is checked by the rules of the MONAI Model
Zoo and written only if all hold; the same bundle gives the same bytes. See docs/packaging.md for what to do with it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m clinbundles.packaging", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", help="name of an installed bundle, or a bundle's folder")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the zip (default: dist)")
    parser.add_argument("--overwrite", action="store_true", help="replace another zip of the same version")
    parser.add_argument("--without-onnx", action="store_true", help="write no ONNX file")
    parser.add_argument(
        "--large-files-url", metavar="URL", help="where files above 25 MB will be found; they are left out of the zip"
    )
    options = parser.parse_args(arguments)

    from clinbundles.hosts.hosted_bundle import BundleError, find_bundle
    from clinbundles.packaging.bundle_package import package_bundle
    from clinbundles.packaging.packaging_error import PackagingError

    try:
        package = package_bundle(
            find_bundle(options.bundle),
            options.output,
            large_files_url=options.large_files_url,
            overwrite=options.overwrite,
            onnx=not options.without_onnx,
        )
    except (BundleError, PackagingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for form, difference in package.differences.items():
        print(f"{form}: as the network, greatest difference {difference:.0e} of its output")
    if package.without_onnx:
        print(f"ONNX: none ({package.without_onnx})")
    if package.large_files:
        print(f"to upload: {package.large_files}")
    size = package.path.stat().st_size / 2**20
    print(f"{'written' if package.is_new else 'unchanged'}: {package.path} ({size:.1f} MB)")
    print(f"sha256: {package.sha256}")
    return 0


if __name__ == "__main__":
    # TorchScript writes Python's sets in their order, which differs between processes unless the hash seed is fixed.
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "clinbundles.packaging", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode)
    logging.disable(logging.WARNING)  # MONAI lists the arguments of each of its commands
    warnings.simplefilter("ignore")  # of the exporters, about their own future
    sys.exit(main())
