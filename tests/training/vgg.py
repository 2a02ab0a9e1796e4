"""A file of VGG19 weights with torchvision's keys and random values: the real ones may not be passed on."""

from pathlib import Path

import torch
from safetensors.torch import save_file

# torchvision's vgg19().features: index of each convolution, its input and output channels.
CONVOLUTIONS = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    16: (256, 256),
    19: (256, 512),
    21: (512, 512),
    23: (512, 512),
    25: (512, 512),
    28: (512, 512),
}


def write_vgg_weights(path: Path) -> dict[str, torch.Tensor]:
    """Writes the file, with a layer too many as in the real one, and returns its tensors."""
    torch.manual_seed(5)
    tensors: dict[str, torch.Tensor] = {"classifier.6.bias": torch.randn(7)}
    for index, (inputs, outputs) in CONVOLUTIONS.items():
        scale = (2.0 / (9 * inputs)) ** 0.5  # keeps the features' scale through the ReLUs
        tensors[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3) * scale
        tensors[f"features.{index}.bias"] = torch.randn(outputs) * 0.1
    save_file(tensors, path)
    return tensors
