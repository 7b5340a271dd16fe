"""A small private training in float64, whose every step can be repeated the slow way."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import nn

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.moving_average import MovingAverage
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import SeededRandomness
from clinbundles.privacy.unit_collate import UnitRecords, collate_units

RECORDS = 24


def _records(patients: int | None) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(RECORDS, 1, 4, 4, generator=generator, dtype=torch.double)
    return [
        {"image": image, "label": number % 3, "patient_id": f"P{(number * number) % (patients or RECORDS)}"}
        for number, image in enumerate(images)
    ]


def _network() -> nn.Module:
    torch.manual_seed(1)
    hidden = nn.Conv2d(1, 2, 3, padding=1), nn.GroupNorm(1, 2), nn.LeakyReLU(inplace=True)
    return nn.Sequential(*hidden, nn.Flatten(), nn.Linear(32, 3)).double()


@pytest.fixture
def network():
    return _network()


@pytest.fixture(scope="package")
def build():
    """Makes a training; `patients`: patients instead of records as units."""

    def make(
        *,
        patients=None,
        sample_rate=0.25,
        steps=4,
        sigma=0.0,
        clip=0.1,
        views=None,
        view_count=1,
        momentum=0.0,
        handlers=lambda parts: [],
        **options,
    ):
        records = _records(patients)
        units = [record["patient_id"] for record in records] if patients else list(range(RECORDS))
        plan = PrivacyPlan(
            units=len(set(units)),
            unit="patient" if patients else "record",
            epsilon=50.0 if sigma else math.inf,
            delta=1e-3,
            sample_rate=sample_rate,
            steps=steps,
            noise_multiplier=sigma,
            max_grad_norm=clip,
            views=view_count,
        )
        parts = SimpleNamespace(plan=plan, records=records, units=units, ledger=PrivacyLedger(), network=_network())
        parts.sampler = PoissonUnitSampler(units, sample_rate, steps, SeededRandomness(5))
        parts.loader = DataLoader(
            UnitRecords(Dataset(records), parts.sampler), batch_sampler=parts.sampler, collate_fn=collate_units
        )
        parts.sgd = torch.optim.SGD(parts.network.parameters(), lr=1.0, momentum=momentum)
        parts.optimizer = PrivateOptimizer(parts.sgd, plan, SeededRandomness(6))
        parts.average = MovingAverage(parts.network, 0.9)
        arguments = {
            "device": "cpu",
            "train_data_loader": parts.loader,
            "network": parts.network,
            "optimizer": parts.optimizer,
            "loss_function": nn.CrossEntropyLoss(reduction="none"),
            "plan": plan,
            "ledger": parts.ledger,
            "average": parts.average,
            "views": views,
            "train_handlers": handlers(parts),
        }
        parts.trainer = PrivateTrainer(**(arguments | options))
        return parts

    return make
