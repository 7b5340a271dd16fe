"""Speed of the mesh bundle on one thread: a training step of 4 pairs; an exam of 25 phases from files to measures."""

from __future__ import annotations

import pytest
import torch
from exact_heart_case import exam

from cardiac_mri_mesh_motion.losses import MeshMotionLoss
from cardiac_mri_mesh_motion.networks import MeshMotionNet
from cardiac_mri_mesh_motion.results.pipeline import postprocessing, preprocessing
from cardiac_mri_mesh_motion.training_samples import MeshTrainingTensorsd, prepare_pair
from clinbundles.cine.training_pairs import RandFramePaird
from clinbundles.motion.cycle_inferer import CycleInferer
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_step(benchmark, tmp_path):
    sample = preprocessing(labels=True, native=False)(dict(exam(tmp_path)))
    tensors, pair = MeshTrainingTensorsd("image")(sample), RandFramePaird("image", static=0.0)
    items = [pair(tensors) for _ in range(4)]
    image, targets, _, extra = prepare_pair({key: torch.stack([item[key] for item in items]) for key in items[0]})
    network, loss = MeshMotionNet(), MeshMotionLoss()

    def step():
        loss(network(image, **extra), targets).backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("refine_steps", [0, 120])
def test_exam_of_25_phases(benchmark, tmp_path, refine_steps):
    case = simulate_heart_exam(tmp_path, 900002, frames=25)
    files = {key: str(tmp_path / case[key]) for key in ("sax", "lax_2ch", "lax_3ch", "lax_4ch")}
    network, inferer = MeshMotionNet().eval(), CycleInferer()
    before, after = preprocessing(), postprocessing(refine_steps=refine_steps)

    def run():
        sample = before(dict(files))
        with torch.no_grad():
            inputs = (sample["image"][None], network, sample["lax"][None], sample["lax_pose"][None])
            sample["pred"] = inferer(*inputs)[0]
        return after(sample)

    assert benchmark.pedantic(run, rounds=1, warmup_rounds=0)["results"]["frames"] == 25
