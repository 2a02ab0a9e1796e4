"""Networks that want sides divisible by a power of two, run on pictures of any size: pad, run, clip, crop."""

from __future__ import annotations

from torch import Tensor, nn

from afterlens.training.padding import crop_to, pad_to


class PaddedRestorer(nn.Module):
    """A network at the pictures' own size: one or several RGB pictures of one size in, ``(restored,)`` out.

    Args:
        network: returns the restored picture, alone or as the first of several results.
        multiple: the network's input sides must be divisible by this.
        size: ``(height, width)`` of a graph of fixed size; None reads it from each picture.
    """

    def __init__(self, network: nn.Module, multiple: int, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.network, self.multiple, self.size = network, multiple, size

    def forward(self, *images: Tensor) -> tuple[Tensor]:
        """``(1, 3, H, W)`` RGB [0, 1] each -> the restored picture in [0, 1], same size."""
        first = images[0]
        height, width = self.size if self.size is not None else (first.shape[-2], first.shape[-1])
        padded = [pad_to(image, self.multiple, self.multiple) for image in images]
        _, top, left = padded[0]
        results = self.network(*(image for image, _, _ in padded))
        restored = results if isinstance(results, Tensor) else results[0]
        return (crop_to(restored.clamp(0.0, 1.0), top, left, height, width),)
