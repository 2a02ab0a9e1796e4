"""The deblurring network: its budget, what leaves it unchanged, and the form for streams."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afterlens.training.blocks import fold_weight_norm
from afterlens.training.deblur.network import (
    FORMS,
    MOTION,
    MOVING,
    MULTIPLE,
    STILL,
    ContrastStem,
    DeblurNetwork,
    for_deployment,
)
from afterlens.training.deblur.task import TASK, DeblurRecipe, DeblurStream, build_network
from afterlens.training.recipe import read_recipe
from afterlens.training.trained import load_network

Widths = tuple[int, int, int]
SMALL: Widths = (16, 16, 16)


def small(form: str = "dynamic") -> DeblurNetwork:
    torch.manual_seed(0)
    network = DeblurNetwork(SMALL, (16, 32, 32), (2, 1, 1), (1, 1), form)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


def frames(height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, height, width, generator=generator), torch.rand(
        1, 3, height, width, generator=generator
    )


@pytest.mark.parametrize("form", ["dynamic", "static"])
def test_budget_at_256_pixels_flow_included(form: str) -> None:
    network = build_network(read_recipe(DeblurRecipe, TASK.recipe_path, [f"network.form={form}"]))
    fold_weight_norm(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
    count = sum(parameter.numel() for parameter in network.parameters())
    gmacs = counter.get_total_flops() / 2e9
    print(f"{gmacs:.3f} GMACs, {count / 1e6:.3f} M parameters")
    assert gmacs <= 1.4 and count <= 1e6


def test_dynamic_and_static_cost_the_same() -> None:
    costs = []
    for form in ("dynamic", "static"):
        network = build_network(read_recipe(DeblurRecipe, TASK.recipe_path, [f"network.form={form}"]))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*frames())
        costs.append((counter.get_total_flops(), sum(p.numel() for p in network.parameters())))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_new_network_leaves_every_frame_exactly_as_it_is(form: str) -> None:
    current, previous = frames()
    with torch.no_grad():
        restored, fields = DeblurNetwork(SMALL, SMALL, (1, 1, 1), (1, 1), form)(current, previous)
    assert torch.equal(restored, current)
    assert [tuple(field.shape) for field in fields] == [(1, MOTION, 64 // s, 96 // s) for s in (16, 8, 4)]


def still(network: DeblurNetwork) -> DeblurNetwork:
    """The same weights, but all that it sees stands still."""
    with torch.no_grad():
        for head in network.motion.extents:
            for parameter in head.parameters():
                parameter.zero_()
    return network


def test_where_nothing_moves_the_frame_stays_to_the_last_bit() -> None:
    current, previous = frames()
    with torch.no_grad():
        assert float((small()(current, previous)[0] - current).abs().max()) > 1e-3
        assert torch.equal(still(small())(current, previous)[0], current)
        assert not torch.equal(still(small("static"))(current, previous)[0], current)


def test_without_motion_every_dynamic_block_is_the_identity() -> None:
    network, x, motion = small(), torch.rand(1, 16, 8, 8), torch.rand(1, 16, 8, 8)
    blocks = network.encoder[0]
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        with torch.no_grad():
            assert torch.equal(block(x, motion, torch.zeros(1, 1, 8, 8)), x)
            assert not torch.equal(block(x, motion, torch.ones(1, 1, 8, 8)), x)
            assert not torch.equal(
                block(x, motion, torch.ones(1, 1, 8, 8)), block(x, -motion, torch.ones(1, 1, 8, 8))
            ), "the weights do not depend on the motion"


def test_faint_contrast_is_the_same_motion() -> None:
    network, (current, previous) = small("motion"), frames()
    with torch.no_grad():
        strong, faint, shifted = (
            network(low + span * current, low + span * previous)[1][-1]
            for low, span in ((0.0, 1.0), (0.1, 0.5), (0.45, 0.5))
        )
        spread = float(strong.std())
    assert float((faint - shifted).abs().max()) < 1e-3 * spread
    # A little, since what is as faint as noise is not brought up.
    assert float((faint - strong).abs().mean()) < 0.05 * spread


def test_extents_between_still_and_moving_count_in_proportion() -> None:
    network = small()
    extents = torch.tensor([STILL, MOVING, (STILL + MOVING) / 2]) / 8  # in units of 8 pixels
    torch.testing.assert_close(network._ramp(extents), torch.tensor([0.0, 1.0, 0.5]), rtol=0, atol=1e-6)


def test_contrast_of_the_noise_floor_is_halved() -> None:
    stem = ContrastStem(64)
    noise = 0.5 + stem.NOISE * torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        squares = stem(noise)[..., 4:-4, 4:-4].square().mean()
    assert stem.NOISE == 0.04
    assert 0.45 < float(squares) < 0.55, "power / (power + floor), both the same"


@pytest.mark.parametrize("shift", [(8, 0), (0, 8), (-4, 8)])
def test_the_bundled_weights_see_known_motion(photo: NDArray[np.float32], shift: tuple[int, int]) -> None:
    """Both frames are cut from one photo, the previous one ``shift`` pixels (x, y) away."""
    network = load_network(TASK, TASK.pretrained)[0]
    x, y = shift
    side, left, top = 192, 300, 100
    current, previous = (
        torch.from_numpy(photo[b : b + side, a : a + side].transpose(2, 0, 1).copy())[None]
        for a, b in ((left, top), (left - x, top - y))
    )
    with torch.inference_mode():
        flow = network(current, previous)[1][-1][0, :2, 8:-8, 8:-8].flatten(1).median(1).values.tolist()
    print(f"shifted by {shift}, found {flow}")
    assert flow == [pytest.approx(x, abs=2.0), pytest.approx(y, abs=2.0)]


def test_the_copy_for_deployment_computes_the_same() -> None:
    network, (current, previous) = small(), frames()
    with torch.no_grad():
        for head in network.motion.extents:  # so that parts of the frame lie on the ramp
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            head.bias.fill_(0.02)
            head.weight.normal_(0.0, 0.02)
        expected, fields = network(current, previous)
        assert 0.05 < float(((fields[-1][:, 2] > STILL) & (fields[-1][:, 2] < MOVING)).float().mean()) < 0.95
        deployed = for_deployment(network)
        assert float((deployed(current, previous)[0] - expected).abs().max()) < 1e-5
        assert torch.equal(network(current, previous)[0], expected), "the network itself has changed"


@pytest.mark.parametrize("form", FORMS)
def test_every_part_counts(form: str) -> None:
    network = small(form)
    restored, fields = network(*frames())
    names, parameters = zip(*network.named_parameters(), strict=True)
    loss = restored.square().sum() + sum(field.square().sum() for field in fields)
    gradients = torch.autograd.grad(loss, parameters)
    idle = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()]
    assert not idle, idle


def test_a_stream_gives_the_same_frames_and_encodes_each_once() -> None:
    network = small().eval()
    clip = [torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    stream, features = DeblurStream(network), None
    calls = []
    network.frame.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for place, frame in enumerate(clip):
            restored, features = stream(frame, features)
            count = len(calls)
            expected = TASK.restorer(network)(frame, clip[max(0, place - 1)])[0]
            assert count == place + 1 + 2 * place, "two of the two-frame form in between"
            assert torch.equal(restored, expected)


def test_sides_must_fit_the_levels() -> None:
    with pytest.raises(RuntimeError):
        small()(*frames(MULTIPLE + 4, MULTIPLE))
