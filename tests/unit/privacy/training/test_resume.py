"""A private training that was killed goes on as if nothing had happened; it never goes on as something else."""

from __future__ import annotations

import pytest
import torch
from monai.handlers import LrScheduleHandler

from clinbundles.data.datalist_fingerprint import datalist_fingerprint
from clinbundles.engines.private_trainer import PrivacyBudgetError
from clinbundles.handlers.private_checkpoints import PrivateCheckpoints
from clinbundles.handlers.training_checkpoints import TrainingCheckpoints
from clinbundles.privacy.randomness import SecureRandomness


class RandomViews:
    """Random flips by PyTorch's own generator; the process is killed in the given call."""

    def __init__(self, killed_in=None):
        self.left = killed_in

    def __call__(self, images):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        flip = torch.rand(2, len(images), 1, 1, 1) < 0.5
        return torch.where(flip, images.flip(-1), images)


@pytest.fixture(scope="module")
def training(build):
    def make(folder, resume_from=None, start_from=None, killed_in=None, dataset=None, **options):
        def handlers(parts):
            scheduler = torch.optim.lr_scheduler.ExponentialLR(parts.sgd, 0.8)
            checkpoints = PrivateCheckpoints(
                str(folder),
                parts.network,
                parts.optimizer,
                dataset or datalist_fingerprint(parts.records),
                scheduler,
                resume_from=resume_from,
                start_from=start_from,
            )
            return [LrScheduleHandler(scheduler, print_lr=False), checkpoints]

        torch.manual_seed(3)
        options = {"sigma": 1.0, "steps": 11, "momentum": 0.9, "view_count": 2, **options}
        return build(views=RandomViews(killed_in), handlers=handlers, **options)

    return make


@pytest.fixture(scope="module")
def killed(training, tmp_path_factory):
    """Path of the checkpoint of a training that was killed in its second epoch of three."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(KeyboardInterrupt):
        training(folder, killed_in=7).trainer.run()
    return folder / "last.pt"


def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one_bit_for_bit(training, killed, tmp_path):
    unbroken = training(tmp_path / "unbroken")
    unbroken.trainer.run()
    torch.rand(17)  # another process has another past
    resumed = training(tmp_path / "run", resume_from=str(killed))
    assert torch.load(killed, weights_only=True)["privacy"]["ledger"] == {"segments": [[1.0, 0.25, 4]]}
    resumed.trainer.run()
    for one, other in (
        (resumed.network.state_dict(), unbroken.network.state_dict()),
        (resumed.average.network.state_dict(), unbroken.average.network.state_dict()),
        (
            torch.load(tmp_path / "run" / "model.pt", weights_only=True),
            torch.load(tmp_path / "unbroken" / "model.pt", weights_only=True),
        ),
    ):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    assert resumed.ledger.segments == unbroken.ledger.segments == ((1.0, 0.25, 11),)
    assert resumed.sgd.param_groups[0]["lr"] == unbroken.sgd.param_groups[0]["lr"]
    for state, expected in zip(resumed.sgd.state.values(), unbroken.sgd.state.values(), strict=True):
        torch.testing.assert_close(state["momentum_buffer"], expected["momentum_buffer"], rtol=0, atol=0)


def test_model_is_the_moving_average(training, tmp_path):
    parts = training(tmp_path, steps=4)
    parts.trainer.run()
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    for name, weight in parts.average.network.state_dict().items():
        torch.testing.assert_close(saved[name], weight, rtol=0, atol=0)
    assert not torch.equal(saved["0.weight"], parts.network.state_dict()["0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 2.0}, r"another privacy plan \(noise_multiplier 1.0 there, 2.0 here\)"),
        ({"steps": 99}, r"another privacy plan \(steps 11 there, 99 here\)"),
        ({"clip": 5.0}, r"max_grad_norm 0.1 there, 5.0 here"),
        ({"patients": 5}, r"units 24 there, 3 here.*Set the same numbers, or train anew"),
        ({"dataset": "other"}, r"trained on other data.*Give the same datalist"),
    ],
)
def test_another_plan_or_other_data_are_refused(training, killed, tmp_path, change, message):
    parts = training(tmp_path, resume_from=str(killed), **change)
    before = parts.network[0].weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        parts.trainer.run()
    torch.testing.assert_close(parts.network[0].weight.detach(), before, rtol=0, atol=0)


def test_a_checkpoint_without_a_ledger_is_refused(training, build, tmp_path):
    plain = tmp_path / "plain"
    build(
        steps=4, handlers=lambda parts: [TrainingCheckpoints(str(plain), parts.network, parts.optimizer)]
    ).trainer.run()
    for name in ("last.pt", "model.pt"):
        with pytest.raises(ValueError, match=rf"{name} holds no privacy ledger.*start_from"):
            training(tmp_path / "run", resume_from=str(plain / name)).trainer.run()


def test_noise_of_another_kind_is_refused(training, killed, tmp_path):
    parts = training(tmp_path, resume_from=str(killed))
    parts.optimizer.randomness = SecureRandomness()
    with pytest.raises(ValueError, match="trained with seeded noise"):
        parts.trainer.run()
    assert parts.ledger.steps == 0


def test_a_finished_training_cannot_go_on(training, tmp_path):
    training(tmp_path, steps=4).trainer.run()
    with pytest.raises(PrivacyBudgetError, match="4 of 4 planned steps are done"):
        training(tmp_path, steps=4, resume_from=str(tmp_path / "last.pt"), max_epochs=9).trainer.run()


def test_public_weights_begin_a_training_with_an_empty_ledger(training, network, tmp_path):
    for p in network.parameters():
        p.data.fill_(0.25)
    torch.save(network.state_dict(), tmp_path / "public.pt")
    parts = training(tmp_path, start_from=str(tmp_path / "public.pt"), steps=1, sigma=0.0, clip=1e-9)
    parts.trainer.run()
    torch.testing.assert_close(parts.network[0].weight, network[0].weight)
    torch.testing.assert_close(parts.average.network[4].weight.data, network[4].weight.data)
    assert parts.ledger.steps == 1
    with pytest.raises(ValueError, match="give one of them"):
        training(tmp_path, start_from="a.pt", resume_from="b.pt")


def test_fingerprint_knows_values_arrays_and_files_but_not_their_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "eye.png").write_bytes(b"12345")
    one, other = (
        [{"image": str(tmp_path / folder / "eye.png"), "label": 1, "scan": torch.arange(3)}] for folder in ("a", "b")
    )
    assert datalist_fingerprint(one) == datalist_fingerprint(other)
    for change in ({"label": 2}, {"scan": torch.tensor([0, 1, 3])}, {"image": str(tmp_path / "a")}):
        assert datalist_fingerprint([one[0] | change]) != datalist_fingerprint(one)
    (tmp_path / "b" / "eye.png").write_bytes(b"1234567")
    assert datalist_fingerprint(one) != datalist_fingerprint(other)
