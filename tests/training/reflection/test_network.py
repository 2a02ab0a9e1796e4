"""The dual-branch network: its budget, its claims (grouped, gated, skips at every level), its exact rewritings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afterlens.training.blocks import GROUP_WIDTH, GatedConv, fold_weight_norm, photo_head
from afterlens.training.checkpoint import load_checkpoint
from afterlens.training.loop import _parts_that_fit
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.gate import CELL
from afterlens.training.reflection.network import MULTIPLE, ReflectionNetwork
from afterlens.training.reflection.task import TASK, ReflectionRecipe, build_network
from afterlens.training.tasks import find_task


@pytest.fixture(scope="module")
def network() -> ReflectionNetwork:
    """The network of the recipe with noise for weights, so that nothing is hidden by zeros."""
    return noisy()


@pytest.fixture(scope="module")
def plain() -> ReflectionNetwork:
    """The same without context and gate: the network of the weights from before there were any."""
    return noisy("network.context=false", "network.gate=false", "loss.gate=0")


def noisy(*overrides: str) -> ReflectionNetwork:
    torch.manual_seed(3)
    made = build_network(read_recipe(ReflectionRecipe, TASK.recipe_path, overrides))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    fold_weight_norm(made)
    return made.eval()


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_budget_at_256_pixels(network: ReflectionNetwork) -> None:
    parameters = sum(parameter.numel() for parameter in network.parameters())

    # Counted twice: by PyTorch's operator counter, and by hand from every convolution's output.
    by_hand = 0

    def count(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal by_hand
        assert isinstance(conv, nn.Conv2d)
        by_hand += (
            conv.weight.numel() * output.shape[2] * output.shape[3]
        )  # each weight meets every output pixel once

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convolutions]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 256, 256))
    for hook in hooks:
        hook.remove()
    print(f"{by_hand / 1e9:.3f} GMACs, {parameters / 1e6:.3f} M parameters")
    assert counter.get_total_flops() == 2 * by_hand
    assert by_hand <= 2.0e9
    assert parameters <= 1.2e6


@pytest.mark.parametrize(("height", "width"), [(MULTIPLE, MULTIPLE), (64, 160)])
def test_both_results_have_the_photos_size(network: ReflectionNetwork, height: int, width: int) -> None:
    with torch.no_grad():
        background, layer, logits = network(image(height, width))
    assert background.shape == layer.shape == (1, 3, height, width)
    assert logits.shape == (1, 1, height // CELL, width // CELL)


@pytest.mark.parametrize("gated_encoder", [True, False])
@pytest.mark.parametrize(("context", "gate"), [(False, False), (True, False), (False, True), (True, True)])
def test_new_network_leaves_every_photo_exactly_as_it_is(
    context: bool, gate: bool, gated_encoder: bool
) -> None:
    photo = image()
    with torch.no_grad():
        network = ReflectionNetwork(context=context, gate=gate, gated_encoder=gated_encoder)
        background, layer = network(photo)[:2]
    assert torch.equal(background, photo)
    assert not layer.any()


def test_closed_gates_of_the_features_leave_the_photo_exactly_as_it_is(plain: ReflectionNetwork) -> None:
    photo = image()
    bias = plain.background_feature.gate.bias
    assert bias is not None
    before = bias.detach().clone()
    with torch.no_grad():
        assert not torch.equal(plain(photo)[0], photo)
        bias.fill_(-1e4)
        closed = plain(photo)[0]
        bias.copy_(before)
    assert torch.equal(closed, photo)


def test_gate_above_all_logits_leaves_the_photo_exactly_as_it_is(network: ReflectionNetwork) -> None:
    photo = image()
    try:
        network.threshold = 1e4
        with torch.no_grad():
            background, layer, _ = network(photo)
    finally:
        network.threshold = 0.0
    assert torch.equal(background, photo) and not layer.any()
    with torch.no_grad():
        assert not torch.equal(network(photo)[0], photo)


def seen(network: ReflectionNetwork, photo: Tensor) -> dict[str, Any]:
    """What the heads say of the photo, and the network's outputs."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: found.update({name: output})

    named = dict(network.named_children())
    heads = ("offset_head", "gain_head", "layer_head", "affine_head", "gate_head")
    hooks = [named[head].register_forward_hook(keep(head)) for head in heads if head in named]
    with torch.no_grad():
        found["outputs"] = network(photo)
    for hook in hooks:
        hook.remove()
    return found


def test_background_is_a_residual_to_the_input_with_a_part_in_proportion_to_it(
    plain: ReflectionNetwork,
) -> None:
    photo = image()
    found = seen(plain, photo)
    offset, gain = found["offset_head"], found["gain_head"]
    assert torch.equal(found["outputs"][0], photo - (offset + gain * photo))
    assert torch.equal(found["outputs"][1], found["layer_head"])


def test_gate_multiplies_the_fine_and_the_smooth_change_and_the_layer(network: ReflectionNetwork) -> None:
    photo = image()
    found = seen(network, photo)
    smooth_gain, smooth_offset = found["affine_head"]
    residual = found["offset_head"] + found["gain_head"] * photo + smooth_gain * photo + smooth_offset
    gate = (1.2 * torch.sigmoid(found["gate_head"]) - 0.1).clamp(0.0, 1.0)
    for _ in range(4):
        gate = F.interpolate(gate, scale_factor=2.0, mode="bilinear", align_corners=False)
    background, layer, logits = found["outputs"]
    torch.testing.assert_close(background, photo - gate * residual)
    torch.testing.assert_close(layer, gate * found["layer_head"])
    assert torch.equal(logits, found["gate_head"])


def test_stem_is_a_pixel_unshuffle_and_a_1x1_convolution(network: ReflectionNetwork) -> None:
    stem = network.encoder.stem
    assert isinstance(stem, nn.Conv2d)
    photo = image()
    weight = stem.weight.reshape(stem.out_channels, 3 * 16, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(stem(photo), F.conv2d(F.pixel_unshuffle(photo, 4), weight, stem.bias))


def test_a_head_is_a_transposed_convolution_of_stride_4() -> None:
    head = photo_head(16)
    conv = head[0]
    assert isinstance(conv, nn.Conv2d) and not conv.weight.any()
    nn.init.normal_(conv.weight)
    feature = torch.randn(1, 16, 6, 5)
    weight = conv.weight.reshape(3, 4, 4, 16).permute(3, 0, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(head(feature), F.conv_transpose2d(feature, weight, stride=4))


def test_encoder_is_grouped_and_every_3x3_convolution_gated(network: ReflectionNetwork) -> None:
    gated = {id(conv) for m in network.modules() if isinstance(m, GatedConv) for conv in (m.feature, m.gate)}
    spatial = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(spatial) >= 2 * sum(read_recipe(ReflectionRecipe, TASK.recipe_path).network.depths)
    for conv in spatial:
        assert id(conv) in gated
        assert conv.groups == conv.in_channels // GROUP_WIDTH > 1
    # A decoder's features come through gates as well.
    for decoder in (network.background, network.layer):
        assert all(isinstance(join.fuse, GatedConv) for join in decoder.joins)


def test_encoder_gives_three_levels(network: ReflectionNetwork) -> None:
    widths = read_recipe(ReflectionRecipe, TASK.recipe_path).network.widths
    with torch.no_grad():
        shapes = [tuple(level.shape) for level in network.encoder(image(64, 96))]
    assert shapes == [(1, widths[0], 16, 24), (1, widths[1], 8, 12), (1, widths[2], 4, 6)]


def test_decoders_share_the_encoder_and_nothing_else(plain: ReflectionNetwork) -> None:
    def reached(output: Tensor) -> set[str]:
        names, parameters = zip(*plain.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output.square().sum(), parameters, allow_unused=True)
        return {name.split(".")[0] for name, g in zip(names, gradients, strict=True) if g is not None}

    background, layer = plain(image())
    shared = {"encoder", "skips"}
    assert reached(background) == shared | {
        "background",
        "background_feature",
        "offset_head",
        "gain_head",
    }
    background, layer = plain(image())
    assert reached(layer) == shared | {"layer", "layer_feature", "layer_head"}


def test_results_depend_on_every_part_of_the_network(network: ReflectionNetwork) -> None:
    background, layer, _ = network(image())
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad((background + layer).square().sum(), parameters)
    idle = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()]
    assert not idle, idle


def test_other_widths_can_be_built() -> None:
    recipe = read_recipe(ReflectionRecipe, TASK.recipe_path)
    small = recipe.network.model_copy(
        update={"widths": (16, 32, 16), "depths": (1, 2, 1), "decoder_widths": (16, 32)}
    )
    with torch.no_grad():
        background, *_ = build_network(recipe.model_copy(update={"network": small}))(image())
    assert background.shape == (1, 3, 64, 96)


def test_encoder_without_gates_takes_the_weights_of_under_display() -> None:
    udc = find_task("udc")
    weights, metadata = load_checkpoint(udc.pretrained.with_name("udc_still.safetensors"))
    network = metadata["recipe"]["network"]
    wide, deep = network["widths"], network["depths"]
    own = ReflectionNetwork(wide, deep, context=True, gate=True, gated_encoder=False).state_dict()
    fitting = {name.partition(".")[0] for name in _parts_that_fit(weights, own)}
    assert fitting == {"encoder", "context", "statistics"}
