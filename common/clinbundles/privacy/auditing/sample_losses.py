"""Loss of each record under the network that a training releases: what an outside attacker can compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from clinbundles.privacy.unit_collate import UNIT, collate_units

__all__ = ["sample_losses"]


@torch.no_grad()
def sample_losses(trainer: Any, records: Sequence[Mapping[str, Any]], at_once: int = 128) -> torch.Tensor:
    """Losses (B,) in eval mode, by the averaged weights where the trainer has an average; on the CPU, float64.

    Args:
        trainer: a `PrivateTrainer`; its device, inferer, loss and preparation of a batch are used.
        records: preprocessed, with the entries that training needs.
        at_once: records in memory.
    """
    network = trainer.network if trainer.average is None else trainer.average.network
    was_training = network.training
    network.eval()
    losses = []
    for start in range(0, len(records), at_once):
        part = [{**records[i], UNIT: i} for i in range(start, min(start + at_once, len(records)))]
        images, labels = trainer.prepare_batch(collate_units(part), trainer.state.device, False)
        loss = trainer.loss_function(trainer.inferer(images, network), labels)
        losses.append(loss.flatten(1).mean(1) if loss.ndim > 1 else loss)
    network.train(was_training)
    return torch.cat(losses).cpu().to(torch.float64)
