"""The steerable convolution: e2cnn's numbers to the last bit, symmetry, and all that one does with a layer."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from e2cnn import nn as e2cnn_nn
from torch import nn

from clinbundles.privacy.steerable.e2cnn_numpy import e2cnn_numpy
from clinbundles.privacy.steerable.field_norm import FieldNorm
from clinbundles.privacy.steerable.group_pooling import GroupPooling
from clinbundles.privacy.steerable.group_restriction import GroupRestriction
from clinbundles.privacy.steerable.steerable_basis import plane_symmetry, steerable_basis
from clinbundles.privacy.steerable.steerable_conv import SteerableConv2d
from clinbundles.privacy.steerable.symmetry_group import (
    GROUPS,
    exact_elements,
    group_order,
    transform_features,
    transform_image,
)

# e2cnn's own layers, with which these are compared
pytestmark = pytest.mark.filterwarnings("ignore:tostring", "ignore:indexing with dtype torch.uint8")


def e2cnn_types(group: str, input_type: str, in_fields: int, out_fields: int) -> tuple[Any, Any]:
    space = plane_symmetry(group)
    source = space.regular_repr if input_type == "regular" else space.trivial_repr
    return e2cnn_nn.FieldType(space, in_fields * [source]), e2cnn_nn.FieldType(space, out_fields * [space.regular_repr])


def whole_network(group: str = "D4", subgroup: str = "D2") -> nn.Sequential:
    torch.manual_seed(0)
    ratio = group_order(group) // group_order(subgroup)
    return nn.Sequential(
        SteerableConv2d(3, 2, group=group, input_type="trivial"),
        nn.MaxPool2d(2),
        nn.Mish(),
        FieldNorm(2, group),
        SteerableConv2d(2, 3, group=group, frequency_cutoff=3.0),
        GroupRestriction(3, group, subgroup),
        SteerableConv2d(3 * ratio, 2, group=subgroup, bias=False),
        nn.Mish(),
        FieldNorm(2, subgroup),
        GroupPooling(subgroup),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("input_type", ["regular", "trivial"])
@pytest.mark.parametrize("cutoff", [None, 3.0])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_same_as_e2cnn_to_the_last_bit(group: str, input_type: str, cutoff: float | None, size: int) -> None:
    torch.manual_seed(1)
    ours = SteerableConv2d(3, 2, size, group=group, input_type=input_type, frequency_cutoff=cutoff)
    if ours.weight.shape[-1] == 1:  # e2cnn cannot build this one with a recent PyTorch; its filter is a constant
        assert torch.allclose(ours.basis, torch.full_like(ours.basis, group_order(group) ** -0.5))
        return
    in_type, out_type = e2cnn_types(group, input_type, 3, 2)
    with e2cnn_numpy():
        theirs = e2cnn_nn.R2Conv(in_type, out_type, size, padding=size // 2, frequencies_cutoff=cutoff)
    with torch.no_grad():
        theirs.bias.normal_()
        ours.weight.copy_(theirs.weights.view_as(ours.weight))
        ours.bias.copy_(theirs.bias)
    x = torch.randn(2, in_type.size, 9, 9)
    assert torch.equal(ours(x), theirs(e2cnn_nn.GeometricTensor(x, in_type)).tensor)
    theirs.double()
    try:
        assert torch.equal(ours.double()(x.double()), theirs(e2cnn_nn.GeometricTensor(x.double(), in_type)).tensor)
    finally:
        theirs.float()  # e2cnn's layers share their bases


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("input_type", ["regular", "trivial"])
@pytest.mark.parametrize("cutoff", [None, 3.0])
def test_turned_input_gives_turned_output(group: str, input_type: str, cutoff: float | None) -> None:
    layer = SteerableConv2d(2, 2, group=group, input_type=input_type, frequency_cutoff=cutoff).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, layer.in_channels, 8, 8, dtype=torch.float64)
    transform = transform_features if input_type == "regular" else transform_image
    for element in exact_elements(group):
        assert torch.allclose(
            layer(transform(x, group, element)), transform_features(layer(x), group, element), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("group, subgroup", [("D4", "D2"), ("D4", "C4"), ("D8", "D1"), ("C4", "C2")])
def test_a_restricted_field_turns_as_fields_of_the_subgroup(group: str, subgroup: str) -> None:
    layer = GroupRestriction(3, group, subgroup)
    x = torch.randn(2, 3 * group_order(group), 6, 6)
    assert layer.out_fields * group_order(subgroup) == x.shape[1]
    turns_whole, turns_part = (group_order(g) // (2 if g[0] == "D" else 1) for g in (group, subgroup))
    for element in exact_elements(subgroup):
        mirrored, turns = divmod(element, turns_part)
        whole = mirrored * turns_whole + turns * turns_whole // turns_part
        turned = layer(transform_features(x, group, whole))
        assert torch.equal(turned, transform_features(layer(x), subgroup, element))


def test_classifier_gives_the_same_logits_for_all_eight_symmetries() -> None:
    network = whole_network("D4", "D4")
    x = torch.randn(3, 3, 16, 16)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        network, x = network.to(dtype), x.to(dtype)
        for element in range(8):
            assert torch.allclose(network(transform_image(x, "D4", element)), network(x), rtol=0, atol=tolerance)


def test_initial_spread_is_that_of_e2cnn() -> None:
    in_type, out_type = e2cnn_types("D4", "regular", 3, 2)
    with e2cnn_numpy():
        reference = e2cnn_nn.R2Conv(in_type, out_type, 3, initialize=False)
    spread = e2cnn_nn.init._generalized_he_init_variances(reference.basisexpansion)
    ours = steerable_basis("D4", 3).spread / 3**0.5
    assert torch.allclose(ours.expand(2, 3, -1).flatten(), spread)
    layer = SteerableConv2d(64, 64)
    assert torch.allclose(layer.weight.std((0, 1)), steerable_basis("D4", 3).spread / 8, rtol=0.1)
    assert not layer.bias.any()


def test_bases_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from clinbundles.privacy.steerable.steerable_basis import steerable_basis;"
        "print(hashlib.sha256(steerable_basis('D4', 3).filters.numpy().tobytes()).hexdigest())"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    there = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], env=environment, text=True)
    assert there.strip() == hashlib.sha256(steerable_basis("D4", 3).filters.numpy().tobytes()).hexdigest()


def test_network_can_be_pickled_copied_and_saved() -> None:
    network = whole_network()
    x = torch.randn(2, 3, 16, 16)
    expected = network(x)
    file = io.BytesIO()
    torch.save(network.eval(), file)
    file.seek(0)
    for copied in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(copied(x), expected)


def test_state_has_the_same_names_in_training_and_evaluation() -> None:
    network = whole_network()
    training = network.train().state_dict()
    assert list(training) == list(network.eval().state_dict())
    assert [name for name in training if name.startswith("0.")] == ["0.weight", "0.bias"]
    other = whole_network().eval()
    with torch.no_grad():
        network[0].weight.mul_(2)
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(other(x), network(x))


def test_network_can_be_scripted_exported_and_written_as_onnx() -> None:
    network = whole_network().eval()
    x = torch.randn(3, 3, 16, 16)
    expected = network(x)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    assert torch.equal(torch.jit.load(file)(x), expected)
    free_batch = ({0: torch.export.Dim("batch")},)
    assert torch.equal(torch.export.export(network, (x[:2],), dynamic_shapes=free_batch).module()(x), expected)
    onnxruntime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(network, (x[:2],), dynamo=True, dynamic_shapes=free_batch, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(output), expected, atol=5e-6)


def test_basis_follows_the_weights_and_survives_empty_tensors() -> None:
    layer = SteerableConv2d(1, 1)
    filters = steerable_basis("D4", 3).filters
    assert layer.double().basis.dtype == torch.float64
    assert torch.equal(layer.half().float().basis, filters)
    with torch.device("meta"):
        layer = SteerableConv2d(1, 1)
    assert layer(torch.zeros(1, 8, 4, 4, device="meta")).shape == (1, 8, 4, 4)
    assert torch.equal(layer.to_empty(device="cpu").basis, filters)


def test_channels_last_changes_no_number() -> None:
    network = whole_network()
    x = torch.randn(2, 3, 16, 16)
    expected = network(x)
    moved = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(moved, expected, atol=1e-6)


def test_field_norm_normalises_whole_fields_of_each_sample() -> None:
    x = torch.randn(2, 6 * 8, 5, 5, dtype=torch.float64) * 3 + 1
    y = FieldNorm(6, groups=3)(x).unflatten(1, (3, 2 * 8)).flatten(2)
    assert torch.allclose(y.mean(2), torch.zeros(2, 3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(y.var(2, correction=0), torch.ones(2, 3, dtype=torch.float64), atol=1e-4)
    groups = {fields: FieldNorm(fields).groups for fields in (4, 6, 8, 13, 39, 78)}
    assert groups == {4: 1, 6: 1, 8: 8, 13: 1, 39: 3, 78: 6}


def test_group_pooling_takes_the_largest_of_each_field() -> None:
    x = torch.randn(2, 3 * 8, 4, 4)
    assert torch.equal(GroupPooling()(x), torch.stack([field.amax(1) for field in x.split(8, dim=1)], 1))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size is 4: only odd sizes have a centre"):
        SteerableConv2d(1, 1, 4)
    with pytest.raises(ValueError, match="input_type is 'vector': expected 'regular' or 'trivial'"):
        SteerableConv2d(1, 1, input_type="vector")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frequency_cutoff is -1: expected a positive factor"):
        SteerableConv2d(1, 1, frequency_cutoff=-1)
    with pytest.raises(ValueError, match="input has 3 channels: this layer expects 8"):
        SteerableConv2d(1, 1)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="input has 3 channels: this layer expects 16"):
        FieldNorm(2)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="6 fields cannot be split into 4 groups: choose a divisor of 6"):
        FieldNorm(6, groups=4)
    with pytest.raises(ValueError, match="C8 is no subgroup of D4"):
        GroupRestriction(1, "D4", "C8")
    with pytest.raises(ValueError, match="D1 is no subgroup of C4"):
        GroupRestriction(1, "C4", "D1")


def test_printed_layer_tells_its_arguments() -> None:
    assert repr(SteerableConv2d(1, 2, group="C4")) == (
        "SteerableConv2d(1, 2, kernel_size=3, group=C4, input_type=regular, bias=True, frequency_cutoff=None)"
    )
