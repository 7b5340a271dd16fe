"""The command that starts the server: mistakes are told before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from bundle_images import BUNDLES, ROOT

from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.hosts.label import __main__ as command
from clinbundles.hosts.label.__main__ import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list:
    """What would have been served, without serving it."""
    calls: list = []
    monkeypatch.setattr(command, "_serve", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("PYTHONPATH", "MPLBACKEND", "MONAI_LABEL_SESSION_PATH", "MONAI_LABEL_DICOMWEB_USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_PASSWORD", "")
    return calls


@pytest.fixture
def toy(toy_bundle) -> str:
    return str(toy_bundle("toy_volume_labels"))


def refusal(words: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(words)
    return str(end.value)


def test_an_unknown_bundle_is_named_with_those_that_there_are(started: list, tmp_path: Path):
    said = refusal(["retinal_octa_vessel_segmentatoin", "--studies", str(tmp_path)])
    assert "there is no bundle 'retinal_octa_vessel_segmentatoin'" in said
    assert "Did you mean retinal_octa_vessel_segmentation?" in said
    assert started == []


def test_a_setting_that_no_bundle_has_is_refused(started: list, toy: str, tmp_path: Path):
    said = refusal([toy, "--studies", str(tmp_path), "--outputdir", "x"])
    assert "--outputdir is no option of the server and no setting of toy_volume_labels" in said
    assert "did you mean --output_dir?" in said
    assert started == []


def test_a_studies_folder_that_does_not_exist_is_not_made(started: list, toy: str, tmp_path: Path):
    said = refusal([toy, "--studies", str(tmp_path / "typo")])
    assert "typo does not exist: give the folder that holds the images" in said
    assert not (tmp_path / "typo").exists()


def test_a_port_that_is_taken_is_told(started: list, toy: str, tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = refusal([toy, "--studies", str(tmp_path), "--port", str(other.getsockname()[1])])
    assert "cannot listen on 127.0.0.1:" in said
    assert "choose another --port" in said


def test_the_same_bundle_twice_is_refused(started: list, toy: str, tmp_path: Path):
    assert "each bundle is served once" in refusal([toy, toy, "--studies", str(tmp_path)])


def test_a_bundle_for_exams_is_refused_with_where_to_use_it(started: list, toy_bundle, tmp_path: Path):
    exams = [HostedBundle(ROOT / "bundles" / name) for name in BUNDLES]
    for bundle in ["toy_exam", *(bundle.name for bundle in exams if bundle.takes_exam)]:
        root = str(toy_bundle(bundle)) if bundle == "toy_exam" else bundle
        said = refusal([root, "--studies", str(tmp_path)])
        assert f"{bundle} takes all images of an examination at once, and viewers of MONAI Label show one" in said
        assert "use its command line, or MONAI Deploy" in said
    assert started == []


def test_a_bundle_for_raw_data_is_refused_with_where_to_use_it(started: list, toy_bundle, tmp_path: Path):
    root = toy_bundle("toy_volume_labels")
    (root / "configs" / "dicom.yaml").write_text("study: raw\n")
    real = [name for name in BUNDLES if HostedBundle(ROOT / "bundles" / name).takes_raw_data]
    for bundle in [str(root), *real]:
        said = refusal([bundle, "--studies", str(tmp_path)])
        assert "takes raw data of a scanner" in said
        assert "viewers of MONAI Label show images: use its command line, python -m monai.bundle run" in said
    assert started == []


def test_a_word_that_is_no_setting_is_refused(started: list, toy: str, tmp_path: Path):
    assert "'--fov_mm' is not understood" in refusal([toy, "--studies", str(tmp_path), "--fov_mm"])


def test_settings_reach_the_bundles_that_have_them(started: list, toy: str, tmp_path: Path):
    main(["retinal_octa_vessel_segmentation", toy, "--studies", str(tmp_path), "--fov-mm", "[3, 6]", "--overlay=false"])
    _, _, conf, _ = started[0]
    assert conf["settings"] == '{"fov_mm": [3, 6], "overlay": false}'


def test_the_workspace_is_the_same_each_time_and_outside_of_the_studies(started: list, toy: str, tmp_path: Path):
    studies = tmp_path / "my studies"
    studies.mkdir()
    for _ in range(2):
        main([toy, "--studies", str(studies)])
    workspaces = {call[0] for call in started}
    assert len(workspaces) == 1
    assert workspaces.pop().is_relative_to(tmp_path / "data" / "clinbundles" / "label")
    assert list(studies.iterdir()) == []


def test_it_listens_on_this_machine_only_unless_told_otherwise(started: list, toy: str, tmp_path: Path, capsys):
    main([toy, "--studies", str(tmp_path)])
    assert started[0][3].host == "127.0.0.1"
    assert "WARNING" not in capsys.readouterr().err


def test_listening_for_everybody_without_authentication_is_warned_of(
    started: list, toy: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    main([toy, "--studies", str(tmp_path), "--host", "0.0.0.0"])
    assert "everybody in the network can read all studies and change their labels" in capsys.readouterr().err
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
    main([toy, "--studies", str(tmp_path), "--host", "0.0.0.0"])
    assert "WARNING" not in capsys.readouterr().err
