"""A small private training with the real optimizer, network layers and trainer, for audits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import plan_budget
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import randomness
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d
from clinbundles.privacy.unit_collate import UnitRecords, collate_units


def steerable_network() -> nn.Module:
    return nn.Sequential(
        SteerableConv2d(1, 2, group="C4", input_type="trivial"),
        nn.Mish(),
        FieldNorm(2, "C4"),
        SteerableConv2d(2, 2, group="C4"),
        GroupPooling("C4"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


def memorising_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))


NETWORKS = {"steerable": steerable_network, "memorising": memorising_network}


def make_trainer(
    network: str = "steerable",
    *,
    records: int = 60,
    per_patient: int = 1,
    views: Callable[[torch.Tensor], torch.Tensor] | None = None,
    learning_rate: float = 0.5,
    secure: bool = False,
    seed: int = 0,
    **plan_numbers: Any,
) -> PrivateTrainer:
    generator = torch.Generator().manual_seed(seed)
    data = [
        {"image": torch.randn(1, 8, 8, generator=generator), "label": int(torch.randint(3, (), generator=generator))}
        for _ in range(records)
    ]
    units = [i // per_patient for i in range(records)]
    numbers = {
        "epsilon": 2.0,
        "expected_batch": len(set(units)) / 4,
        "steps": 40,
        "views": 2 if views else 1,
        **plan_numbers,
    }
    plan = plan_budget(len(set(units)), "patient" if per_patient > 1 else "record", **numbers)
    torch.manual_seed(seed)
    layers = NETWORKS[network]()
    sampler = PoissonUnitSampler(units, plan.sample_rate, plan.steps, randomness(secure, seed))
    return PrivateTrainer(
        device="cpu",
        train_data_loader=DataLoader(UnitRecords(data, sampler), batch_sampler=sampler, collate_fn=collate_units),
        network=layers,
        optimizer=PrivateOptimizer(
            torch.optim.SGD(layers.parameters(), lr=learning_rate), plan, randomness(secure, seed + 1)
        ),
        loss_function=nn.CrossEntropyLoss(reduction="none"),
        plan=plan,
        ledger=PrivacyLedger(),
        views=views,
    )


@pytest.fixture
def private_trainer() -> Callable[..., PrivateTrainer]:
    return make_trainer
