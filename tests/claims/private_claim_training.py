"""One private training, as train.yaml trains, of images in memory: what the claims on cells and X-rays share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader

from clinbundles.engines.private_trainer import PrivateTrainer
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import PrivacyPlan
from clinbundles.privacy.moving_average import MovingAverage
from clinbundles.privacy.poisson_units import PoissonUnitSampler
from clinbundles.privacy.private_optimizer import PrivateOptimizer
from clinbundles.privacy.randomness import randomness
from clinbundles.privacy.unit_collate import UnitRecords, collate_units
from dp_equivariant_classification.losses import ClassificationLoss


def averaged_network(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    plan: PrivacyPlan,
    *,
    learning_rate: float,
    seed: int,
    ema: float = 0.95,
    views: Callable[[torch.Tensor], torch.Tensor] | None = None,
    physical_batch: int = 128,
) -> tuple[nn.Module, PrivacyLedger]:
    """The moving average of a network after all steps of a plan, and its ledger.

    Args:
        network: to train, by SGD without momentum.
        images: (N, C, H, W), each a unit of its own.
        labels: (N,) class numbers.
        plan: of N units.
        learning_rate: constant.
        seed: of batches and noise.
        ema: decay of the average.
        views: as of `PrivateTrainer`.
        physical_batch: images in memory at once.
    """
    sampler = PoissonUnitSampler(range(plan.units), plan.sample_rate, plan.steps, randomness(False, 2 * seed))
    records = [{"image": image, "label": label} for image, label in zip(images, labels.tolist(), strict=True)]
    average, ledger = MovingAverage(network, ema), PrivacyLedger()
    sgd = torch.optim.SGD(network.parameters(), lr=learning_rate)
    PrivateTrainer(
        device="cpu",
        train_data_loader=DataLoader(UnitRecords(records, sampler), batch_sampler=sampler, collate_fn=collate_units),
        network=network,
        optimizer=PrivateOptimizer(sgd, plan, randomness(False, 2 * seed + 1)),
        loss_function=ClassificationLoss(),
        plan=plan,
        ledger=ledger,
        average=average,
        views=views,
        physical_batch=physical_batch,
    ).run()
    return average.network, ledger
