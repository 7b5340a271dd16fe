"""When there is no zip: a rule is broken, another zip is there, a file is too large; and that nothing is left then."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import download_large_files
from toy_bundles import make_toy_bundle, rename

from clinbundles.data.content_hash import file_hash
from clinbundles.hosts.hosted_bundle import HostedBundle
from clinbundles.packaging.__main__ import main
from clinbundles.packaging.bundle_package import package_bundle
from clinbundles.packaging.checksums import write_checksums
from clinbundles.packaging.model_zoo_rules import broken_rules
from clinbundles.packaging.packaging_error import PackagingError

TOY = "toy_volume_labels"


@pytest.fixture
def toy(tmp_path, all_bundles):
    """A toy with all documents, to be spoilt."""
    root = make_toy_bundle(TOY, tmp_path / "toys")
    (root / "LICENSE").write_text("Apache License")
    (root / "docs").mkdir()
    (root / "docs" / "README.md").write_text("# A toy\n")
    return root


def change_json(path, **values):
    content = json.loads(path.read_text())
    for key, value in values.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    path.write_text(json.dumps(content))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SPOILT = {
    "LICENSE is missing": lambda root: (root / "LICENSE").unlink(),
    "docs/README.md is missing": lambda root: (root / "docs" / "README.md").unlink(),
    "expected three numbers": lambda root: rename(root, version="first", changelog={"first": "x"}),
    "no entry in the changelog": lambda root: rename(root, changelog={"0.0.1": "x"}),
    "does not follow the schema: 'task' is a required": lambda root: change_json(
        root / "configs/metadata.json", task=None
    ),
    "metadata do not say intended_use": lambda root: rename(root, intended_use=""),
    "has no id 'inferer'": lambda root: replace(root / "configs/inference.yaml", "\ninferer:", "\nother_inferer:"),
    "dataset_dir is the absolute path": lambda root: replace(
        root / "configs/inference.yaml", "dataset_dir: images", "dataset_dir: /home/me"
    ),
    "output pred is": lambda root: replace(root / "configs/metadata.json", '"num_channels": 2', '"num_channels": 3'),
    "cannot be said in JSON": lambda root: (root / "configs/extra.yaml").write_text("weight: .inf\n"),
    "is not the same in JSON": lambda root: (root / "configs/extra.yaml").write_text("labels: {1: vessel}\n"),
    "has no weights, models/model.pt": lambda root: (root / "models" / "model.pt").unlink(),
    "is a link out of the bundle's folder": lambda root: (root / "docs" / "link").symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("message", SPOILT)
def test_bundle_that_breaks_a_rule_is_refused_before_anything_is_written(message, toy, tmp_path):
    SPOILT[message](toy)
    with pytest.raises(PackagingError, match=message):
        package_bundle(HostedBundle(toy), tmp_path / "dist", onnx=False)
    assert not (tmp_path / "dist").exists()


def test_all_broken_rules_are_told_at_once(toy, tmp_path):
    rename(toy, version="first", intended_use="")
    with pytest.raises(PackagingError) as caught:
        package_bundle(HostedBundle(toy), tmp_path / "dist", onnx=False)
    assert len(str(caught.value).splitlines()) == 4, "a title, version twice, intended use"


AFTERWARDS = {
    "is not the file of SHA256SUMS": lambda root: (root / "docs" / "README.md").write_text("# Another\n"),
    "is in SHA256SUMS and missing": lambda root: (root / "models" / "model.onnx").unlink(),
    "has no line in SHA256SUMS": lambda root: (root / "added.txt").write_text("x"),
    "and its JSON twin differ: device": lambda root: change_twin(root, device="cpu"),
    "has no JSON twin": lambda root: (root / "configs" / "train.json").unlink() or write_checksums(root),
    "holds another inference config": lambda root: change_both(root),
    "model.ts is missing": lambda root: (root / "models" / "model.ts").unlink() or write_checksums(root),
    "model.ts cannot be loaded": lambda root: (
        (root / "models" / "model.ts").write_bytes(b"PK") and write_checksums(root)
    ),
    "with other weights": lambda root: change_weights(root),
}


def change_twin(root, **values):
    content = json.loads((root / "configs" / "inference.json").read_text())
    content.update(values)
    (root / "configs" / "inference.json").write_text(json.dumps(content))
    write_checksums(root)


def change_both(root):
    change_twin(root, dataset_dir="others")
    content = yaml.safe_dump(json.loads((root / "configs" / "inference.json").read_text()), sort_keys=False)
    (root / "configs" / "inference.yaml").write_text(content)
    write_checksums(root)


def change_weights(root):
    path = root / "models" / "model.pt"
    torch.save({**torch.load(path, weights_only=True), "another": torch.ones(1)}, path)
    write_checksums(root)


@pytest.mark.parametrize("message", AFTERWARDS)
def test_rule_sees_a_package_that_was_changed(message, all_bundles, unpacked, tmp_path):
    bundle = next(bundle for bundle in all_bundles if bundle.name == TOY)
    root = Path(shutil.copytree(unpacked(bundle), tmp_path / TOY))
    assert broken_rules(root) == []
    AFTERWARDS[message](root)
    problems = broken_rules(root)
    assert any(message in problem for problem in problems), problems


def test_same_bundle_gives_the_same_bytes_and_another_zip_is_not_overwritten(toy, tmp_path):
    command = [sys.executable, "-m", "clinbundles.packaging", str(toy), "--output", "dist"]
    first = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    second = subprocess.Popen([*command[:-1], "other"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = first.communicate(timeout=280)[0]
    second.communicate(timeout=280)
    assert first.returncode == second.returncode == 0, text
    path = tmp_path / "dist" / f"{TOY}_v0.1.0.zip"
    assert f"written: dist/{path.name}" in text
    assert f"sha256: {file_hash(path)}" in text
    assert file_hash(path) == file_hash(tmp_path / "other" / path.name)

    before = file_hash(path)
    (toy / "docs" / "README.md").write_text("# Another toy\n")
    with pytest.raises(PackagingError, match=r"raise the version in configs/metadata\.json"):
        package_bundle(HostedBundle(toy), path.parent, onnx=False)
    assert file_hash(path) == before
    assert package_bundle(HostedBundle(toy), path.parent, onnx=False, overwrite=True).is_new
    assert file_hash(path) != before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_large_files_are_listed_and_monai_downloads_them(toy, tmp_path):
    with pytest.raises(PackagingError, match=r"models/model.ts \(0.0 MB\).*--large-files-url"):
        package_bundle(HostedBundle(toy), tmp_path / "dist", onnx=False, largest_file=5000)
    upload = tmp_path / "dist" / f"{TOY}_v0.1.0_large_files"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=upload)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        package = package_bundle(
            HostedBundle(toy), tmp_path / "dist", onnx=False, largest_file=5000, large_files_url=url
        )
        assert package.large_files == upload
        with zipfile.ZipFile(package.path) as archive:
            archive.extractall(tmp_path / "user")
        root = tmp_path / "user" / TOY
        listed = yaml.safe_load((root / "large_files.yml").read_text())["large_files"]
        assert [entry["path"] for entry in listed] == sorted(
            path.relative_to(upload).as_posix() for path in upload.rglob("*") if path.is_file()
        )
        assert "models/model.ts" in [entry["path"] for entry in listed]
        assert not (root / "models" / "model.ts").exists()
        download_large_files(str(root))
        server.shutdown()
    assert broken_rules(root) == []


def test_command_tells_what_is_wrong_and_gives_exit_code_1(toy, tmp_path, capsys):
    for bundle, message in (("retinal_octa_vessel_segmentatio", "retinal_octa_vessel_segmentation"), (toy, "LICENSE")):
        (toy / "LICENSE").unlink(missing_ok=True)
        assert main([str(bundle), "--output", str(tmp_path / "dist")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
    assert not (tmp_path / "dist").exists()
