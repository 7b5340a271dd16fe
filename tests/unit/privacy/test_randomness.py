"""Noise: Gaussian, independent, and unpredictable where it must be."""

from __future__ import annotations

import copy
import math
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch

from clinbundles.privacy import randomness as module
from clinbundles.privacy.randomness import Randomness, SecureRandomness, SeededRandomness, randomness

SOURCES = [SeededRandomness(0), SecureRandomness()]
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks beside threads
# Secure values differ in every run: a correct source fails such a test once in a hundred thousand runs.
RARE = 1e-5


@pytest.mark.parametrize("source", SOURCES, ids=["seeded", "secure"])
def test_normal_values_are_gaussian_to_the_tails(source: Randomness) -> None:
    values = source.normal((200, 1000), 3.0, dtype=torch.float64).flatten().numpy()
    assert scipy.stats.kstest(values, "norm", args=(0, 3.0)).pvalue > RARE
    beyond = int((np.abs(values) > 9.0).sum())  # three standard deviations
    assert scipy.stats.binomtest(beyond, 200_000, 2 * scipy.stats.norm.sf(3)).pvalue > RARE
    variance = float((values**2).sum()) / 9.0
    assert RARE / 2 < scipy.stats.chi2.cdf(variance, 200_000) < 1 - RARE / 2


@pytest.mark.parametrize("source", SOURCES, ids=["seeded", "secure"])
def test_neighbouring_values_and_calls_are_uncorrelated(source: Randomness) -> None:
    """A pair of one Box-Muller transform, or a key stream used twice, would show here."""
    a, b = (source.normal((50_000,), 1.0, dtype=torch.float64).numpy() for _ in range(2))
    for one, other in [(a, b), (a[1:], a[:-1]), (a[:25_000], a[25_000:]), (a[1:] ** 2, a[:-1] ** 2)]:
        assert scipy.stats.pearsonr(one, other).pvalue > RARE


@pytest.mark.parametrize("source", SOURCES, ids=["seeded", "secure"])
def test_uniform_values_fill_the_unit_interval_evenly(source: Randomness) -> None:
    values = source.uniform(200_000)
    assert values.dtype == torch.float64
    assert 0 <= values.min() < 1e-3
    assert 0.999 < values.max() < 1
    counts = np.histogram(values, 1000, (0, 1))[0]
    assert scipy.stats.chisquare(counts).pvalue > RARE
    low_bits = (values * 2**24 % 1).numpy()  # a float32 draw would leave these at zero
    assert scipy.stats.chisquare(np.histogram(low_bits, 100, (0, 1))[0]).pvalue > RARE


@pytest.mark.parametrize("source", SOURCES, ids=["seeded", "secure"])
def test_shape_type_and_scale_are_as_asked(source: Randomness) -> None:
    values = source.normal((2, 3, 4), 2.0)
    assert (values.shape, values.dtype, values.device.type) == ((2, 3, 4), torch.float32, "cpu")
    assert source.normal((), 1.0).shape == ()
    assert source.normal((0, 5), 1.0).shape == (0, 5)
    assert source.normal((1,), 1.0, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert source.uniform(0).shape == (0,)
    assert torch.equal(source.normal((7,), 0.0), torch.zeros(7))
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a finite number of 0 or more"):
            source.normal((1,), wrong)


def test_values_made_in_several_blocks_are_as_good_as_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 64)
    values = SecureRandomness().normal((40, 1000), 1.0, dtype=torch.float64).numpy()
    assert scipy.stats.kstest(values.ravel(), "norm").pvalue > RARE
    assert np.abs(np.corrcoef(values.reshape(-1, 64)[:, :8].T) - np.eye(8)).max() < 0.2
    uniform = SecureRandomness().uniform(1000)
    assert uniform.unique().numel() == 1000


def test_each_value_is_the_sum_of_four_gaussians_of_different_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    source, n = SecureRandomness(), 5
    uniform = torch.rand(4 * n, dtype=torch.float64)
    monkeypatch.setattr(source, "uniform", lambda _: uniform.clone())
    radius, angle = (-2 * torch.log(1 - uniform[: 2 * n])).sqrt(), 2 * math.pi * uniform[2 * n :]
    sine, cosine = radius * torch.sin(angle), radius * torch.cos(angle)
    slow = [(cosine[i] + cosine[n + i] + sine[i - 1] + sine[n + i - 1]) / 2 for i in range(n)]
    assert torch.allclose(source.normal((n,), 1.0, dtype=torch.float64), torch.stack(slow), rtol=0, atol=1e-14)


def test_the_same_seed_gives_the_same_noise_and_goes_on_after_a_checkpoint() -> None:
    a, b = SeededRandomness(3), SeededRandomness(3)
    assert torch.equal(a.normal((5,), 1.0), b.normal((5,), 1.0))
    state = copy.deepcopy(a.state_dict())
    next_values = a.normal((5,), 1.0), a.uniform(3)
    c = SeededRandomness(99)
    c.load_state_dict(state)
    assert torch.equal(c.normal((5,), 1.0), next_values[0])
    assert torch.equal(c.uniform(3), next_values[1])


def test_secure_noise_is_never_repeated_by_a_copy() -> None:
    source = SecureRandomness()
    copies = [copy.deepcopy(source), pickle.loads(pickle.dumps(source)), source]
    values = torch.stack([each.uniform(4) for each in copies])
    assert values.unique().numel() == 12


def test_a_forked_process_takes_a_key_of_its_own() -> None:
    source = SecureRandomness()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, source.uniform(1).numpy().tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert np.frombuffer(os.read(read, 8))[0] != source.uniform(1).item()
    os.close(read)
    os.close(write)


def test_a_new_key_follows_before_the_old_one_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEY_BYTES", 80)
    source = SecureRandomness()
    keys = []
    monkeypatch.setattr(source, "_new_key", lambda: (keys.append(1), SecureRandomness._new_key(source)))
    for _ in range(5):
        source.uniform(4)
    assert len(keys) == 2


def test_a_checkpoint_holds_nothing_of_the_key() -> None:
    source = SecureRandomness()
    assert source.state_dict() == {}
    source.load_state_dict({})
    assert source.name.startswith("ChaCha20")


def test_resuming_with_noise_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Resume it with secure_rng: true"):
        SeededRandomness(0).load_state_dict(SecureRandomness().state_dict())
    with pytest.raises(ValueError, match="Resume it with secure_rng: false, or train anew"):
        SecureRandomness().load_state_dict(SeededRandomness(0).state_dict())


def test_a_config_chooses_the_source_by_a_switch() -> None:
    assert isinstance(randomness(True), SecureRandomness)
    assert torch.equal(randomness(False, 5).uniform(2), SeededRandomness(5).uniform(2))


def test_a_machine_without_a_secure_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(RuntimeError, match=r"secure_rng: true needs a secure source of noise.*Install the package"):
        SecureRandomness()

    def unsupported(key: bytes, nonce: bytes) -> None:
        raise ValueError("ChaCha20 is not supported by this version of OpenSSL")

    ciphers = SimpleNamespace(Cipher=None, algorithms=SimpleNamespace(ChaCha20=unsupported))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", ciphers)
    with pytest.raises(RuntimeError, match="not supported by this version of OpenSSL"):
        SecureRandomness()
