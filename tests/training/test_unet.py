"""Encoder and decoder: shapes of the levels, and how each decoder level joins its skip."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from afterlens.training.blocks import GroupedBlock, GroupedGatedBlock, photo_stem, upsample2
from afterlens.training.unet import AddSkip, ConcatenateSkip, Decoder, Encoder


@pytest.fixture
def skips() -> list[Tensor]:
    torch.manual_seed(5)
    return [torch.randn(1, 16, 8, 12), torch.randn(1, 32, 4, 6), torch.randn(1, 48, 2, 3)]


def test_encoder_levels_halve_the_size() -> None:
    encoder = Encoder(photo_stem(16), (16, 32, 48), (1, 2, 1), GroupedBlock)
    with torch.no_grad():
        shapes = [tuple(features.shape) for features in encoder(torch.rand(2, 3, 64, 96))]
    assert shapes == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 48, 4, 6)]


def test_every_decoder_level_concatenates_its_skip(skips: list[Tensor]) -> None:
    decoder = Decoder((16, 32, 48), (32, 64), (1, 1), ConcatenateSkip, GroupedGatedBlock)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for join in decoder.joins:
        assert isinstance(join, ConcatenateSkip)
        join.fuse.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    for level in decoder.levels:
        level.register_forward_hook(lambda module, given, output: outputs.append(output))
    with torch.no_grad():
        result = decoder(skips)
    assert [tuple(output.shape) for output in outputs] == [(1, 64, 4, 6), (1, 32, 8, 12)]
    assert torch.equal(inputs[0], torch.cat([upsample2(skips[2]), skips[1]], dim=1))
    assert torch.equal(inputs[1], torch.cat([upsample2(outputs[0]), skips[0]], dim=1))
    assert torch.equal(result, outputs[1])


def test_every_decoder_level_adds_its_skip(skips: list[Tensor]) -> None:
    decoder = Decoder((16, 32, 48), (16, 32), (2, 1), AddSkip, GroupedBlock)
    with torch.no_grad():
        x = skips[2]
        for join, level, skip in zip(decoder.joins, decoder.levels, (skips[1], skips[0]), strict=True):
            assert isinstance(join, AddSkip)
            # The 1x1 convolution and the upsampling commute.
            x = F.conv2d(upsample2(x), join.conv.weight, join.conv.bias)
            x = level(x + skip)
        torch.testing.assert_close(decoder(skips), x)


def test_a_skip_of_another_width_cannot_be_added() -> None:
    with pytest.raises(AssertionError, match="a skip of 32 channels cannot be added to 64"):
        Decoder((16, 32, 48), (16, 64), (1, 1), AddSkip, GroupedBlock)
