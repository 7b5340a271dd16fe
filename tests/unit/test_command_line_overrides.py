from __future__ import annotations

import pytest

from clinbundles.command_line_overrides import command_line_overrides, refuse_wrong_overrides

PROGRAM = ["/any/where/monai/bundle/__main__.py", "run"]
CONFIG = """
epochs: 3
window: [8, 8]
resume: false
validate:
  interval: 1
network_def:
  _target_: package.Network
  residual: true
"""


@pytest.fixture
def command(tmp_path):
    file = tmp_path / "a folder" / "train.yaml"
    file.parent.mkdir()
    file.write_text(CONFIG)
    other = file.with_name("evaluate.yaml")
    other.write_text("threshold: 0.5\nvalidate#shuffle: false\n")
    return [*PROGRAM, "--config_file", str([str(file), str(other)])]


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "5"],
        ["--epochs=5"],
        ["--threshold", "0.3"],  # of the second file
        ["--validate#interval", "2"],
        ["--validate::interval=2"],
        ["--network_def#width", "4"],  # the component itself refuses a wrong argument
        ["--window", "[4,4]", "--epochs"],
        ["--run_id", "other", "--meta_file", "m.json"],
        ["--_meta_#version", "1"],
        ["--tracking", "mlflow", "--experiment_name", "e", "--run_name", "r", "--tracking_uri=http://h:1"],
    ],
)
def test_known_ids_pass(command, words):
    refuse_wrong_overrides(command + words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch", "5"], "no id 'epoch' in train.yaml \\+ evaluate.yaml. Did you mean --epochs?"),
        (["--validate#intervall=2"], "'intervall' below 'validate' .*Did you mean --validate#interval?"),
        (["--something", "1"], "Known ids are: epochs, network_def, resume, threshold, validate, window"),
        (["--experiment_name", "e"], "add --tracking mlflow"),
    ],
)
def test_unknown_ids_are_refused_with_a_hint(command, words, message):
    with pytest.raises(ValueError, match=message):
        refuse_wrong_overrides(command + words)


@pytest.mark.parametrize(
    "words",
    [["--resume", "True"], ["--resume=False"], ["--resume"], ["--resume", "$@epochs > 3"], ["--resume=@other"]],
)
def test_switches_take_truth_values_and_config_expressions(command, words):
    refuse_wrong_overrides(command + words)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--resume", "true"], "--resume is 'true'"),
        (["--resume=false"], "--resume is 'false'"),
        (["--resume", "no"], "--resume is 'no'"),
        (["--resume", "1"], "--resume is 1"),
        (["--validate#shuffle", "false"], "--validate#shuffle is 'false'"),  # of the second file
        (["--network_def#residual", "false"], "--network_def#residual is 'false'"),
        (["--network_def::residual=false"], "--network_def::residual is 'false'"),
    ],
)
def test_switches_refuse_what_monai_would_take_for_text(command, words, name):
    with pytest.raises(ValueError, match=f"{name}, expected True or False"):
        refuse_wrong_overrides(command + words)


def test_ids_of_an_args_file_are_checked_too(command, tmp_path):
    (tmp_path / "args.yaml").write_text("epoch: 5\n")
    with pytest.raises(ValueError, match="--epochs"):
        refuse_wrong_overrides([*command, "--args_file", str(tmp_path / "args.yaml")])


def test_overrides_are_what_the_config_gets(command):
    words = ["--epochs", "5", "--window=[4,4]", "--rate", "-1e-3", "--resume", "--tracking", "mlflow"]
    assert command_line_overrides(command + words) == {"epochs": 5, "window": [4, 4], "rate": -0.001, "resume": True}


@pytest.mark.parametrize(
    "argv", [[], ["pytest", "--epoch", "3"], ["/x/monai/bundle/__main__.py", "ckpt_export", "--a", "1"]]
)
def test_other_commands_are_left_alone(argv):
    refuse_wrong_overrides(argv)
    assert command_line_overrides(argv) == {}
