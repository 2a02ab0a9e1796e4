"""The loss adjusted by the area of the beard, against the formula written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from afterlens.training.beard.losses import area_adjusted, area_ratio, over_the_face


def square(low: int, high: int) -> Tensor:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., low:high, low:high] = 1.0
    return mask


FACE = square(2, 30)  # 784 pixels


@pytest.mark.parametrize(
    ("side", "ratio"), [(2, 0.03), (4, 0.03), (10, 100 / 784), (20, 400 / 784), (24, 0.6), (28, 0.6)]
)
def test_the_ratio_is_clipped(side: int, ratio: float) -> None:
    assert float(area_ratio(square(2, 2 + side), FACE)) == pytest.approx(ratio)


def test_the_formula() -> None:
    torch.manual_seed(0)
    error, beard = torch.rand(1, 3, 32, 32), square(4, 14) * torch.rand(1, 1, 32, 32)
    on_beard = on_rest = of_beard = of_rest = area = 0.0
    for y in range(32):
        for x in range(32):
            b, f = float(beard[0, 0, y, x]), float(FACE[0, 0, y, x])
            for c in range(3):
                on_beard += float(error[0, c, y, x]) * b
                on_rest += float(error[0, c, y, x]) * (f - b)
            of_beard, of_rest, area = of_beard + 3 * b, of_rest + 3 * (f - b), area + f
    r = min(max(of_beard / 3 / area, 0.03), 0.6)
    expected = (1 - r) * on_beard / of_beard + r * on_rest / of_rest
    assert float(area_adjusted(error, beard, FACE)) == pytest.approx(expected, rel=1e-5)


def test_a_small_beard_weighs_more_than_in_a_plain_mean_and_outside_nothing_counts() -> None:
    moustache = square(14, 18)
    error = moustache.expand(1, 3, 32, 32).clone()  # wrong on the beard only
    assert float(area_adjusted(error, moustache, FACE)) == pytest.approx(0.97)
    assert float(over_the_face(error, moustache, FACE)) == pytest.approx(16 / 784)
    away = (1.0 - FACE).expand(1, 3, 32, 32)
    assert float(area_adjusted(away, moustache, FACE)) == float(over_the_face(away, moustache, FACE)) == 0.0


def test_without_a_beard_the_whole_face_counts_in_full_and_a_beard_beyond_the_face_counts_as_face() -> None:
    none = torch.zeros(1, 1, 32, 32)
    assert float(area_adjusted(torch.full((1, 3, 32, 32), 0.2), none, FACE)) == pytest.approx(0.2)
    hanging = square(20, 32)
    error = (hanging * (1 - FACE)).expand(1, 3, 32, 32)
    assert float(area_adjusted(error, hanging, FACE)) > 0.05


def test_each_picture_has_its_own_weights() -> None:
    beards = torch.cat([square(10, 14), square(4, 24)])
    error = torch.rand(2, 3, 32, 32)
    both = area_adjusted(error, beards, FACE.expand(2, -1, -1, -1))
    for number in range(2):
        alone = area_adjusted(error[number : number + 1], beards[number : number + 1], FACE)
        assert float(both[number]) == pytest.approx(float(alone), rel=1e-5)
