"""From a bundle and a few numbers to the plan of a federated training, with all that can be wrong checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinbundles.command_line_overrides import command_line_overrides, refuse_wrong_overrides
from clinbundles.hosts.federated.federated_job import FederatedPlan
from clinbundles.hosts.federated.shared_network import training_config
from clinbundles.hosts.federated.site_settings import deal_out, folder_settings, output_settings
from clinbundles.hosts.hosted_bundle import HostedBundle, installed_bundles

NEEDED_IDS = ("training_cases", "validation_cases", "epochs", "ckpt", "resume", "val_interval", "seed", "workers")
OWN_IDS = {
    "epochs": "give --rounds and --local_epochs",
    "resume": "a federated training starts anew; --ckpt gives weights to start from",
    "output_dir": "each site has its own, below --output_dir",
    "ckpt_dir": "each site has its own, below --output_dir",
    "training_cases": "give --site_data, or a manifest",
    "validation_cases": "give --site_data, or a manifest",
}


def training_config_names(bundle: HostedBundle, chosen: Sequence[str], own_cases: bool) -> tuple[str, ...]:
    """Configs of the training, relative to the bundle: those chosen, or the bundle's own.

    Args:
        bundle: the bundle.
        chosen: names in `configs/`, with or without ending; empty: `train`, and for cases of one's own also
            `finetune`, where a bundle needs another recipe for images with labels.
        own_cases: whether the sites bring images with labels.
    """
    if chosen:
        files = [bundle.config(name.removesuffix(".yaml").removesuffix(".json")) for name in chosen]
    else:
        files = bundle.training_configs if own_cases else [bundle.config("train")]
    return tuple(file.relative_to(bundle.root).as_posix() for file in files)


def read_overrides(bundle: HostedBundle, configs: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """Config ids set on the command line, checked as `monai.bundle run` would check them.

    Raises:
        ValueError: a word that is no override, an unknown id, or one that the federated training sets itself.
    """
    if words and not words[0].startswith("--"):
        raise ValueError(f"unexpected {words[0]!r}: overrides have the form --id value")
    files = str([str(bundle.root / name) for name in configs])
    command = ["monai/bundle/__main__.py", "run", "--config_file", files, *words]
    refuse_wrong_overrides(command)
    overrides = command_line_overrides(command)
    for name in overrides.keys() & OWN_IDS.keys():
        raise ValueError(f"--{name} cannot be set for a federated training: {OWN_IDS[name]}")
    return overrides


def make_plan(
    bundle: HostedBundle,
    configs: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    rounds: int,
    local_epochs: int,
    sites: int,
    min_sites: int | None = None,
    output_dir: Path | None = None,
    site_data: Sequence[str] = (),
    wait_s: int = 600,
    round_limit_s: int = 0,
    largest_update: float = 5.0,
) -> FederatedPlan:
    """The plan of a simulation, or without `output_dir` that of a job for hospitals.

    Each simulated site gets a folder of `site_data`; without these the training cases of the config are dealt to the
    sites by patient, in an order that the config's `seed` fixes, and so are the validation cases if there are enough
    patients (else every site has all of them).

    Raises:
        ValueError: numbers that cannot be; a config without the ids that a host needs; too few patients.
        clinbundles.data.MissingDataError: a site's cases are not there.
    """
    min_sites = sites if min_sites is None else min_sites
    if rounds < 1 or local_epochs < 1 or not 1 <= min_sites <= sites:
        raise ValueError(
            f"{rounds} rounds of {local_epochs} epochs at {sites} sites, of which {min_sites} must deliver: expected "
            "at least 1 of each, and no more sites that must deliver than sites"
        )
    installed = installed_bundles().get(bundle.name) == bundle.root
    name = bundle.name if installed else str(bundle.root)
    if output_dir is None and not installed:
        raise ValueError(f"a job for hospitals names its bundle, so {bundle.name} must be an installed package")
    raw = training_config(name, configs, overrides)
    missing = [key for key in NEEDED_IDS if key not in raw]
    if missing:
        raise ValueError(f"{bundle.name}, {' + '.join(configs)}: a host needs the ids {', '.join(missing)}")
    settings = {
        "val_interval": local_epochs,
        **({} if output_dir is None else {"workers": 0}),  # one process a site: cores are few
        **overrides,
        "epochs": rounds * local_epochs,
        "resume": False,
        "ckpt": None,  # the server sends the weights; a site that loads its own file would forget them each round
    }
    plan = FederatedPlan(
        bundle=name,
        configs=tuple(configs),
        rounds=rounds,
        local_epochs=local_epochs,
        key_metric=next(iter(raw["validate#key_metric"])),
        min_sites=min_sites,
        settings=settings,
        initial={"ckpt": raw["ckpt"]},
        sites={} if output_dir is None else _simulated_sites(name, configs, settings, sites, output_dir, site_data),
        wait_s=wait_s,
        round_limit_s=round_limit_s,
        largest_update=largest_update,
    )
    return plan


def _simulated_sites(
    bundle: str,
    configs: Sequence[str],
    settings: Mapping[str, Any],
    sites: int,
    output_dir: Path,
    site_data: Sequence[str],
) -> dict[str, dict[str, Any]]:
    names = [f"site-{number}" for number in range(1, sites + 1)]
    folders = {site: output_dir / "sites" / site for site in names}
    if site_data:
        if len(site_data) != sites:
            raise ValueError(f"--site_data has {len(site_data)} folders for {sites} sites")
        own = {site: folder_settings(data, folders[site]) for site, data in zip(names, site_data, strict=True)}
        for site in names:  # a missing file must be found now, not by a site in the middle of the first round
            own[site] |= _cases(bundle, configs, {**settings, **own[site]})
        return own
    cases = _cases(bundle, configs, settings)
    seed = int(training_config(bundle, configs, settings).get_parsed_content("seed"))
    training = deal_out(cases["training_cases"], sites, seed)
    try:
        validation = deal_out(cases["validation_cases"], sites, seed)
    except ValueError:
        validation = [cases["validation_cases"]] * sites
    return {
        site: {**output_settings(folders[site]), "training_cases": mine, "validation_cases": checked}
        for site, mine, checked in zip(names, training, validation, strict=True)
    }


def _cases(bundle: str, configs: Sequence[str], settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    parser = training_config(bundle, configs, settings)
    try:
        return {key: parser.get_parsed_content(key) for key in ("training_cases", "validation_cases")}
    except RuntimeError as error:
        cause: BaseException = error  # MONAI wraps what a component raises; its message names no file
        while isinstance(cause, RuntimeError) and cause.__cause__:
            cause = cause.__cause__
        raise cause from None
