"""The swap's network: its budget, baking one identity, and the mark."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from afterlens.conversion.convert import parameters_and_macs
from afterlens.training.blocks import fold_weight_norm
from afterlens.training.recipe import read_recipe
from afterlens.training.swap.network import BakedSwap, SwapGraph, SwapNetwork, was_laid
from afterlens.training.swap.task import TASK, SwapRecipe, build_network, deployable


def some_network(seed: int = 0) -> SwapNetwork:
    """Its last layer is not zero, and its identities differ."""
    torch.manual_seed(seed)
    network = SwapNetwork((16, 16, 32), (1, 1, 1), (1, 1)).eval()
    nn.init.normal_(network.head[0].weight, 0.0, 0.2)  # type: ignore[arg-type]
    fold_weight_norm(network)
    return network


def vectors(count: int) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(count, 128), dim=1)


def test_the_network_keeps_its_budget() -> None:
    network = fold_weight_norm(build_network(read_recipe(SwapRecipe, TASK.recipe_path))).eval()
    network.identity_vector.copy_(vectors(1)[0])  # type: ignore[operator]
    parameters, macs = parameters_and_macs(deployable(network, 256, 256))
    print(f"{parameters} parameters, {macs / 1e9:.3f} GMACs")
    assert macs <= 0.35e9 and parameters <= 0.5e6


def test_untrained_it_averages_the_frame_and_the_laid_source() -> None:
    network = SwapNetwork((16, 16, 16), (1, 1, 1), (1, 1)).eval()
    frame, laid = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        result, mask = network(frame, laid, vectors(1))
    assert mask.numpy() == pytest.approx(0.5) and torch.allclose(result, (frame + laid) / 2)


def test_a_frame_on_which_nothing_was_laid_comes_back_as_it_was() -> None:
    network, frame = some_network(), torch.rand(2, 3, 96, 96)
    laid = frame.clone()
    laid[1, :, 32:64, 32:64] += 0.2
    with torch.no_grad():
        result, mask = network(frame, laid, vectors(2))
    assert torch.equal(result[0], frame[0]) and mask[0].max() == 0.0
    assert (mask[1, :, 40:56, 40:56] > 0.0).all() and mask[1, :, 40:56, 40:56].mean() > 0.2


def test_also_a_dark_face_was_laid_as_a_whole_and_half_floats_say_so_too() -> None:
    frame = torch.full((1, 3, 32, 32), 0.97)
    laid = frame.clone()
    laid[..., 4, 4] += 5.0 / 255.0
    for pictures in ((frame, laid), (frame.half().float(), laid.half().float())):
        assert float(was_laid(*pictures)) == 1.0
    laid[..., 4, 4] = frame[..., 4, 4] + 1.0 / 255.0
    assert 0.2 < float(was_laid(frame, laid)) < 0.3


def test_a_baked_identity_is_what_the_modulation_does() -> None:
    network = some_network()
    frame, laid = torch.rand(2, 2, 3, 64, 64)
    one, other = vectors(2)
    with torch.no_grad():
        wanted, wanted_mask = network(frame, laid, one.expand(2, -1))
        result, mask = BakedSwap(network, one)(frame, laid)
        another, _ = BakedSwap(network, other)(frame, laid)
    assert torch.allclose(result, wanted, atol=1e-5) and torch.allclose(mask, wanted_mask, atol=1e-5)
    assert (another - wanted).abs().mean() > 1e-3
    # The network itself is left as it was.
    assert torch.allclose(network(frame, laid, one.expand(2, -1))[0], wanted)


def test_what_is_converted_is_marked_and_clipped() -> None:
    network = some_network()
    frame, laid = torch.rand(2, 1, 3, 256, 256)
    with torch.no_grad():
        result, mask = SwapGraph(network, vectors(1)[0])(frame, laid)
        plain, _ = BakedSwap(network, torch.zeros(128))(frame, laid)
    assert result.shape == mask.shape == (1, 3, 256, 256)
    assert float(result.min()) >= 0.0 and float(result.max()) <= 1.0
    assert not torch.equal(result, plain.clamp(0.0, 1.0))
