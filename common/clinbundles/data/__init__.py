"""Data sets as manifests describe them, turned into the lists of cases that MONAI's data sets take."""

from clinbundles.data.case_listing import datalist
from clinbundles.data.content_hash import manifest_hash
from clinbundles.data.manifest import Manifest, available_manifests, read_manifest
from clinbundles.data.problems import ManifestError, MissingDataError, SimulatedSetError

__all__ = [
    "Manifest",
    "ManifestError",
    "MissingDataError",
    "SimulatedSetError",
    "available_manifests",
    "datalist",
    "manifest_hash",
    "read_manifest",
]
