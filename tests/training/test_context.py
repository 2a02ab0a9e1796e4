"""Wide context: statistics of the whole photo, two more levels, and a smooth gain and offset."""

import pytest
import torch
from torch import nn

from afterlens.training.blocks import GroupedBlock
from afterlens.training.context import AffineHead, Context, Statistics


def test_statistics_are_mean_and_mean_absolute_deviation() -> None:
    torch.manual_seed(2)
    statistics = Statistics((3, 2), 8)
    first, second = torch.randn(2, 3, 8, 6), torch.randn(2, 2, 4, 4)
    values = []
    for x in (first, second):
        flat = x.flatten(2)
        mean = flat.mean(dim=2)
        values += [mean, (flat - mean[..., None]).abs().mean(dim=2)]
    by_hand = torch.cat(values, dim=1) @ statistics.mix.weight[:, :, 0, 0].T
    assert statistics.mix.bias is not None
    expected = (by_hand + statistics.mix.bias).clamp_min(0.0)
    torch.testing.assert_close(statistics(first, second)[:, :, 0, 0], expected)


@pytest.mark.parametrize("size", [(2, 2), (6, 10), (8, 4), (3, 1), (45, 80)])
def test_context_keeps_the_size_even_where_a_64th_of_it_is_odd(size: tuple[int, int]) -> None:
    torch.manual_seed(3)
    context = Context(32, 16, 32, GroupedBlock)
    x = torch.randn(1, 32, *size)
    assert context(x, torch.rand(1, 16, 1, 1)).shape == x.shape


def test_context_sees_far() -> None:
    """A change in one corner reaches the other at 14 cells, which blocks at 1/16 alone would not."""
    torch.manual_seed(4)
    context = Context(32, 16, 32, GroupedBlock)
    x = torch.randn(1, 32, 16, 16, requires_grad=True)
    context(x, torch.rand(1, 16, 1, 1))[..., -2:, -2:].sum().backward()
    assert x.grad is not None and bool(x.grad[..., 4, 4].any())


def test_affine_fields_start_at_zero_and_are_smooth() -> None:
    torch.manual_seed(5)
    head = AffineHead(16, 8)
    features, statistics = torch.randn(1, 16, 16, 24), torch.rand(1, 8, 1, 1)
    gain, offset = head(features, statistics)
    assert gain.shape == offset.shape == (1, 3, 64, 96)
    assert not gain.any() and not offset.any()
    nn.init.normal_(head.local.weight)
    gain, _ = head(features, statistics)
    steps = gain.diff(dim=3).abs().mean(dim=(0, 1, 2))  # between columns x and x + 1
    borders = steps[3::4].mean()  # those between blocks of four pixels
    inside = torch.cat([steps[start::4] for start in range(3)]).mean()
    print(f"steps at borders of blocks {float(borders):.4f}, inside {float(inside):.4f}")
    assert float(borders) < 1.3 * float(inside)
