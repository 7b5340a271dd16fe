"""Raw MR data in and cines out: readers of k-space, checks, and writers that scanners' viewers open."""

from clinbundles.kspace.cases_by_slice import cases_by_slice
from clinbundles.kspace.check_kspace import CheckKspaced
from clinbundles.kspace.fully_sampled_reference import FullySampledReferenced
from clinbundles.kspace.kspace_case import KspaceError
from clinbundles.kspace.load_kspace import LoadKspaced
from clinbundles.kspace.prepare_coils import CompressCoilsd, EstimateSensitivityMapsd
from clinbundles.kspace.sample_lines import SampleLinesd
from clinbundles.kspace.save_cine import SaveCined

__all__ = [
    "CheckKspaced",
    "CompressCoilsd",
    "EstimateSensitivityMapsd",
    "FullySampledReferenced",
    "KspaceError",
    "LoadKspaced",
    "SampleLinesd",
    "SaveCined",
    "cases_by_slice",
]
