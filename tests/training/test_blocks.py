"""Building blocks against direct formulations in NumPy and OpenCV."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.training.blocks import (
    GROUP_WIDTH,
    GatedConv,
    GroupedGatedBlock,
    PyramidPooling,
    ScaleSelection,
    SkipPyramid,
    fold_weight_norm,
    normalised,
    scaled_init,
    upsample2,
)

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


def randomised(module: nn.Module) -> nn.Module:
    """Biases start at constants, which would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.double()


def array(x: Tensor) -> Array:
    return x.detach().double().numpy()


def convolved(conv: nn.Module, x: Array) -> Array:
    """A convolution of stride 1 that keeps the size, written out: a sum of shifted pictures, group by group."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    weight, bias = array(conv.weight), array(conv.bias)
    outputs, per_group, side, _ = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    height, width = x.shape[2:]
    result = np.empty((x.shape[0], outputs, height, width))
    for output in range(outputs):
        first = output // (outputs // conv.groups) * per_group
        total = np.full((x.shape[0], height, width), bias[output])
        for channel in range(per_group):
            for i in range(side):
                for j in range(side):
                    shifted = padded[:, first + channel, i : i + height, j : j + width]
                    total += weight[output, channel, i, j] * shifted
        result[:, output] = total
    return result


def doubled(x: Array) -> Array:
    """Bilinear x2 by OpenCV, whose pixel centres are at the halves."""
    out = np.empty((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]))
    for n, c in np.ndindex(*x.shape[:2]):
        out[n, c] = cv2.resize(x[n, c], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return out


def halved(x: Array) -> Array:
    n, c, height, width = x.shape
    return x.reshape(n, c, height // 2, 2, width // 2, 2).mean(axis=(3, 5))


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def test_upsampling_is_opencvs_bilinear() -> None:
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    np.testing.assert_allclose(array(upsample2(x)), doubled(array(x)), atol=1e-12)


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, 2)])
def test_gated_convolution_is_a_feature_times_its_gate(kernel: int, groups: int) -> None:
    block = randomised(GatedConv(4, 6, kernel, groups))
    assert isinstance(block, GatedConv)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    feature, gate = convolved(block.feature, array(x)), convolved(block.gate, array(x))
    np.testing.assert_allclose(array(block(x)), np.maximum(feature, 0.0) * sigmoid(gate), atol=1e-12)


def test_grouped_block_is_a_residual_of_grouped_and_mixing_convolutions() -> None:
    block = randomised(GroupedGatedBlock(2 * GROUP_WIDTH))
    assert isinstance(block, GroupedGatedBlock)
    x = torch.randn(1, 2 * GROUP_WIDTH, 4, 5, dtype=torch.float64)
    feature, gate = convolved(block.gated.feature, array(x)), convolved(block.gated.gate, array(x))
    mixed = convolved(block.mix, np.maximum(feature, 0.0) * sigmoid(gate))
    np.testing.assert_allclose(array(block(x)), array(x) + mixed, atol=1e-12)


def test_groups_do_not_see_each_other_before_the_mixing() -> None:
    gated = randomised(GroupedGatedBlock(3 * GROUP_WIDTH)).gated
    assert isinstance(gated, GatedConv)
    x = torch.randn(1, 3 * GROUP_WIDTH, 4, 4, dtype=torch.float64)
    changed = x.clone()
    changed[:, GROUP_WIDTH : 2 * GROUP_WIDTH] += 1.0
    per_group = (gated(x) - gated(changed)).abs().reshape(3, -1).amax(dim=1)
    assert per_group[1] > 0.0 and per_group[0] == 0.0 and per_group[2] == 0.0


@pytest.mark.parametrize("scales", [2, 3])
def test_pyramid_pools_at_halving_scales_and_globally(scales: int) -> None:
    pool = randomised(PyramidPooling(5, scales))
    assert isinstance(pool, PyramidPooling)
    x = torch.randn(2, 5, 8, 12, dtype=torch.float64)
    pooled = [array(x)]
    for _ in range(scales - 1):
        pooled.append(halved(pooled[-1]))
    pooled.append(array(x).mean(axis=(2, 3), keepdims=True))
    got = pool(x)
    assert len(got) == scales + 1
    for scale, project, expected in zip(got, pool.project, pooled, strict=True):
        np.testing.assert_allclose(array(scale), convolved(project, expected), atol=1e-12)


@pytest.mark.parametrize("scales", [2, 3])
def test_selection_weighs_each_scale_per_image_and_channel(scales: int) -> None:
    channels = 20
    select = randomised(ScaleSelection(channels, scales))
    assert isinstance(select, ScaleSelection)
    sizes = [(8 >> s, 12 >> s) for s in range(scales)] + [(1, 1)]
    features = [torch.randn(2, channels, *size, dtype=torch.float64) for size in sizes]

    # z = ReLU(W . sum_s mean(F_s)), a = softmax_s(A_s z), as in Selective Kernel Networks.
    described = sum(array(feature).mean(axis=(2, 3), keepdims=True) for feature in features)
    assert isinstance(described, np.ndarray)
    scores = convolved(select.attend, np.maximum(convolved(select.squeeze, described), 0.0))
    scores = scores.reshape(2, channels, scales + 1)
    weights = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    assert weights.std(axis=0).max() > 0.01, "differs between images"

    # Directly: bring every scale up to full size, weigh, add.
    expected = np.zeros((2, channels, 8, 12))
    for s, feature in enumerate(features[:-1]):
        full = array(feature)
        for _ in range(s):
            full = doubled(full)
        expected += weights[:, :, s, None, None] * full
    expected += weights[:, :, -1, None, None] * array(features[-1])
    np.testing.assert_allclose(array(select(features)), expected, atol=1e-12)


def test_skip_carries_the_feature_and_the_selected_scales() -> None:
    skip = randomised(SkipPyramid(16, 3))
    assert isinstance(skip, SkipPyramid)
    x = torch.randn(1, 16, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(skip(x), x + skip.select(skip.pool(x)))


@pytest.mark.parametrize(
    "make", [lambda: nn.Conv2d(64, 64, 3, padding=1, groups=4), lambda: nn.Conv2d(64, 128, 1)]
)
def test_start_weights_keep_the_scale(make: Callable[[], nn.Conv2d]) -> None:
    conv = make()
    scaled_init(conv, 1.5)
    out = conv(torch.randn(4, 64, 32, 32)).detach()
    assert 1.3 < float(out[..., 1:-1, 1:-1].std()) < 1.7


def test_normalised_convolution_keeps_the_scale_and_trains_length_and_direction() -> None:
    conv = normalised(nn.Conv2d(64, 64, 3, padding=1, groups=4), 1.5)
    out = conv(torch.randn(4, 64, 32, 32)).detach()
    assert 1.3 < float(out[..., 1:-1, 1:-1].std()) < 1.7
    length, direction = (
        dict(conv.named_parameters())[f"parametrizations.weight.original{i}"] for i in (0, 1)
    )
    assert length.numel() == 64 and direction.shape == conv.weight.shape
    with torch.no_grad():
        length.mul_(3.0)
        direction.mul_(7.0)  # only its direction counts
    torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), length.flatten())


def test_folding_leaves_plain_weights_and_the_same_result() -> None:
    block = randomised(GroupedGatedBlock(2 * GROUP_WIDTH))
    x = torch.randn(1, 2 * GROUP_WIDTH, 4, 5, dtype=torch.float64)
    before = block(x)
    assert fold_weight_norm(block) is block
    assert torch.equal(block(x), before)
    assert sorted(block.state_dict()) == sorted(
        f"{conv}.{name}" for conv in ("gated.feature", "gated.gate", "mix") for name in ("weight", "bias")
    )
