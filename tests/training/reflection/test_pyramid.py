"""The Laplacian path: exact where there is nothing to remove, and better with its gate than without."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.training.metrics import psnr
from afterlens.training.reflection.network import ReflectionNetwork
from afterlens.training.reflection.pyramid import LONGEST_BASE, PyramidRestorer, _gate, levels_for

SMALL = ((16, 16, 16), (1, 1, 1), (16, 16))


class Nothing(nn.Module):
    """A network that finds no layer."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, torch.zeros_like(image)


class Oracle(nn.Module):
    """A network that is right at the smallest level."""

    def __init__(self, background: Tensor) -> None:
        super().__init__()
        self.background = background

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        background = F.interpolate(self.background, image.shape[-2:], mode="area")
        return background, image - background


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 31), (64, 64), (517, 300), (721, 1283)])
def test_photo_without_layer_comes_back_as_it_was(size: tuple[int, int]) -> None:
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    restored, layer = PyramidRestorer(Nothing())(photo)
    assert restored.shape == photo.shape
    assert float((restored - photo).abs().max()) < 1e-6
    assert float((layer - 0.5).abs().max()) == 0.0


def test_network_never_sees_a_side_above_the_limit() -> None:
    for height, width in [(1, 1), (LONGEST_BASE, 3), (LONGEST_BASE + 1, 3), (720, 1280), (6000, 8000)]:
        levels = levels_for(height, width)
        assert max(height, width) >> levels <= LONGEST_BASE
        assert levels == 0 or max(height, width) >> (levels - 1) > LONGEST_BASE


@pytest.mark.parametrize("size", [(64, 96), (70, 90), (540, 600)])
def test_fixed_size_graph_equals_the_free_one(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = ReflectionNetwork(*SMALL).eval()
    photo = torch.rand(1, 3, *size)
    with torch.no_grad():
        free = PyramidRestorer(network)(photo)
        fixed = PyramidRestorer(network, size=size)(photo)
    for a, b in zip(free, fixed, strict=True):
        assert torch.equal(a, b)


def test_gate_keeps_the_layers_edges_out(photo: NDArray[np.float32]) -> None:
    background = torch.from_numpy(photo).permute(2, 0, 1)[None]
    # 768 rows: the smallest level then needs no padding, which the oracle would not know of.
    background = F.interpolate(background, (768, 1280), mode="bicubic").clamp(0, 1)
    stripes = (torch.arange(1280) // 9 % 2).float().expand(1, 3, 768, 1280).clone()
    stripes[..., :640] = 0.0  # half of the picture has no layer
    degraded = (background + 0.4 * stripes).clamp(0, 1)
    gated = PyramidRestorer(Oracle(background))(degraded)[0]
    plain = PyramidRestorer(Oracle(background), gated=False)(degraded)[0]
    left = (..., slice(0, 600))
    print(f"gated {psnr(gated, background):.2f} dB, plain {psnr(plain, background):.2f} dB")
    assert psnr(gated, background) > psnr(plain, background) + 1.0
    assert psnr(gated[left], background[left]) > 45.0, "the gate must not soften what has no layer"


def test_half_of_the_detail_passes_where_the_layer_has_the_gates_floor() -> None:
    """A flat background, and a layer whose energy of detail is 0.002."""
    checks = torch.ones(1, 3, 16, 16)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = -1.0
    layer = checks * 0.002**0.5 / 8
    gate = _gate(torch.full_like(layer, 0.5), layer)
    torch.testing.assert_close(gate, torch.full_like(gate, 0.5), rtol=1e-3, atol=0)
