"""Losses against formulas written out: NumPy loops, SciPy filters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from afterlens.training.losses import (
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    ssim_loss,
    truncated_pixel_loss,
)


def test_truncated_pixel_loss_counts_large_differences_in_full(pair: tuple[Tensor, Tensor]) -> None:
    one, other = pair
    threshold, total = 0.05, 0.0
    values = zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
    for a, b in values:
        if abs(a - b) > threshold:
            total += abs(a - b)
    assert float(truncated_pixel_loss(one, other, threshold)) == pytest.approx(total / one.numel(), rel=1e-5)
    # At the threshold itself a difference counts nothing; 0.25 and 0.5 are exact in binary.
    exact = torch.full((1, 3, 2, 2), 0.25)
    assert float(truncated_pixel_loss(exact, torch.zeros_like(exact), 0.25)) == 0.0
    assert float(truncated_pixel_loss(2 * exact, torch.zeros_like(exact), 0.25)) == 0.5


def test_truncated_pixel_loss_has_no_gradient_below_the_threshold() -> None:
    result = torch.tensor([0.5, 0.501, 0.6], requires_grad=True)
    truncated_pixel_loss(result, torch.full((3,), 0.5), 0.01).backward()
    assert result.grad is not None and result.grad.tolist() == pytest.approx([0.0, 0.0, 1 / 3])


def test_ssim_loss_is_the_published_formula(pair: tuple[Tensor, Tensor]) -> None:
    def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(x, (0, 0, 1.5, 1.5), mode="mirror", truncate=5 / 1.5)  # 11 x 11 taps

    x, y = (image.numpy().astype(np.float64) for image in pair)
    mean_x, mean_y = smooth(x), smooth(y)
    variance_x, variance_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ssim /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    got = float(ssim_loss(pair[0].double(), pair[1].double()))
    assert got == pytest.approx(1 - ssim.mean(), abs=1e-6), (got, 1 - ssim.mean())
    assert float(ssim_loss(pair[0].double(), pair[0].double())) == pytest.approx(0.0, abs=1e-6)
    # In float32 the variances of flat areas are differences of nearly equal numbers.
    assert float(ssim_loss(*pair)) == pytest.approx(got, abs=3e-4)


# --- adversarial --------------------------------------------------------------------------------------------


def test_hinge_losses_are_the_published_ones(pair: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(2)
    discriminator = PatchDiscriminator(width=8)
    with torch.no_grad():
        list(discriminator.parameters())[-2].mul_(300.0)  # spreads the scores over both sides of the margins
        real, fake = discriminator(pair[0]).flatten().tolist(), discriminator(pair[1]).flatten().tolist()
    assert min(*real, *fake) < -1 and max(*real, *fake) > 1
    expected = sum(max(0.0, 1 - score) for score in real) / len(real)
    expected += sum(max(0.0, 1 + score) for score in fake) / len(fake)
    assert float(discriminator_loss(discriminator, pair[1], pair[0]).detach()) == pytest.approx(
        expected, rel=1e-4
    )
    assert float(adversarial_loss(discriminator, pair[1]).detach()) == pytest.approx(
        -sum(fake) / len(fake), rel=1e-4
    )


def test_each_adversarial_loss_teaches_its_own_side_only(pair: tuple[Tensor, Tensor]) -> None:
    discriminator = PatchDiscriminator(width=8)
    result = pair[1].clone().requires_grad_()
    adversarial_loss(discriminator, result).backward()
    assert result.grad is not None and float(result.grad.abs().sum()) > 0.0
    assert all(weight.grad is None for weight in discriminator.parameters())
    assert all(weight.requires_grad for weight in discriminator.parameters())

    result.grad = None
    discriminator_loss(discriminator, result, pair[0]).backward()
    assert result.grad is None
    assert all(weight.grad is not None for weight in discriminator.parameters())


def test_generator_gradient_is_that_of_the_plain_formula(pair: tuple[Tensor, Tensor]) -> None:
    discriminator = PatchDiscriminator(width=8)
    ours, plain = pair[1].clone().requires_grad_(), pair[1].clone().requires_grad_()
    adversarial_loss(discriminator, ours).backward()
    (-discriminator(plain).mean()).backward()
    assert ours.grad is not None and plain.grad is not None
    torch.testing.assert_close(ours.grad, plain.grad)


def test_discriminator_gives_one_score_a_16_pixel_step_and_learns(pair: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(4)
    discriminator = PatchDiscriminator(width=8)
    assert discriminator(pair[0]).shape == (2, 1, 4, 3)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    blurred = F.avg_pool2d(pair[0], 5, 1, 2)
    before = float(discriminator_loss(discriminator, blurred, pair[0]).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = discriminator_loss(discriminator, blurred, pair[0])
        loss.backward()
        optimizer.step()
    print(f"{before:.3f} -> {loss.item():.3f}")
    assert loss.item() < 0.5 * before
    assert discriminator(pair[0]).mean().item() > discriminator(blurred).mean().item()
