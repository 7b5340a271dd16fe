"""Settings that the user gives for all bundles at once: each bundle gets those that its inference config has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from monai.bundle import ConfigParser

from clinbundles.hosts.hosted_bundle import BundleError, HostedBundle


def settings_of_each(bundles: Iterable[HostedBundle], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Bundle name to its part of the settings.

    Raises:
        BundleError: a setting that no bundle has; names similar ones.
    """
    ids = {
        bundle.name: {str(key) for key in ConfigParser.load_config_file(str(bundle.config("inference")))}
        for bundle in bundles
    }
    known = sorted({key for keys in ids.values() for key in keys if not key.startswith("_")})
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean --{close[0]}? " if close else ""
            raise BundleError(
                f"--{name} is no option of the server and no setting of {', '.join(ids) or 'a bundle'}; {hint}settings "
                f"are the ids of configs/inference: {', '.join(known)}"
            )
    return {name: {key: value for key, value in settings.items() if key in keys} for name, keys in ids.items()}
