"""The under-display network: its two budgets and its shape."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from afterlens.training.blocks import fold_weight_norm
from afterlens.training.recipe import read_recipe
from afterlens.training.udc.network import MULTIPLE, UnderDisplayNetwork
from afterlens.training.udc.task import TASK, UnderDisplayRecipe, build_network

# What the recipe file says of the still network.
STILL = ["network.widths=[96,96,128]", "network.depths=[4,4,3]", "network.decoder_depths=[4,4]"]


@pytest.mark.parametrize(
    ("overrides", "gmacs", "parameters"), [([], 0.26, 0.2e6), (STILL, 1.2, 1.0e6)], ids=["live", "still"]
)
def test_budgets_at_256_pixels(overrides: list[str], gmacs: float, parameters: float) -> None:
    network = build_network(read_recipe(UnderDisplayRecipe, TASK.recipe_path, overrides))
    fold_weight_norm(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 256, 256))
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{counter.get_total_flops() / 2e9:.3f} GMACs, {count / 1e6:.3f} M parameters")
    assert counter.get_total_flops() / 2e9 <= gmacs
    assert count <= parameters


def test_the_recipe_file_names_the_still_network() -> None:
    text = TASK.recipe_path.read_text()
    assert all(f"-s {override}" in text for override in STILL)


def test_new_network_leaves_every_photo_exactly_as_it_is() -> None:
    photo = torch.rand(1, 3, MULTIPLE, 3 * MULTIPLE)
    with torch.no_grad():
        assert torch.equal(UnderDisplayNetwork()(photo), photo)


def test_bottleneck_is_smaller_than_the_photo_and_every_part_counts() -> None:
    torch.manual_seed(0)
    network = UnderDisplayNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    shapes = []
    for level in network.encoder.levels:
        level.register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape)))
    photo = torch.rand(1, 3, 64, 96)
    result = network(photo)
    assert result.shape == photo.shape
    assert shapes == [(1, 48, 16, 24), (1, 64, 8, 12), (1, 64, 4, 6)]
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(result.square().sum(), parameters)
    idle = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()]
    assert not idle, idle
