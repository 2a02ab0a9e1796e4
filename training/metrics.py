"""Image quality: PSNR and SSIM of float RGB images with a data range of 1.

    psnr(restored, ground_truth)      # tensors (N, 3, H, W), RGB, [0, 1] -> mean dB over the N images
    ssim(restored, ground_truth)      # the same -> mean index in [-1, 1]

Both are computed for each image and then averaged over the images, as papers report them. An image equal to its ground
truth has an infinite PSNR, which would make every mean infinite, so each image counts with at most `PSNR_CAP` dB.
100 dB is a root-mean-square error of 1e-5; rounding to 8 bits alone gives 59 dB.
"""

import torch
from torch import Tensor

PSNR_CAP = 100.0
"""Upper limit of the PSNR of one image, in dB; identical images get exactly this."""

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels (sigma 1.5; Wang et al., IEEE TIP 2004); smaller images have no SSIM."""


def psnr(image: Tensor, ground_truth: Tensor) -> float:
    """Mean over the images of 10 log10(1 / MSE) in dB, each at most `PSNR_CAP`.

    Both are `(N, 3, H, W)`, RGB, [0, 1]. Raises ValueError when the shapes differ.
    """
    return float(psnr_each(image, ground_truth).mean())


def ssim(image: Tensor, ground_truth: Tensor) -> float:
    """Mean over the images of the structural similarity (Gaussian window 11, sigma 1.5, all three channels).

    Both are `(N, 3, H, W)`, RGB, [0, 1]. Raises ValueError when the shapes differ or a side is under 11 px.
    """
    return float(ssim_each(image, ground_truth).mean())


def psnr_each(image: Tensor, ground_truth: Tensor) -> Tensor:
    """PSNR of each image: two tensors `(N, 3, H, W)` -> `(N,)` float64, dB, at most `PSNR_CAP`."""
    _check(image, ground_truth)
    # float64: the mean over millions of squared float32 errors loses digits otherwise
    error = image.detach().double() - ground_truth.detach().double()
    mse = error.square().mean(dim=(1, 2, 3))
    return (-10.0 * torch.log10(mse)).clamp(max=PSNR_CAP)


def ssim_each(image: Tensor, ground_truth: Tensor) -> Tensor:
    """SSIM of each image: two tensors `(N, 3, H, W)` -> `(N,)`."""
    # torchmetrics takes seconds to import, which PSNR does not need
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(image, ground_truth)
    if min(image.shape[2:]) < SSIM_WINDOW:
        size = f"{image.shape[3]}x{image.shape[2]}"
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} px, got {size}")
    border = SSIM_WINDOW // 2
    each = []
    # one image at a time: torchmetrics keeps five filtered copies of the batch
    for one, other in zip(
        image.detach().float().split(1), ground_truth.detach().float().split(1), strict=True
    ):
        _, index = structural_similarity_index_measure(one, other, data_range=1.0, return_full_image=True)
        # torchmetrics averages over mirrored borders too; the published index and scikit-image do not
        each.append(index[..., border:-border, border:-border].mean())
    return torch.stack(each)


def _check(image: Tensor, ground_truth: Tensor) -> None:
    if image.shape != ground_truth.shape or image.ndim != 4 or image.shape[0] == 0:
        got = f"{tuple(image.shape)} and {tuple(ground_truth.shape)}"
        raise ValueError(f"PSNR and SSIM compare two tensors of one shape (N, 3, H, W), got {got}")
