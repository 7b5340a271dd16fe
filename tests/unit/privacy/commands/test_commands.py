"""The commands on a bundle of a few lines: their verdicts, their files and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clinbundles.privacy.__main__ import main
from clinbundles.privacy.accounting.ledger import PrivacyLedger
from clinbundles.privacy.accounting.plan import plan_budget
from clinbundles.privacy.accounting.statement import PrivacyStatement, write_statement
from clinbundles.privacy.randomness import SecureRandomness, SeededRandomness

TRAIN = """
imports: [$import torch, $from clinbundles.privacy.unit_collate import collate_units]
bundle_root: .
ckpt_dir: $@bundle_root + '/models'
epsilon: 1.0
steps: 20
norm: {_target_: torch.nn.Identity}
generator: $torch.Generator().manual_seed(3)
training_cases: "$[{'image': torch.randn(1, 8, 8, generator=@generator), 'label': i % 3} for i in range(120)]"
validation_cases: "$[{'image': torch.randn(1, 8, 8, generator=@generator), 'label': i % 3} for i in range(120)]"
network_def: $torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), @norm, torch.nn.Linear(8, 3))
plan:
  _target_: clinbundles.privacy.accounting.plan.plan_budget
  units: 120
  epsilon: "@epsilon"
  expected_batch: 30
  steps: "@steps"
ledger: {_target_: clinbundles.privacy.accounting.ledger.PrivacyLedger}
average: {_target_: clinbundles.privacy.moving_average.MovingAverage, network: "@network_def", decay: 0.5}
noise: {_target_: clinbundles.privacy.randomness.randomness, secure: false, seed: 1}
optimizer:
  _target_: clinbundles.privacy.private_optimizer.PrivateOptimizer
  optimizer: {_target_: torch.optim.SGD, params: $@network_def.parameters(), lr: 0.5}
  plan: "@plan"
  randomness: "@noise"
train:
  sampler:
    _target_: clinbundles.privacy.poisson_units.PoissonUnitSampler
    units: $list(range(120))
    sample_rate: $@plan.sample_rate
    steps: $@plan.steps
    randomness: {_target_: clinbundles.privacy.randomness.randomness, secure: false, seed: 0}
  dataloader:
    _target_: torch.utils.data.DataLoader
    dataset:
      _target_: clinbundles.privacy.unit_collate.UnitRecords
      dataset: {_target_: monai.data.Dataset, data: "@training_cases"}
      sampler: "@train#sampler"
    batch_sampler: "@train#sampler"
    collate_fn: $collate_units
  handlers: [$this is never read]
  trainer:
    _target_: clinbundles.engines.private_trainer.PrivateTrainer
    device: cpu
    train_data_loader: "@train#dataloader"
    network: "@network_def"
    optimizer: "@optimizer"
    loss_function: {_target_: torch.nn.CrossEntropyLoss, reduction: none}
    plan: "@plan"
    ledger: "@ledger"
    average: "@average"
    train_handlers: "@train#handlers"
validate:
  dataset: {_target_: monai.data.Dataset, data: "@validation_cases", transform: {_target_: monai.transforms.Identity}}
initialize: [$torch.manual_seed(0)]
"""
INPUT = {"num_channels": 1, "spatial_shape": [8, 8]}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    configs = tmp_path / "tiny" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.yaml").write_text(TRAIN)
    (configs / "metadata.json").write_text(
        json.dumps({"name": "tiny", "network_data_format": {"inputs": {"image": INPUT}, "outputs": {}}})
    )
    return configs.parent


def run(command: str, *words: object) -> int:
    return main([command, *map(str, words)])


# --- plan and statement -----------------------------------------------------------------------------------------------

NUMBERS = ["--units", 4000, "--epsilon", 8, "--delta", 1e-4, "--expected_batch", 250, "--steps", 100]


def test_plan_tells_noise_rate_and_signal_to_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", *NUMBERS, "--parameters", 4736, "--output", tmp_path / "plan.json") == 0
    out = capsys.readouterr().out
    content = json.loads((tmp_path / "plan.json").read_text())
    plan = plan_budget(4000, epsilon=8.0, delta=1e-4, expected_batch=250, steps=100)
    assert content["noise_multiplier"] == plan.noise_multiplier
    assert content["signal_to_noise"] == plan.signal_to_noise(4736)
    assert f"noise multiplier  {plan.noise_multiplier:.4f}" in out
    assert "0.0625 (250 units expected in a batch)" in out
    assert out.splitlines()[-1].endswith("keeps 100 steps within epsilon 8")


def test_plan_refuses_what_the_planner_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", *NUMBERS[:4], "--delta", 0.1, *NUMBERS[6:]) == 2
    assert "delta is 0.1, expected above 0 and below 1/4000" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        run("plan", *NUMBERS, "--epoch", 3)
    assert error.value.code == 2


def test_statement_is_printed_and_checked(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, ledger = plan_budget(120, epsilon=1.0, expected_batch=30, steps=20), PrivacyLedger()
    ledger.record(plan.noise_multiplier, plan.sample_rate, 20)
    write_statement(PrivacyStatement.from_ledger(plan, ledger, SecureRandomness()), bundle)
    assert run("statement", bundle) == 0
    out = capsys.readouterr().out
    assert out.startswith("PRIVACY STATEMENT")
    assert out.splitlines()[-1].startswith("passed: epsilon = ")
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"steps": 20', '"steps": 10'))
    assert run("statement", bundle) == 1
    assert "FAILED" in capsys.readouterr().out
    assert run("statement", bundle / "nothing") == 2


# --- audits of a training ---------------------------------------------------------------------------------------------


def test_audit_step_passes_the_real_step(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "audit.json"
    assert run("audit-step", "--bundle_root", bundle, "--audit_steps", 200, "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("passed: one unit is visible at")
    assert json.loads(output.read_text())["passed"] is True
    assert not (bundle / "models").exists()


def test_audit_step_fails_a_training_with_a_quarter_of_the_noise(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = SeededRandomness.normal
    monkeypatch.setattr(
        SeededRandomness, "normal", lambda self, shape, std, **kind: normal(self, shape, std / 4, **kind)
    )
    assert run("audit-step", "--bundle_root", bundle, "--audit_steps", 50) == 1
    assert "The stated epsilon does not hold" in capsys.readouterr().out


def test_audit_step_without_a_budget_is_wrong_input(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit-step", "--bundle_root", bundle, "--epsilon", "None") == 2
    assert "the plan has no epsilon" in capsys.readouterr().err


@pytest.mark.parametrize("attack", ["white-box", "black-box"])
def test_audit_canaries_pass_a_private_training(
    bundle: Path, tmp_path: Path, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "audit.json"
    words = ["--bundle_root", bundle, "--attack", attack, "--canaries", 400, "--output", output, "--epsilon=0.8"]
    assert run("audit-canaries", *words) == 0
    content = json.loads(output.read_text())
    assert content["attack"] == attack
    assert content["canaries"] == (400 if attack == "white-box" else 60)
    assert 0 <= content["epsilon_lower"] < content["epsilon_claimed"] <= 0.8
    assert "the claimed 0.80 stands" in capsys.readouterr().out


def test_membership_compares_trained_weights_with_their_statement(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("membership", "--bundle_root", bundle) == 2
    assert "train first, or give --weights" in capsys.readouterr().err
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Identity(), torch.nn.Linear(8, 3)
    )
    (bundle / "models").mkdir()
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    assert run("membership", "--bundle_root", bundle) == 2
    assert "no privacy statement" in capsys.readouterr().err
    plan, ledger = plan_budget(120, epsilon=1.0, expected_batch=30, steps=20), PrivacyLedger()
    ledger.record(plan.noise_multiplier, plan.sample_rate, 20)
    write_statement(PrivacyStatement.from_ledger(plan, ledger, SecureRandomness()), bundle / "models")
    assert run("membership", "--bundle_root", bundle) == 0
    assert "passed: an attacker by loss has an AUC of" in capsys.readouterr().out


def test_couplings_names_the_layer_without_reading_data(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("couplings", "--bundle_root", bundle) == 0
    config = bundle / "configs" / "train.yaml"
    config.write_text(TRAIN.replace("torch.nn.Identity}", "torch.nn.BatchNorm1d, num_features: 8, affine: false}"))
    capsys.readouterr()
    assert run("couplings", "--bundle_root", bundle) == 1
    assert "FAILED: 2 (BatchNorm1d)" in capsys.readouterr().out
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace("[8, 8]", '["*", "*"]'))
    assert run("couplings", "--bundle_root", bundle) == 2
    assert "give it, e.g. --shape 3 28 28" in capsys.readouterr().err
    assert run("couplings", "--bundle_root", bundle, "--shape", 1, 8, 8) == 1


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        (["--bundle_root", "nowhere"], "nowhere is no bundle"),
        (["--config_file", "dp.yaml"], "there is no config dp.yaml, neither here nor among train.yaml"),
        (["--config_file", "[train.yaml"], "--config_file is [train.yaml, expected a name or"),
        (["--epsilom", "1"], "unknown override --epsilom"),
        (["--epsilon"], "--epsilon has no value"),
        (["surplus"], "unexpected word 'surplus'"),
    ],
)
def test_wrong_words_are_answered_in_one_line_with_exit_code_2(
    bundle: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = [] if "--bundle_root" in words else ["--bundle_root", bundle]
    assert run("audit-step", *root, *words) == 2
    assert message in capsys.readouterr().err


def test_a_config_without_private_training_is_wrong_input(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = bundle / "configs" / "train.yaml"
    config.write_text("epsilon: 1\n")
    assert run("audit-step", "--bundle_root", bundle) == 2
    assert "the config has no train#trainer" in capsys.readouterr().err
    config.write_text("train: {handlers: [], trainer: {_target_: torch.nn.Identity}}\n")
    assert run("audit-step", "--bundle_root", bundle) == 2
    assert "train#trainer is a Identity, expected a PrivateTrainer" in capsys.readouterr().err


def test_several_configs_are_read_in_order(bundle: Path) -> None:
    (bundle / "configs" / "other.yaml").write_text("norm: {_target_: torch.nn.BatchNorm1d, num_features: 8}\n")
    assert run("couplings", "--bundle_root", bundle, "--config_file", "['train.yaml','other.yaml']") == 1


def test_an_output_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text("mine")
    assert run("plan", *NUMBERS, "--output", tmp_path / "plan.json") == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "plan.json").read_text() == "mine"


def test_help_lists_all_commands() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "clinbundles.privacy", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in ("plan", "statement", "audit-step", "audit-canaries", "membership", "couplings"):
        assert command in help_text
