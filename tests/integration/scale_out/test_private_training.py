"""Private training in two processes: the guarantee, the number of steps and the update of one process."""

import pytest
import torch
from torchrun import ONE_NODE, end, start, toy_with_log
from toy_bundles import write_pairs

from clinbundles.privacy.accounting.statement import read_statement

STEPS = 12
PRIVATE = """
epsilon: 8.0
delta: null
steps: 12
plan:
  _target_: clinbundles.privacy.accounting.plan.plan_budget
  units: $len(@train#dataset#data)
  unit: record
  epsilon: "@epsilon"
  delta: "@delta"
  expected_batch: 2
  steps: "@steps"
ledger: {_target_: clinbundles.privacy.accounting.ledger.PrivacyLedger}
loss:
  _target_: clinbundles.privacy.per_sample_loss.PerSampleLoss
  loss: {_target_: DiceCELoss, to_onehot_y: true, softmax: true}
optimizer:
  _target_: clinbundles.privacy.private_optimizer.PrivateOptimizer
  optimizer: {_target_: torch.optim.SGD, params: $@network.parameters(), lr: "@learning_rate"}
  plan: "@plan"
  randomness: {_target_: clinbundles.privacy.randomness.randomness, secure: false, seed: "@seed"}
average: {_target_: clinbundles.privacy.moving_average.MovingAverage, network: "@network", decay: 0.5}
process: 0
processes: 1
train#sampler:
  _target_: clinbundles.privacy.poisson_units.PoissonUnitSampler
  units: $list(range(len(@train#dataset#data)))
  sample_rate: $@plan.sample_rate
  steps: "@steps"
  randomness: {_target_: clinbundles.privacy.randomness.randomness, secure: false, seed: $@seed + 1}
  rank: "@process"
  world: "@processes"
train#dataloader:
  _target_: DataLoader
  dataset:
    _target_: clinbundles.privacy.unit_collate.UnitRecords
    dataset: "@train#dataset"
    sampler: "@train#sampler"
  batch_sampler: "@train#sampler"
  collate_fn: {_target_: clinbundles.privacy.unit_collate.collate_units, _mode_: callable}
train#trainer:
  _target_: clinbundles.engines.private_trainer.PrivateTrainer
  max_epochs: null
  epoch_length: 6
  device: "@device"
  train_data_loader: "@train#dataloader"
  network: "@network"
  optimizer: "@optimizer"
  loss_function: "@loss"
  plan: "@plan"
  ledger: "@ledger"
  average: "@average"
  inferer: "@train#inferer"
  train_handlers: "@train#handlers"
train#handlers:
  - _target_: clinbundles.handlers.private_training.PrivateTraining
    output_dir: "@output_dir"
    ckpt_dir: "@ckpt_dir"
  - {_target_: clinbundles.handlers.EpochReport, output_dir: "@output_dir"}
  - _target_: clinbundles.handlers.private_checkpoints.PrivateCheckpoints
    ckpt_dir: "@ckpt_dir"
    network: "@network"
    optimizer: "@optimizer"
    dataset: pairs
"""
TWO_PROCESSES = """
imports: [$import monai, $import torch, $import torch.distributed as dist]
process: $dist.get_rank()
processes: $dist.get_world_size()
initialize:
  - "$dist.init_process_group(backend='gloo')"
  - $monai.utils.set_determinism(seed=@seed + dist.get_rank())  # other weights at the start: rank 0's count
finalize:
  - "$torch.save([@ledger.steps, @network.state_dict()], @output_dir + '/of_process_' + str(dist.get_rank()) + '.pt')"
  - $dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of four runs: private and without noise, in one process and in two."""
    folder = tmp_path_factory.mktemp("private")
    configs = [toy_with_log(folder) / "train.yaml", folder / "private.yaml"]
    configs[1].write_text(PRIVATE)
    both = [*configs, folder / "two_processes.yaml"]
    both[2].write_text(TWO_PROCESSES)
    data = write_pairs(folder / "pairs", 12, (8, 8, 4))
    for name, epsilon in (("private", 8.0), ("noiseless", "inf")):
        runs = {
            processes: start(
                folder / f"{name} {processes}", launch, files,
                dataset_dir=data, output_dir=folder / f"{name} {processes}", epsilon=epsilon,
            )
            for processes, launch, files in (("one", (), configs), ("two", ONE_NODE, both))
        }  # fmt: skip
        for process in runs.values():
            log = end(process)
            assert process.returncode == 0, log
    return folder


def state(folder, name):
    return torch.load(folder / name / "models" / "last.pt", weights_only=True)


@pytest.mark.parametrize("name", ["private", "noiseless"])
@pytest.mark.host("torchrun", "private training: two processes make the update of one, with the noise of one")
def test_two_processes_train_the_network_that_one_trains(trained, name):
    one, two = state(trained, f"{name} one"), state(trained, f"{name} two")
    for key, weight in one["model"].items():
        torch.testing.assert_close(weight, two["model"][key], rtol=1e-5, atol=1e-6)
    for key, weight in one["privacy"]["average"]["network"].items():
        torch.testing.assert_close(weight, two["privacy"]["average"]["network"][key], rtol=1e-5, atol=1e-6)
    # the noise was added once: rank 0's generator was used as often as the single one's, and the weights agree
    torch.testing.assert_close(one["privacy"]["randomness"], two["privacy"]["randomness"], rtol=0, atol=0)


def test_every_process_makes_the_same_steps_and_holds_the_same_weights(trained):
    for name in ("private two", "noiseless two"):
        files = [trained / name / f"of_process_{rank}.pt" for rank in (0, 1)]
        (steps, weights), (other_steps, others) = (torch.load(file, weights_only=True) for file in files)
        assert steps == other_steps == STEPS
        for key, weight in weights.items():
            torch.testing.assert_close(weight, others[key], rtol=0, atol=0)


def test_noise_makes_the_difference(trained):
    private, noiseless = state(trained, "private two")["model"], state(trained, "noiseless two")["model"]
    assert not torch.allclose(private["weight"], noiseless["weight"], atol=1e-3)


def test_one_statement_counts_the_steps_of_all_processes_once(trained):
    statements = [read_statement(trained / f"private {number}" / "models") for number in ("one", "two")]
    assert statements[0] == statements[1]
    assert statements[1].steps == STEPS
    assert 7 < statements[1].epsilon <= 8.0
