from __future__ import annotations

import pytest
import torch

from clinbundles.mcmr.coil_compression import compress_coils, compression_matrix, mix_maps

RANK = 3


@pytest.fixture
def kspace() -> torch.Tensor:
    """Ten coils (T, N, X, Y) that see three signals."""
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(4, RANK, 12, 10, dtype=torch.complex128, generator=generator)
    mixing = torch.randn(10, RANK, dtype=torch.complex128, generator=generator)
    return torch.einsum("nr,trxy->tnxy", mixing, signals)


def test_rows_are_orthonormal_so_white_noise_stays_white(kspace):
    matrix, _ = compression_matrix(kspace, coils=5)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(5, dtype=torch.complex128))


def test_as_many_coils_as_signals_lose_nothing(kspace):
    matrix, kept = compression_matrix(kspace, coils=RANK)
    assert kept == pytest.approx(1)
    back = torch.einsum("mn,tmxy->tnxy", matrix.conj(), compress_coils(kspace, RANK))
    torch.testing.assert_close(back, kspace)


def test_the_energy_chooses_the_fewest_coils_that_keep_it(kspace):
    shares = [compression_matrix(kspace, coils=number)[1] for number in range(1, 5)]
    assert shares == sorted(shares)
    for energy, coils in ((shares[0] - 1e-6, 1), (shares[0] + 1e-6, 2), (shares[1] + 1e-6, 3), (1.0, 3)):
        assert compression_matrix(kspace, energy=energy)[0].shape[0] == coils
    assert compression_matrix(kspace, coils=2, energy=1.0)[0].shape[0] == 2
    assert float(compress_coils(kspace, 2).abs().square().sum() / kspace.abs().square().sum()) == pytest.approx(
        shares[1]
    )


def test_no_other_choice_of_coils_keeps_more_energy(kspace):
    _, best = compression_matrix(kspace, coils=2)
    for seed in range(5):
        random = torch.randn(10, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
        rows = torch.linalg.qr(random)[0].mH
        kept = torch.einsum("mn,tnxy->tmxy", rows, kspace).abs().square().sum() / kspace.abs().square().sum()
        assert float(kept) < best


def test_mixed_maps_have_unit_size_and_explain_the_mixed_data():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(6, 8, 7, dtype=torch.complex128, generator=generator)
    maps /= torch.linalg.vector_norm(maps, dim=0)
    maps[:, :2] = 0
    matrix = torch.linalg.qr(torch.randn(6, 6, dtype=torch.complex128, generator=generator))[0]
    mixed = mix_maps(maps, matrix)
    torch.testing.assert_close(mixed, torch.einsum("mn,nxy->mxy", matrix, maps))
    fewer = torch.linalg.vector_norm(mix_maps(maps, matrix[:4]), dim=0)
    torch.testing.assert_close(fewer[2:], torch.ones(6, 7, dtype=torch.float64))
    assert not fewer[:2].any()


def test_wrong_requests_are_refused(kspace):
    with pytest.raises(ValueError, match="needs coils"):
        compression_matrix(kspace)
    with pytest.raises(ValueError, match="coils is 0, expected at least 1"):
        compression_matrix(kspace, coils=0)
    with pytest.raises(ValueError, match=r"energy is 1.5, expected a share above 0 and at most 1"):
        compression_matrix(kspace, energy=1.5)
    with pytest.raises(ValueError, match="has the energy 0"):
        compression_matrix(0 * kspace, coils=2)
