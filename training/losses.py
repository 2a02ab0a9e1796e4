"""Losses on images, ``(N, 3, H, W)``, RGB, [0, 1]. Each returns a scalar, but where it says so."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def truncated_pixel_loss(result: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Mean absolute difference, where differences up to ``threshold`` count as zero and larger ones in full."""
    difference = (result - target).abs()
    return torch.where(difference > threshold, difference, torch.zeros_like(difference)).mean()


def charbonnier(result: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(difference^2 + epsilon^2) - epsilon``: a smooth L1 (Charbonnier et al., ICIP 1994)."""
    return ((result - target).square() + epsilon**2).sqrt().mean() - epsilon


def relative_squared_error(result: Tensor, target: Tensor, damage: Tensor, floor: float) -> Tensor:
    """Mean over the photos of ``MSE / (damage + floor)``, where ``damage``, ``(N,)``, is the MSE of the input.

    Squared, because a layer leaves most pixels nearly unchanged: an absolute error favours the median, "no change", and
    training stays there for thousands of steps. Relative, so that strong layers do not outweigh faint ones. The smaller
    ``floor``, the more it costs to change clean photos.
    """
    error = (result - target).square().mean(dim=(1, 2, 3))
    return (error / (damage + floor)).mean()


def ssim_loss(result: Tensor, target: Tensor) -> Tensor:
    """``1 - SSIM`` (Wang et al., IEEE TIP 2004; 11x11 Gaussian window, sigma 1.5), data range 1."""
    # torchmetrics takes seconds to import; only a recipe with this term pays for it
    from torchmetrics.functional.image import structural_similarity_index_measure

    ssim = structural_similarity_index_measure(result, target, data_range=1.0)
    assert isinstance(ssim, Tensor)
    return 1.0 - ssim


def gradient_error(result: Tensor, target: Tensor) -> Tensor:
    """``(N,)``: mean absolute difference of the differences of neighbouring pixels, across and down."""
    error = result - target
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean(dim=(1, 2, 3)) + down.abs().mean(dim=(1, 2, 3))


class FeatureLoss(nn.Module):
    """Perceptual loss (Johnson et al., ECCV 2016): mean absolute difference of a frozen network's features.

    Args:
        features: ``(N, 3, H, W)`` RGB [0, 1] -> a list of feature maps, see `features`.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, result: Tensor, target: Tensor) -> Tensor:
        """Both ``(N, 3, H, W)``, H and W 16 or more; no gradient flows to ``target``."""
        pairs = zip(self.features(result), self.features(target.detach()), strict=True)
        return torch.stack([F.l1_loss(x, y) for x, y in pairs]).mean()


class PatchDiscriminator(nn.Module):
    """Small PatchGAN (Isola et al., CVPR 2017): ``(N, C, H, W)`` -> one real/fake score a 16-pixel step, unbounded.

    Args:
        width: channels of its first layer.
        inputs: channels of the picture, or of several pictures stacked (a conditional discriminator).
    """

    def __init__(self, width: int = 32, inputs: int = 3) -> None:
        super().__init__()
        channels = (inputs, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.layers(image)
        return scores


def adversarial_loss(discriminator: nn.Module, result: Tensor) -> Tensor:
    """The generator's hinge loss (Lim & Ye 2017); it gives ``result`` a gradient and the discriminator none.

    The discriminator learns from its own loss alone, and in several processes only that may wake its gradient exchange.
    """
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    scores: Tensor = functional_call(discriminator, frozen, (result,))
    return -scores.mean()


def discriminator_loss(discriminator: nn.Module, result: Tensor, target: Tensor) -> Tensor:
    """The discriminator's hinge loss (Lim & Ye 2017) on targets as real and on detached results as fake.

    Both are what the discriminator takes: pictures, or pictures stacked with what they were made from.
    """
    # One pass over both, since one forward and one backward is what gradient exchange between processes counts on.
    real, fake = discriminator(torch.cat([target, result.detach()])).chunk(2)
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()
