"""The contextual bilateral loss against its formula written out, and what it is for: it forgives a shift, not a blur."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from afterlens.training.contextual_bilateral import (
    BANDWIDTH,
    SPATIAL,
    contextual_bilateral_loss,
    patches,
    sampled_grid,
)
from afterlens.training.reflection.synthesis import gaussian_blur


def by_loops(result: Tensor, target: Tensor, places: Tensor) -> float:
    """The formula, one pair of features at a time."""
    total = 0.0
    for a, b in zip(result.double().tolist(), target.double().tolist(), strict=True):
        count, mean = len(a), np.mean(b, axis=0)
        distance = np.zeros((count, count))
        for i in range(count):
            for j in range(count):
                p, q = np.array(a[i]) - mean, np.array(b[j]) - mean
                cosine = float(p @ q) / (math.sqrt(float(p @ p)) * math.sqrt(float(q @ q)))
                apart = sum((float(x) - float(y)) ** 2 for x, y in zip(places[i], places[j], strict=True))
                distance[i, j] = 1.0 - cosine + SPATIAL * apart
        total += 0.5 * (one_way_by_loops(distance) + one_way_by_loops(distance.T))
    return total / len(result)


def one_way_by_loops(distance: NDArray[np.float64]) -> float:
    count = len(distance)
    shares = np.zeros_like(distance)
    for i in range(count):
        smallest = min(distance[i])
        weights = [math.exp((1.0 - d / (smallest + 1e-5)) / BANDWIDTH) for d in distance[i]]
        for j in range(count):
            shares[i, j] = weights[j] / sum(weights)
    return -math.log(sum(max(shares[:, j]) for j in range(count)) / count)


def test_loss_is_the_formula_written_out() -> None:
    torch.manual_seed(4)
    result, target = torch.randn(2, 17, 6, dtype=torch.float64), torch.randn(2, 17, 6, dtype=torch.float64)
    places = torch.rand(17, 2, dtype=torch.float64)
    assert float(contextual_bilateral_loss(result, target, places)) == pytest.approx(
        by_loops(result, target, places), rel=1e-9
    )
    assert float(contextual_bilateral_loss(result, target, places)) != pytest.approx(
        float(contextual_bilateral_loss(result, target, 3.0 * places)), rel=1e-3
    )


def test_patches_are_the_pixels_around_each_place() -> None:
    image = torch.rand(2, 3, 9, 11)
    grid = sampled_grid(9, 11, 20, torch.device("cpu"))
    assert sorted(zip(grid.rows.tolist(), grid.columns.tolist(), strict=True)) == [
        (row, column) for row in range(9) for column in range(11)
    ]
    found = patches(image, grid, 3)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    for m, (row, column) in enumerate(zip(grid.rows.tolist(), grid.columns.tolist(), strict=True)):
        expected = padded[:, :, row : row + 3, column : column + 3]
        assert sorted(found[0, m].tolist()) == sorted(expected[0].ravel().tolist())
    np.testing.assert_array_equal(grid.places[:, 0] * 9, grid.rows)


def test_a_sharp_shifted_picture_is_preferred_to_a_blurred_aligned_one(photo: NDArray[np.float32]) -> None:
    torch.manual_seed(2)
    # A textured part, where a shift of two pixels is a large difference.
    picture = torch.from_numpy(np.array(Image.fromarray((photo * 255).astype(np.uint8)).resize((384, 216))))
    whole = picture.permute(2, 0, 1)[None].float() / 255
    target, shifted = whole[..., 40:168, 100:228], whole[..., 42:170, 102:230]
    blurred = gaussian_blur(whole[0], 1.5)[None, :, 40:168, 100:228]
    grid = sampled_grid(128, 128, 48, torch.device("cpu"))

    def loss(picture: Tensor) -> float:
        return float(contextual_bilateral_loss(patches(picture, grid), patches(target, grid), grid.places))

    print(f"shifted {loss(shifted):.3f}, blurred {loss(blurred):.3f}")
    assert loss(shifted) < loss(blurred)
    assert F.l1_loss(shifted, target) > F.l1_loss(blurred, target), "which L1 gets wrong"
    assert loss(target) < 0.5 * loss(shifted)


def test_gradient_moves_towards_the_target() -> None:
    torch.manual_seed(1)
    target = torch.rand(1, 3, 16, 16)
    result = (target + 0.2 * torch.randn_like(target)).requires_grad_()
    grid = sampled_grid(16, 16, 14, torch.device("cpu"))
    first = contextual_bilateral_loss(patches(result, grid), patches(target, grid), grid.places)
    (gradient,) = torch.autograd.grad(first, result)
    assert bool(gradient.isfinite().all())
    moved = result.detach() - 0.05 * gradient / gradient.abs().max()
    assert contextual_bilateral_loss(patches(moved, grid), patches(target, grid), grid.places) < first


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_flat_pictures_do_not_break_it(level: float) -> None:
    flat = torch.full((1, 3, 8, 8), level, requires_grad=True)
    grid = sampled_grid(8, 8, 8, torch.device("cpu"))
    loss = contextual_bilateral_loss(
        patches(flat, grid), patches(torch.full((1, 3, 8, 8), 0.5), grid), grid.places
    )
    (gradient,) = torch.autograd.grad(loss, flat)
    assert bool(loss.isfinite()) and bool(gradient.isfinite().all())
