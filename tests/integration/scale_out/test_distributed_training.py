"""Training in two processes: on one node, and as two nodes over loopback. The recipe gives the same network."""

import csv

import pytest
import torch
from torchrun import ONE_NODE, OVERLAYS, end, free_port, start, toy_with_log
from toy_bundles import write_pairs

EPOCHS = 2


def history(folder):
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same training twice at the same time; gives the folder of each and its log."""
    folder = tmp_path_factory.mktemp("training")
    configs = [toy_with_log(folder) / "train.yaml", OVERLAYS / "multi_gpu_train.yaml"]
    data = write_pairs(folder / "pairs", 8, (8, 8, 4))

    def run(name, *launch):
        return start(folder / name, launch, configs, dataset_dir=data, output_dir=folder / name, epochs=EPOCHS)

    nodes = ("--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}")
    runs = [run("one node", *ONE_NODE), *(run("two nodes", *nodes, f"--node_rank={rank}") for rank in (0, 1))]
    logs = [end(process) for process in runs]
    for process, log in zip(runs, logs, strict=True):
        assert process.returncode == 0, log
    return folder, logs


def test_two_nodes_write_one_history_and_one_checkpoint(trained):
    folder, (_, node_0, node_1) = trained
    assert sorted(path.name for path in (folder / "two nodes" / "models").iterdir()) == ["last.pt", "model.pt"]
    assert [row["epoch"] for row in history(folder / "two nodes")] == ["1", "2"]
    assert "Done. Results in" in node_0
    assert "Done. Results in" not in node_1


@pytest.mark.host("torchrun", "two nodes over loopback train the same network as two processes")
def test_two_nodes_train_the_network_that_two_processes_train(trained):
    folder, _ = trained
    one, two = (
        torch.load(folder / name / "models" / "last.pt", weights_only=True) for name in ("one node", "two nodes")
    )
    assert one["trainer"] == two["trainer"]
    assert one["trainer"]["iteration"] * 2 >= EPOCHS * 4, "each of two processes sees half of the cases"
    assert history(folder / "one node") == history(folder / "two nodes")
    for name, weight in one["model"].items():
        torch.testing.assert_close(weight, two["model"][name], rtol=0, atol=0)
