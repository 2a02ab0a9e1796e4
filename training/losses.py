"""Losses on images, ``(N, 3, H, W)``, RGB, [0, 1]. Each returns a scalar."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from afterlens.training.checkpoint import load_tensors
from afterlens.training.media.errors import UserError


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


# VGG19 (Simonyan & Zisserman 2014) up to relu5_1: convolution widths, "M" = 2x2 max pooling.
_VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
_VGG19_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


def vgg_file(weights: str) -> Path:
    """The path ``loss.vgg_weights`` of a recipe whose VGG term has a weight; UserError if it is empty."""
    if not weights:
        raise UserError(
            "loss.vgg is above zero but loss.vgg_weights is empty: give the file (docs/training.md)"
        )
    return Path(weights)


class VGG19(nn.Module):
    """ImageNet's VGG19 up to relu5_1, frozen: ``(N, 3, H, W)`` RGB [0, 1], sides 16 or more, -> five features.

    They are relu1_1, relu2_1, ... relu5_1, at 1, 1/2, ... 1/16 of the photo's size.

    Args:
        weights: a safetensors file with torchvision's ``vgg19`` keys (``features.0.weight`` ...); docs/training.md
            says how to make one.

    Raises:
        UserError: if the file is missing or lacks a layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for entry in _VGG19:
            if isinstance(entry, int):
                layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
                channels = entry
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        tensors = load_tensors(weights)
        wanted = {f"features.{key}": value for key, value in self.features.state_dict().items()}
        for key, value in wanted.items():
            if key not in tensors or tensors[key].shape != value.shape:
                got = f"of shape {tuple(tensors[key].shape)}" if key in tensors else "absent"
                raise UserError(
                    f"{weights}: VGG19 weight {key} is {got}, expected shape {tuple(value.shape)}; docs/training.md "
                    "says how to make the file"
                )
        self.features.load_state_dict({key.removeprefix("features."): tensors[key] for key in wanted})
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = (image - self.mean) / self.std, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _VGG19_TAPS:
                found.append(x)
        return found


class VGGFeatureLoss(nn.Module):
    """Perceptual loss (Johnson et al., ECCV 2016): mean absolute difference of :class:`VGG19` features."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.vgg = VGG19(weights)

    def forward(self, result: Tensor, target: Tensor) -> Tensor:
        """Both ``(N, 3, H, W)``, H and W 16 or more; no gradient flows to ``target``."""
        pairs = zip(self.vgg(result), self.vgg(target.detach()), strict=True)
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
