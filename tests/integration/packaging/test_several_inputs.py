"""A network of three inputs of unlike rank, such as volumes, planes and their poses, in all forms of a package."""

from __future__ import annotations

import torch
import torch.nn.functional

from clinbundles.hosts.model_registry import signature
from clinbundles.packaging.declared_tensors import example_inputs, undeclared_outputs
from clinbundles.packaging.onnx_export import export_onnx, run_onnx

SHAPES = {"image": (2, [16, 16, 4]), "lax": (2, [3, 16, 16]), "lax_pose": (3, [3, 4])}


class PlanesIntoVolume(torch.nn.Module):
    """Samples planes where their poses say, and adds them to a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.volume, self.plane = torch.nn.Conv3d(2, 3, 3, padding=1), torch.nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, image: torch.Tensor, lax: torch.Tensor, lax_pose: torch.Tensor) -> torch.Tensor:
        batch, planes = lax.shape[0], lax.shape[2]
        seen = self.plane(lax.transpose(1, 2).reshape(batch * planes, 2, 16, 16))
        poses = lax_pose.reshape(batch * planes, 3, 4)
        grid = torch.nn.functional.affine_grid(poses, [batch * planes, 3, 16, 16, 4], align_corners=False)
        there = torch.nn.functional.grid_sample(seen[:, :, None], grid, align_corners=False, padding_mode="border")
        return self.volume(image) + there.reshape(batch, planes, 3, 16, 16, 4).sum(1)


def entry(channels, shape):
    return {"num_channels": channels, "spatial_shape": shape, "dtype": "float32", "value_range": [-1, 1]}


METADATA = {
    "network_data_format": {
        "inputs": {name: entry(*shape) for name, shape in SHAPES.items()},
        "outputs": {"pred": entry(3, [16, 16, 4])},
    }
}


def test_three_inputs_keep_their_order_and_shapes_in_torchscript_onnx_and_signature(tmp_path):
    torch.manual_seed(0)
    network = PlanesIntoVolume().eval()
    assert undeclared_outputs(network, METADATA) == []
    onnx = export_onnx(network, METADATA, tmp_path / "model.onnx")
    script = torch.jit.script(network)
    for batch in (1, 3):
        inputs = example_inputs(METADATA, batch, 1)
        assert [tuple(value.shape) for value in inputs] == [(batch, n, *shape) for n, shape in SHAPES.values()]
        with torch.no_grad():
            expected = network(*inputs)
            torch.testing.assert_close(script(*inputs), expected)
        torch.testing.assert_close(run_onnx(onnx, list(SHAPES), inputs)[0], expected, rtol=1e-4, atol=1e-4)
    specs = signature(METADATA).inputs.inputs
    assert [(spec.name, spec.shape) for spec in specs] == [(name, (-1, n, *s)) for name, (n, s) in SHAPES.items()]
