"""PSNR and SSIM against scikit-image, an independent implementation, on a textured picture."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from afterlens.training.metrics import PSNR_CAP, psnr, psnr_each, ssim, ssim_each


def picture(height: int = 61, width: int = 83) -> Tensor:
    """A picture with edges, ramps and texture: `(1, 3, height, width)`, [0, 1]."""
    generator = torch.Generator().manual_seed(7)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    stripes = (torch.arange(width) // 9 % 2).float().expand(height, width) * 0.6 + 0.2
    texture = torch.rand(height, width, generator=generator)
    return torch.stack((rows, stripes, texture))[None]


def noisy(image: Tensor, sigma: float, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def as_array(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy().astype(np.float64)


@pytest.mark.parametrize("sigma", [0.003, 0.05, 0.4])
def test_psnr_and_ssim_equal_scikit_image(sigma: float) -> None:
    truth = picture()
    image = noisy(truth, sigma)
    expected_psnr = peak_signal_noise_ratio(as_array(truth), as_array(image), data_range=1.0)
    expected_ssim = structural_similarity(
        as_array(truth),
        as_array(image),
        data_range=1.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert psnr(image, truth) == pytest.approx(expected_psnr, abs=1e-4)
    assert ssim(image, truth) == pytest.approx(expected_ssim, abs=2e-4)


def test_a_constant_offset_has_the_psnr_of_the_formula() -> None:
    truth = torch.full((1, 3, 16, 16), 0.25)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)


def test_the_range_is_declared_and_not_taken_from_the_images() -> None:
    # a dark picture stretched over little of the range must not gain from its own maximum
    truth = picture() * 0.1
    image = noisy(truth, 0.02)
    assert psnr(image, truth) < 45.0
    expected = peak_signal_noise_ratio(as_array(truth), as_array(image), data_range=1.0)
    assert psnr(image, truth) == pytest.approx(expected, abs=1e-4)


def test_identical_images_count_with_the_cap_so_that_means_stay_finite() -> None:
    truth = picture().repeat(2, 1, 1, 1)
    image = truth.clone()
    image[1] += 0.1
    assert psnr_each(image, truth).tolist() == pytest.approx([PSNR_CAP, 20.0], abs=1e-3)
    assert psnr(image, truth) == pytest.approx((PSNR_CAP + 20.0) / 2, abs=1e-3)
    assert ssim(truth, truth) == pytest.approx(1.0, abs=1e-6)


def test_the_mean_is_over_images_and_not_over_pixels() -> None:
    truth = picture().repeat(2, 1, 1, 1)
    image = torch.cat((noisy(truth[:1], 0.01), noisy(truth[1:], 0.3)))
    each = [psnr(image[i : i + 1], truth[i : i + 1]) for i in range(2)]
    assert psnr(image, truth) == pytest.approx(sum(each) / 2, abs=1e-6)
    each = [ssim(image[i : i + 1], truth[i : i + 1]) for i in range(2)]
    assert ssim(image, truth) == pytest.approx(sum(each) / 2, abs=1e-5)
    assert ssim_each(image, truth).shape == (2,)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_different_shapes_are_refused_and_not_broadcast(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))


def test_ssim_refuses_an_image_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))
