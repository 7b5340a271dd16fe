"""The multi-view network: what it must not depend on, and the forms in which it travels."""

from __future__ import annotations

import math

import pytest
import torch

from clinbundles.motion.cycle_inferer import CycleInferer
from clinbundles.motion.multiview_network import PAPER_ENCODER, MultiViewMotionNet
from clinbundles.motion.view_geometry import lift, plane_frame, upright_pictures

SMALL = {"width_2d": 4, "width_3d": 4, "depth": 8, "encoder": ((1, 1), (2, 1), (2, 1))}


def view_pose(angle, turn=0.0, flip=1.0, pixels=32, pixel_mm=2.0, off=0.0):
    """(3, 4): a plane through the long axis at an angle, its picture turned in its own plane, its normal flipped."""
    across = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    along = torch.tensor([0.0, 0.0, 1.0])
    first = math.cos(turn) * across + math.sin(turn) * along
    second = -math.sin(turn) * across + math.cos(turn) * along
    normal = flip * torch.linalg.cross(first, second)
    middle = (pixels - 1) / 2
    rows = [
        torch.cat([first / pixel_mm, torch.tensor([middle])]),
        torch.cat([second / pixel_mm, torch.tensor([middle])]),
        torch.cat([normal, torch.tensor([off])]),
    ]
    return torch.stack(rows)


def exam(pixels=32, depth=8, views=3, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 2, pixels, pixels, depth, generator=generator)
    lax = torch.rand(batch, 2, views, pixels, pixels, generator=generator)
    angles = [1.05, -1.05, 0.0][:views]
    pose = torch.stack([view_pose(angle, pixels=pixels) for angle in angles]).expand(batch, -1, -1, -1)
    return image, lax, pose.clone()


def network(seed=0, **arguments):
    """A small network whose last layer is not zero."""
    torch.manual_seed(seed)
    net = MultiViewMotionNet(**{**SMALL, **arguments}).eval()
    torch.nn.init.normal_(net.motion.last.weight, std=0.1)
    return net


@pytest.mark.parametrize("fusion", ["geometry", "stacked"])
def test_new_network_starts_at_no_motion(fusion):
    image, lax, pose = exam()
    field = MultiViewMotionNet(**SMALL, fusion=fusion)(image, lax, pose)
    assert field.shape == (2, 3, 32, 32, 8)
    assert torch.equal(field, torch.zeros_like(field))


def test_displacement_stays_below_its_limit():
    net = network(max_displacement_mm=(10.0, 5.0, 20.0))
    torch.nn.init.normal_(net.motion.last.weight, std=50.0)
    largest = net(*exam()).abs().amax(dim=(0, 2, 3, 4))
    assert (largest <= torch.tensor([10.0, 5.0, 20.0])).all()
    assert (largest > torch.tensor([9.0, 4.0, 18.0])).all()


def test_shape_head_adds_logits_of_end_diastole_and_in_training_of_t():
    net = network(shape_classes=4)
    image, lax, pose = exam()
    with torch.no_grad():
        one, both = net(image, lax, pose), net.motion_and_shapes(image, lax, pose)
    assert one.shape == (2, 7, 32, 32, 8)
    assert both.shape == (2, 11, 32, 32, 8)
    assert torch.equal(one, both[:, :7])
    swapped = net.motion_and_shapes(image.flip(1), lax.flip(1), pose)
    assert torch.allclose(swapped[:, 3:7], both[:, 7:], atol=1e-6)
    assert torch.allclose(swapped[:, 7:], both[:, 3:7], atol=1e-6)


def test_results_do_not_depend_on_the_batch():
    net, (image, lax, pose) = network(), exam(batch=3)
    with torch.no_grad():
        together = net(image, lax, pose)
        alone = torch.cat([net(image[i : i + 1], lax[i : i + 1], pose[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)  # mm


def test_fusion_by_geometry_does_not_depend_on_the_order_of_the_views():
    net, (image, lax, pose) = network(), exam()
    order = [2, 0, 1]
    with torch.no_grad():
        assert torch.allclose(net(image, lax, pose), net(image, lax[:, :, order], pose[:, order]), atol=1e-5)


def test_fusion_by_geometry_takes_a_missing_view_as_no_view():
    net, (image, lax, pose) = network(), exam()
    lax[:, :, 1], pose[:, 1] = 0, 0
    kept = [0, 2]
    with torch.no_grad():
        assert torch.allclose(net(image, lax, pose), net(image, lax[:, :, kept], pose[:, kept]), atol=1e-5)
        nothing = net(image, torch.zeros_like(lax), torch.zeros_like(pose))
    assert nothing.isfinite().all()


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_normal_and_quarter_turns_of_a_picture_change_nothing(flip):
    """The same plane scanned with rows and columns the other way round, or counted from its other side."""
    net, (image, lax, pose) = network(), exam()
    turned_lax, turned_pose = lax.clone(), pose.clone()
    for index, angle in enumerate([1.05, -1.05, 0.0]):
        turned_lax[:, :, index] = torch.rot90(lax[:, :, index], 1, dims=(2, 3))
        turned_pose[:, index] = view_pose(angle, turn=math.pi / 2, flip=flip)
    upright = upright_pictures(lax, pose, 2.0)
    again = upright_pictures(turned_lax, turned_pose, 2.0)
    if not torch.allclose(upright, again, atol=1e-4):
        turned_lax = torch.rot90(turned_lax, 2, dims=(3, 4))
        again = upright_pictures(turned_lax, turned_pose, 2.0)
    assert torch.allclose(upright, again, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(net(image, lax, pose), net(image, turned_lax, turned_pose), atol=1e-3)


def test_lifted_picture_of_a_linear_function_is_that_function_on_the_plane():
    pose = torch.stack([view_pose(0.7, off=0.0)])[None]
    horizontal, _, _, _, present = plane_frame(pose)
    assert present.tolist() == [[1.0]]
    centres = (torch.arange(32) - 15.5) * 2
    picture = (centres[:, None] + 2 * centres[None]).reshape(1, 1, 1, 32, 32)  # across + 2 along
    across = torch.linspace(-20, 20, 9)
    places = (across[:, None] * horizontal[0, 0]).reshape(9, 1, 1, 3) + torch.tensor([0.0, 0.0, 6.0])
    lifted = lift(picture, torch.zeros(1, 1, 0, 32, 32), pose, places, extent_mm=31.0, reach_mm=12.0)
    weight = lifted[0, 1, :, 0, 0]
    assert torch.allclose(weight, torch.ones(9), atol=1e-5)
    assert torch.allclose(lifted[0, 0, :, 0, 0] * 1.05, across + 12, atol=1e-3)


def test_weight_of_a_plane_falls_with_the_distance_from_it():
    pose = torch.stack([view_pose(0.0)])[None]
    places = torch.tensor([0.0, 12.0, 24.0])[:, None] * torch.tensor([0.0, 1.0, 0.0])
    lifted = lift(torch.ones(1, 1, 1, 32, 32), torch.zeros(1, 1, 0, 32, 32), pose, places[:, None, None], 31.0, 12.0)
    expected = torch.exp(-0.5 * torch.tensor([0.0, 1.0, 2.0]) ** 2)
    assert torch.allclose(lifted[0, -1, :, 0, 0], expected, atol=1e-5)


def test_wrong_input_is_refused_by_name():
    net, (image, lax, pose) = network(), exam()
    with pytest.raises(ValueError, match="end-diastole and t"):
        net(image[:, :1], lax, pose)
    with pytest.raises(ValueError, match="built for 8"):
        net(image[..., :4], lax, pose)
    with pytest.raises(ValueError, match="multiples of 8"):
        net(image[:, :, :30], lax, pose)
    with pytest.raises(ValueError, match="lax_pose"):
        net(image, lax, pose[:, :2])
    with pytest.raises(ValueError, match="stacks 3"):
        network(fusion="stacked")(image, lax[:, :, :2], pose[:, :2])
    with pytest.raises(ValueError, match="'geometry' or 'stacked'"):
        MultiViewMotionNet(fusion="none")
    with pytest.raises(ValueError, match="multiple of 4"):
        MultiViewMotionNet(depth=6)


def test_weights_of_another_slice_count_are_refused_with_both_counts():
    other = network().state_dict()
    with pytest.raises(ValueError, match=r"network for 8 slices .* built for 16: set its depth to 8"):
        MultiViewMotionNet().load_state_dict(other)
    inside = torch.nn.Sequential(MultiViewMotionNet())
    with pytest.raises(ValueError, match="set its depth to 8"):
        inside.load_state_dict({f"0.{name}": values for name, values in other.items()})


def test_default_network_is_small():
    assert sum(weights.numel() for weights in MultiViewMotionNet().parameters()) <= 350_000


def test_widths_of_the_paper_are_arguments_away():
    with torch.device("meta"):
        net = MultiViewMotionNet(
            64, 32, fusion="stacked", views=2, depth=64, encoder=PAPER_ENCODER, levels_3d=3, coarseness=1
        )
    assert net.encoder.channels == [64, 128, 256, 512, 512]


@pytest.mark.parametrize("arguments", [{}, {"shape_classes": 4}, {"fusion": "stacked", "shape_classes": 2}])
def test_torchscript_gives_the_same_field(arguments):
    net, inputs = network(**arguments), exam()
    with torch.no_grad():
        assert torch.allclose(torch.jit.script(net)(*inputs), net(*inputs), atol=1e-5)


def test_inferer_gives_each_frame_its_field_whatever_the_batch():
    net = network()
    _, _, pose = exam()
    cine, views = torch.rand(2, 5, 32, 32, 8), torch.rand(2, 5, 3, 32, 32)
    with torch.no_grad():
        fields = CycleInferer(frames_per_batch=2)(cine, net, lax=views, lax_pose=pose)
        third = net(cine[:, [0, 3]], views[:, [0, 3]], pose)
        at_once = CycleInferer(frames_per_batch=8)(cine, net, lax=views, lax_pose=pose)
    assert fields.shape == (2, 5, 3, 32, 32, 8)
    assert torch.allclose(fields[:, 3], third, atol=1e-5)
    assert torch.allclose(fields, at_once, atol=1e-5)
    with pytest.raises(ValueError, match="the same frames"):
        CycleInferer()(cine, net, lax=views[:, :4], lax_pose=pose)
    with pytest.raises(ValueError, match="at least 1"):
        CycleInferer(0)
