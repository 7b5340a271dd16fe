"""Fixed filters whose weighted sums are the convolution filters that commute with a group; sampled by e2cnn.

Weiler and Cesa, General E(2)-Equivariant Steerable CNNs (NeurIPS 2019), section 2.5: circular harmonics up to a band
limit on rings with Gaussian profiles, in the frame of regular fields.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from e2cnn import gspaces
from e2cnn.nn.modules.r2_conv.basisexpansion_singleblock import normalize_basis
from e2cnn.nn.modules.r2_conv.r2convolution import compute_basis_params

from clinbundles.privacy.steerable.e2cnn_numpy import e2cnn_numpy
from clinbundles.privacy.steerable.symmetry_group import symmetry_group

_SMALLEST_NORM = 1e-2  # e2cnn drops filters whose squared norm is below, as they vanish on the pixels


class SteerableBasis(NamedTuple):
    """Filters from one input field to one output field, with what makes a layer of them.

    `filters` (K, G_out, G_in, k*k) float32; `spread` (K,) float32: standard deviation of each coefficient at
    initialisation, for one input field; `bias_scale`: what one bias of a field adds to each of its channels.
    """

    filters: torch.Tensor
    spread: torch.Tensor
    bias_scale: float


@cache
def steerable_basis(
    group: str, kernel_size: int, input_type: str = "regular", frequency_cutoff: float | None = None
) -> SteerableBasis:
    """Basis of the filters from one field to one regular field; computed once per process.

    Args:
        group: a name in `GROUPS`.
        kernel_size: odd width of the filters in pixels.
        input_type: "regular" (a channel per group element) or "trivial" (an image: one channel that only turns).
        frequency_cutoff: highest angular frequency at radius r pixels is this times r; None: e2cnn's own limit.

    Raises:
        ValueError: an argument outside what is named here.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}: only odd sizes have a centre that rotations keep")
    if input_type not in ("regular", "trivial"):
        raise ValueError(f"input_type is {input_type!r}: expected 'regular' or 'trivial'")
    if frequency_cutoff is not None and not frequency_cutoff > 0:
        raise ValueError(f"frequency_cutoff is {frequency_cutoff}: expected a positive factor of the radius, or None")
    space = plane_symmetry(group)
    output = space.regular_repr
    source = output if input_type == "regular" else space.trivial_repr
    factor = None if frequency_cutoff is None else float(frequency_cutoff)
    # kept for the process, so on the CPU even when the first layer is made on the device "meta"
    with e2cnn_numpy(), torch.device("cpu"):
        grid, keep, rings, widths, highest = compute_basis_params(kernel_size, factor)
        basis = space.build_kernel_basis(
            source, output, sigma=widths, rings=rings, maximum_offset=None, maximum_frequency=highest
        )
        elements = [element for element in basis if keep(element)]
        mask = np.array([keep(element) for element in basis], dtype=bool)
        sampled = torch.tensor(basis.sample_masked(grid, mask=mask), dtype=torch.float32).permute(2, 0, 1, 3)
        filters = normalize_basis(sampled, torch.tensor([float(element["shape"][0]) for element in elements]))
        kept = filters.square().flatten(1).sum(1) > _SMALLEST_NORM
        spread = _spread([element for element, keep_it in zip(elements, kept.tolist(), strict=True) if keep_it])
    bias = np.unique(np.float32(output.change_of_basis[:, 0]))
    assert output.irreps[0] == space.trivial_repr.irreps[0]
    assert len(bias) == 1
    return SteerableBasis(filters[kept].contiguous(), spread, float(bias[0]))


def plane_symmetry(group: str) -> gspaces.GSpace:
    """e2cnn's description of a group in `GROUPS` that acts on the plane."""
    table = symmetry_group(group)
    if table.order == 1:
        return gspaces.TrivialOnR2()
    if not table.mirrored:
        return gspaces.Rot2dOnR2(table.rotations)
    return gspaces.Flip2dOnR2() if table.rotations == 1 else gspaces.FlipRot2dOnR2(table.rotations)


def _spread(elements: list[dict]) -> torch.Tensor:
    """Standard deviations of He's initialisation for one input field (Weiler and Weber 2018, appendix B)."""
    pairs = Counter((element["in_irrep"], element["out_irrep_idx"]) for element in elements)
    sources = Counter(out for _, out in pairs)
    return torch.tensor(
        [
            (sources[element["out_irrep_idx"]] * pairs[element["in_irrep"], element["out_irrep_idx"]]) ** -0.5
            for element in elements
        ]
    )
