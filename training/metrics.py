"""Image quality: PSNR and SSIM on float RGB images, with the data range declared (1.0) and never guessed.

    psnr(restored, truth)             # tensors (N, 3, H, W), RGB, [0, 1] -> mean dB over the N images
    ssim(restored, truth)             # the same -> mean index in [-1, 1]

The means are taken over images, each image by itself, as the papers of the field report them. An image
equal to its truth has an infinite PSNR, which would make any mean infinite too: every image is therefore
counted with at most `PSNR_CAP` dB. 100 dB is a root-mean-square error of 1e-5, far below the 8-bit step
(59 dB is already rounding to 8 bits alone), so the cap changes nothing that can be seen.
"""

import torch
from torch import Tensor

PSNR_CAP = 100.0
"""The most that one image counts in PSNR, in dB; identical images get exactly this."""

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels (sigma 1.5), as in Wang et al. 2004; smaller images have no SSIM."""


def psnr(image: Tensor, truth: Tensor) -> float:
    """Mean over the images of 10·log10(1 / MSE), in dB, each at most `PSNR_CAP`.

    Both are `(N, 3, H, W)`, RGB, [0, 1]. Raises ValueError when the shapes differ.
    """
    return float(psnr_each(image, truth).mean())


def ssim(image: Tensor, truth: Tensor) -> float:
    """Mean over the images of the structural similarity (Gaussian window 11, sigma 1.5, all three channels).

    Both are `(N, 3, H, W)`, RGB, [0, 1]. Raises ValueError when the shapes differ or a side is under 11 px.
    """
    return float(ssim_each(image, truth).mean())


def psnr_each(image: Tensor, truth: Tensor) -> Tensor:
    """PSNR of every image by itself: `(N, 3, H, W)` twice -> `(N,)` float64, dB, at most `PSNR_CAP`."""
    _check(image, truth)
    # float64: the mean over millions of squared float32 errors loses digits otherwise
    error = image.detach().double() - truth.detach().double()
    mse = error.square().mean(dim=(1, 2, 3))
    return (-10.0 * torch.log10(mse)).clamp(max=PSNR_CAP)


def ssim_each(image: Tensor, truth: Tensor) -> Tensor:
    """SSIM of every image by itself: `(N, 3, H, W)` twice -> `(N,)`."""
    # torchmetrics takes seconds to import; PSNR alone must not pay for it
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(image, truth)
    if min(image.shape[2:]) < SSIM_WINDOW:
        size = f"{image.shape[3]}x{image.shape[2]}"
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} px, got {size}")
    border = SSIM_WINDOW // 2
    each = []
    # one image at a time: torchmetrics keeps five filtered copies of its whole batch
    for one, other in zip(image.detach().float().split(1), truth.detach().float().split(1), strict=True):
        _, index = structural_similarity_index_measure(one, other, data_range=1.0, return_full_image=True)
        # torchmetrics averages over mirrored borders too; the published index (and scikit-image's) does not
        each.append(index[..., border:-border, border:-border].mean())
    return torch.stack(each)


def _check(image: Tensor, truth: Tensor) -> None:
    if image.shape != truth.shape or image.ndim != 4 or image.shape[0] == 0:
        got = f"{tuple(image.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"PSNR and SSIM compare two tensors of one shape (N, 3, H, W), got {got}")
