from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Events
from monai.losses import DiceLoss
from torch import nn

from clinbundles.engines.private_trainer import PrivacyBudgetError, PrivateTrainer
from clinbundles.privacy.per_sample_loss import PerSampleLoss
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.randomness import SeededRandomness
from clinbundles.privacy.unit_collate import UnitRecords, collate_units


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def two_views(images):
    return torch.stack([images, images.flip(-1)])


def slow_update(parts, network, batch, scale=None):
    """One noiseless step of DP-SGD, unit by unit, as it is written in the papers."""
    total = torch.zeros_like(weights(network))
    for unit in dict.fromkeys(parts.units[record] for record in batch):
        losses = []
        for record in (parts.records[number] for number in batch if parts.units[number] == unit):
            seen = parts.trainer.views(record["image"][None]) if parts.trainer.views else record["image"][None, None]
            for view in seen:
                losses.append(nn.functional.cross_entropy(network(view), torch.tensor([record["label"]])))
        gradient = torch.autograd.grad(torch.stack(losses).mean(), list(network.parameters()))
        flat = torch.cat([g.flatten() for g in gradient])
        total += flat * min(1.0, parts.plan.max_grad_norm / float(flat.norm()))
    return total / parts.plan.expected_batch


@pytest.mark.parametrize("views", [None, two_views], ids=["one view", "two views"])
@pytest.mark.parametrize("patients", [None, 4], ids=["record", "patient"])
def test_a_step_is_that_of_the_papers_however_the_batch_is_cut_for_memory(build, network, patients, views):
    for physical_batch, clip in ((1, 50.0), (5, 0.9), (1000, 0.1)):
        options = {"patients": patients, "views": views, "view_count": 2 if views else 1, "sample_rate": 0.4}
        parts = build(**options, steps=1, clip=clip, physical_batch=physical_batch)
        (batch,) = list(parts.sampler)
        assert len(batch) > 4
        start = weights(parts.network)
        expected = start - slow_update(parts, network, batch)
        parts.trainer.run()
        torch.testing.assert_close(weights(parts.network), expected, rtol=1e-9, atol=1e-12)
        assert float((weights(parts.network) - start).norm()) > 1e-3


def test_one_sample_a_million_times_as_important_moves_the_update_by_at_most_c_over_qn(build):
    class Loss(nn.Module):
        factor = 1.0

        def forward(self, pred, label):
            losses = nn.functional.cross_entropy(pred, label, reduction="none")
            return losses * torch.tensor([self.factor] + [1.0] * (len(losses) - 1)).to(losses)

    ends = []
    for factor in (1.0, 1e6):
        loss = Loss()
        loss.factor = factor
        parts = build(steps=1, clip=1e-2, sample_rate=0.5, loss_function=loss)
        parts.trainer.run()
        ends.append(weights(parts.network))
    assert 0 <= float((ends[1] - ends[0]).norm()) <= 1e-2 / parts.plan.expected_batch


def test_empty_batches_add_noise_and_count_as_steps(build):
    seen = []

    def handlers(parts):
        class Watch:
            def attach(self, engine):
                engine.add_event_handler(
                    Events.ITERATION_COMPLETED,
                    lambda: seen.append((len(engine.state.batch["unit"]), weights(parts.network))),
                )

        return [Watch()]

    parts = build(sample_rate=0.02, steps=12, sigma=1.0, handlers=handlers)
    start = weights(parts.network)
    parts.trainer.run()
    sizes = [size for size, _ in seen]
    assert 0 < sizes.count(0) < 12
    assert parts.ledger.segments == ((1.0, 0.02, 12),)
    assert parts.average.steps == 12
    steps = torch.stack([start, *(after for _, after in seen)]).diff(dim=0)
    assert torch.isfinite(steps).all()
    size_of_noise = 1.0 * parts.plan.max_grad_norm / parts.plan.expected_batch
    for step in steps:
        assert float(step.std()) == pytest.approx(size_of_noise, rel=0.35)


def test_an_epoch_is_one_over_q_steps_and_the_last_ends_with_the_plan(build):
    ends = []

    def handlers(parts):
        class Watch:
            def attach(self, engine):
                engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: ends.append(engine.state.iteration))
                engine.add_event_handler(Events.COMPLETED, lambda: ends.append("completed"))

        return [Watch()]

    build(sample_rate=0.25, steps=10, handlers=handlers).trainer.run()
    assert ends == [4, 8, 10, "completed"]


def test_training_stops_before_the_budget_is_exceeded_and_says_so(build, caplog):
    parts = build(sample_rate=0.25, steps=3, sigma=1.0, max_epochs=9)
    with caplog.at_level("INFO", "clinbundles"):
        parts.trainer.run()
    assert parts.ledger.steps == 3
    assert "The privacy budget is spent: 3 of 3 planned steps are done" in caplog.text
    before = weights(parts.network)
    with pytest.raises(PrivacyBudgetError, match=r"3 of 3 planned steps.*plan a larger budget and train anew"):
        parts.trainer.run()
    torch.testing.assert_close(weights(parts.network), before, rtol=0, atol=0)


def test_steps_of_another_mechanism_in_the_ledger_count_against_the_budget(build):
    parts = build(steps=4, sigma=1.0)
    parts.ledger.record(0.1, 1.0)  # more than 50 on its own
    with pytest.raises(PrivacyBudgetError, match=r"epsilon is \d+\.\d+ of 50"):
        parts.trainer.run()
    assert parts.ledger.steps == 1


def test_hooks_are_gone_after_training_and_the_output_holds_no_loss(build):
    parts = build(steps=2, sample_rate=0.5)
    parts.trainer.run()
    assert parts.trainer.state.output == [{"loss": None}]
    assert math.isfinite(parts.trainer.state.private_loss)
    assert all(getattr(p, "grad_sample", None) is None for p in parts.network.parameters())
    assert parts.network[2].inplace
    assert not any(module._forward_hooks or module._backward_hooks for module in parts.network.modules())


def test_the_private_loss_is_the_mean_over_units(build, network):
    parts = build(steps=1, sample_rate=0.6, patients=4)
    (batch,) = list(parts.sampler)
    by_unit: dict = {}
    for number in batch:
        record = parts.records[number]
        loss = nn.functional.cross_entropy(network(record["image"][None]), torch.tensor([record["label"]]))
        by_unit.setdefault(parts.units[number], []).append(loss.item())
    parts.trainer.run()
    means = [sum(losses) / len(losses) for losses in by_unit.values()]
    assert parts.trainer.state.private_loss == pytest.approx(sum(means) / len(means))


def test_without_clipping_the_step_is_ordinary_gradient_descent(build, network):
    parts = build(steps=1, sample_rate=0.6, clip=math.inf, patients=4, physical_batch=3)
    (batch,) = list(parts.sampler)
    expected = weights(parts.network) - slow_update(parts, network, batch)
    parts.trainer.run()
    torch.testing.assert_close(weights(parts.network), expected)


class Coupled(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def test_networks_and_losses_that_mix_samples_are_refused(build):
    parts = build()
    parts.network.insert(3, Coupled())
    with pytest.raises(Exception, match="Coupled"):
        parts.trainer.run()

    def centred(pred, label):
        return nn.functional.cross_entropy(pred - pred.mean(0), label, reduction="none")

    parts = build(loss_function=centred)
    before = weights(parts.network)
    with pytest.raises(ValueError, match=r"depends on another one's prediction \(function\).*PerSampleLoss"):
        parts.trainer.run()
    torch.testing.assert_close(weights(parts.network), before, rtol=0, atol=0)
    assert parts.ledger.steps == 0


def test_a_loss_of_one_number_for_the_batch_is_refused(build):
    with pytest.raises(ValueError, match=r"the loss gave \[\] for .* samples.*reduction: none"):
        build(loss_function=nn.CrossEntropyLoss()).trainer.run()


def test_per_sample_loss_takes_each_sample_alone():
    torch.manual_seed(0)
    pred, label = torch.randn(5, 2, 4, 4), (torch.rand(5, 2, 4, 4) > 0.5).float()
    dice = DiceLoss(sigmoid=True, batch=True)
    expected = torch.stack([dice(pred[n : n + 1], label[n : n + 1]) for n in range(5)])
    torch.testing.assert_close(PerSampleLoss(dice)(pred, label), expected)


def test_other_samplers_and_loaders_are_refused(build):
    parts = build()
    dataset = parts.loader.dataset

    def refused(kind, message, loader):
        with pytest.raises(kind, match=message):
            build(train_data_loader=loader)

    loader = torch.utils.data.DataLoader
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * len(dataset), 8)
    refused(TypeError, r"by WeightedRandomSampler, but .* Poisson sampling only", loader(dataset, sampler=weighted))
    refused(TypeError, "drawn by RandomSampler", loader(dataset, batch_size=4, shuffle=True))
    refused(TypeError, "drawn by SequentialSampler", loader(dataset, batch_size=4))
    refused(ValueError, "drop_last leaves out records", loader(dataset, batch_size=4, drop_last=True))

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([])

    refused(TypeError, "Stream gives its records in its own order", loader(Stream()))
    plain = loader([{}] * len(dataset), batch_sampler=parts.sampler, collate_fn=collate_units)
    refused(TypeError, r"must be UnitRecords\(dataset, sampler\)", plain)
    refused(TypeError, "collate_fn must be", loader(dataset, batch_sampler=parts.sampler))
    other = PoissonUnitSampler(parts.units, 0.5, 4, SeededRandomness(1))
    wrong_rate = loader(UnitRecords(parts.records, other), batch_sampler=other, collate_fn=collate_units)
    refused(ValueError, "sampler has sample_rate 0.5 but the plan 0.25", wrong_rate)


def test_what_would_break_the_guarantee_is_refused(build):
    with pytest.raises(ValueError, match=r"amp in half precision.*torch.bfloat16"):
        build(amp=True)
    with pytest.raises(ValueError, match=r"amp in half precision"):
        build(amp=True, amp_kwargs={"dtype": torch.float16})
    with pytest.raises(TypeError, match=r"no accumulation_steps: .*physical_batch"):
        build(accumulation_steps=2)
    with pytest.raises(TypeError, match=r"no key_train_metric: metrics on private data are a release without noise"):
        build(key_train_metric={})
    with pytest.raises(TypeError, match="DataParallel, which averages gradients"):
        build(network=nn.DataParallel(nn.Linear(1, 1)))
    with pytest.raises(TypeError, match="the optimizer is a SGD, expected a PrivateOptimizer"):
        build(optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    with pytest.raises(ValueError, match="optimizer has another privacy plan"):
        build(optimizer=build(clip=3.0).optimizer)
    with pytest.raises(ValueError, match="4 views of each record but the trainer got none"):
        build(view_count=4)
    with pytest.raises(ValueError, match="physical_batch is 0"):
        build(physical_batch=0)
    with pytest.raises(ValueError, match=r"views made \d+ images of \d+ records, but the plan has 3"):
        build(views=two_views, view_count=3).trainer.run()


def test_noise_and_sampling_need_streams_of_their_own_and_of_one_kind(build):
    parts = build()
    parts.optimizer.randomness = SeededRandomness(5)  # the sampler's seed
    arguments = {"plan": parts.plan, "optimizer": parts.optimizer, "train_data_loader": parts.loader}
    rest = {"device": "cpu", "network": parts.network, "loss_function": nn.MSELoss(), "ledger": parts.ledger}
    with pytest.raises(ValueError, match="draw from the same stream"):
        PrivateTrainer(**arguments, **rest)
    parts.optimizer.randomness = type("Other", (SeededRandomness,), {"name": "secure"})(9)
    with pytest.raises(ValueError, match="noise is secure and the sampling seeded"):
        PrivateTrainer(**arguments, **rest)


def test_bfloat16_trains_without_a_scaler(build):
    parts = build(steps=2, amp=True, amp_kwargs={"dtype": torch.bfloat16})
    parts.trainer.run()
    assert parts.trainer.scaler is None
    assert torch.isfinite(weights(parts.network)).all()
