"""Which updates of a round are averaged: honest ones, also of unlike sites; never one that spoils the shared model."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants

from clinbundles.hosts.federated.screened_aggregation import ScreenedAggregator, agreement, screen, update_norm

LARGEST = 5.0


def honest(seed, scale=1.0):
    """Updates of one round share a direction and differ in the rest: cosines near 0.3, as measured on OCTA."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    shapes = {"conv.weight": (8, 4, 3, 3), "conv.bias": (8,), "norm.num_batches_tracked": ()}
    return {
        name: (scale * (0.65 * common.normal(size=shape) + own.normal(size=shape))).astype(np.float32)
        for name, shape in shapes.items()
    }


def changed(update, change):
    return {name: change(value) for name, value in update.items()}


def test_norm_and_cosine_are_those_of_the_concatenated_weights():
    first, second = honest(1), honest(2)
    flat = [np.concatenate([value.ravel() for value in update.values()]) for update in (first, second)]
    assert update_norm(first) == pytest.approx(np.linalg.norm(flat[0]))
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert agreement(first, [second]) == pytest.approx(cosine)


@pytest.mark.parametrize("sites", [1, 2, 3, 4, 8])
def test_honest_sites_of_unlike_size_all_take_part(sites):
    updates = {f"site-{number}": honest(number, scale=1 + number % 3) for number in range(sites)}
    assert screen(updates, LARGEST) == {}


@pytest.mark.parametrize(
    ("change", "sites", "reason"),
    [
        (lambda weights: weights * np.nan, 2, "not finite"),
        (lambda weights: weights + np.inf, 4, "not finite"),
        (lambda weights: weights * 1000, 2, "more than 5 times"),
        (lambda weights: weights * 1000, 4, "more than 5 times"),
        (lambda weights: -weights, 3, "points against the other sites"),
        (lambda weights: -weights, 4, "points against the other sites"),
    ],
)
def test_the_broken_site_is_refused_and_no_other(change, sites, reason):
    updates = {f"site-{number}": honest(number) for number in range(sites)}
    updates["site-0"] = changed(updates["site-0"], change)
    refused = screen(updates, LARGEST)
    assert list(refused) == ["site-0"]
    assert reason in refused["site-0"]


def test_of_two_sites_that_contradict_each_other_nobody_can_say_which_is_wrong():
    updates = {"site-1": honest(1), "site-2": changed(honest(1), np.negative)}
    assert screen(updates, LARGEST) == {}


@pytest.fixture
def server(tmp_path):
    """The context in which FLARE calls an aggregator, in round 0."""
    context = FLContext()
    workspace = SimpleNamespace(get_run_dir=lambda job: str(tmp_path))
    context.get_engine = lambda: SimpleNamespace(get_workspace=lambda: workspace, fire_event=lambda *event: None)
    context.set_prop(AppConstants.CURRENT_ROUND, 0)
    return context


def send(aggregator, context, site, update, steps=10, sent_in=0):
    dxo = DXO(DataKind.WEIGHT_DIFF, data=update, meta={"NUM_STEPS_CURRENT_ROUND": steps})
    shareable = dxo.to_shareable()
    shareable.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, sent_in)
    return aggregator.accept(shareable, context)


def one_round(largest, server, updates):
    aggregator = ScreenedAggregator(largest)
    aggregator.handle_event(EventType.START_RUN, server)
    for number, update in enumerate(updates):
        send(aggregator, server, f"site-{number}", update, steps=10 * (number + 1))
    return from_shareable(aggregator.aggregate(server)).data


def test_the_mean_is_weighted_by_the_steps_of_the_sites(server):
    first, second = honest(1), honest(2)
    mean = one_round(LARGEST, server, [first, second])
    for name in first:
        np.testing.assert_allclose(mean[name], (10 * first[name] + 20 * second[name]) / 30, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [lambda weights: weights * np.nan, lambda weights: weights * 1000])
def test_one_broken_site_spoils_flares_own_mean_but_not_the_screened_one(server, change):
    updates = [honest(1), honest(2), changed(honest(3), change)]
    plain = one_round(0, server, updates)
    screened = one_round(LARGEST, server, updates)
    expected = one_round(LARGEST, server, updates[:2])
    assert not update_norm(plain) < 100 * update_norm(honest(1)), "without the screen the shared model is spoilt"
    for name in expected:
        np.testing.assert_array_equal(screened[name], expected[name])


def test_a_round_without_a_usable_update_leaves_the_shared_model_as_it_is(server, tmp_path):
    assert one_round(LARGEST, server, [changed(honest(1), lambda weights: weights * np.nan)]) == {}
    with (tmp_path / "updates.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["round"], row["site"], row["refused"]) == ("1", "site-0", "weights that are not finite")


def test_an_update_of_another_round_or_sent_twice_is_refused(server):
    aggregator = ScreenedAggregator(LARGEST)
    aggregator.handle_event(EventType.START_RUN, server)
    assert not send(aggregator, server, "site-1", honest(1), sent_in=3)
    assert send(aggregator, server, "site-1", honest(1))
    assert not send(aggregator, server, "site-1", honest(1))
