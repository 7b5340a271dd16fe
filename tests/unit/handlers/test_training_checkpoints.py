from __future__ import annotations

import csv

import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanAbsoluteError, ValidationHandler, from_engine

from clinbundles.handlers import EpochReport, TrainingCheckpoints

DATA = [{"image": torch.full((2, 3), float(index)), "label": torch.full((2, 1), 2.0 * index)} for index in range(4)]


def train(folder, epochs, resume_from=None, worse_after=None, interval=1):
    """One linear layer; `worse_after`: epoch after which the validation metric falls."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    validator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DATA,
        network=network,
        key_val_metric={"error": MeanAbsoluteError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda new, best: trainer.state.epoch <= (worse_after or 99),
        decollate=False,
    )
    handlers = [
        ValidationHandler(interval=interval, validator=validator),
        EpochReport(str(folder), validator),
        LrScheduleHandler(scheduler, print_lr=False),
        TrainingCheckpoints(str(folder / "models"), network, optimizer, scheduler, validator, resume_from),
    ]
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DATA,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.MSELoss(),
        train_handlers=handlers,
        decollate=False,
    )
    trainer.run()
    return network, optimizer, validator


def rows(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_resumed_training_equals_an_unbroken_one(tmp_path):
    unbroken, optimizer, _ = train(tmp_path / "unbroken", 4)
    train(tmp_path / "broken", 2)
    resumed, optimizer_resumed, _ = train(tmp_path / "broken", 4, tmp_path / "broken" / "models" / "last.pt")
    for name, weights in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights)
    assert optimizer_resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert [row["epoch"] for row in rows(tmp_path / "broken")] == ["1", "2", "3", "4"]
    for first, second in zip(rows(tmp_path / "unbroken"), rows(tmp_path / "broken"), strict=True):
        assert float(first["train_loss"]) == pytest.approx(float(second["train_loss"]))
        assert float(first["learning_rate"]) == pytest.approx(float(second["learning_rate"]))


def test_report_gives_the_mean_loss_and_the_rate_that_the_epoch_had(tmp_path):
    train(tmp_path, 2)
    assert [float(row["learning_rate"]) for row in rows(tmp_path)] == [0.01, 0.005]
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for item in DATA:
        optimizer.zero_grad()
        losses.append(torch.nn.functional.mse_loss(network(item["image"]), item["label"]))
        losses[-1].backward()
        optimizer.step()
    assert float(rows(tmp_path)[0]["train_loss"]) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_best_weights_stay_when_later_epochs_are_worse(tmp_path):
    train(tmp_path, 4, worse_after=2)
    best = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    train(tmp_path / "short", 2)
    second_epoch = torch.load(tmp_path / "short" / "models" / "last.pt", weights_only=True)["model"]
    for name, weights in second_epoch.items():
        torch.testing.assert_close(best[name], weights)


def test_weights_are_there_before_the_first_validation_and_the_best_after_it(tmp_path):
    train(tmp_path, 1, interval=2)
    state = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    torch.testing.assert_close(torch.load(tmp_path / "models" / "model.pt", weights_only=True), state["model"])
    train(tmp_path, 3, tmp_path / "models" / "last.pt", interval=2)
    state = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    assert state["best"]["epoch"] == 2
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not torch.equal(weights["weight"], state["model"]["weight"])


def test_best_metric_survives_a_break(tmp_path):
    train(tmp_path, 2, worse_after=1)
    state = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    _, _, validator = train(tmp_path, 3, tmp_path / "models" / "last.pt", worse_after=1)
    assert state["best"] == {"metric": validator.state.best_metric, "epoch": validator.state.best_metric_epoch}


def test_weights_alone_start_a_new_training(tmp_path):
    train(tmp_path / "first", 1)
    train(tmp_path / "second", 1, tmp_path / "first" / "models" / "model.pt")
    assert [row["epoch"] for row in rows(tmp_path / "second")] == ["1"]
    assert float(rows(tmp_path / "second")[0]["train_loss"]) < float(rows(tmp_path / "first")[0]["train_loss"])


def test_missing_checkpoint_and_finished_training_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt does not exist"):
        train(tmp_path, 1, tmp_path / "nothing.pt")
    train(tmp_path, 1)
    with pytest.raises(ValueError, match="already had 1 epochs and the run asks for 1"):
        train(tmp_path, 1, tmp_path / "models" / "last.pt")


def test_no_draft_is_left(tmp_path):
    train(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["history.csv", "last.pt", "model.pt"]
