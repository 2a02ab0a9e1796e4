"""Networks put together at random from what image networks use: every variant against PyTorch, without `verify`.

AFTERLENS_NETWORKS=60 python -m pytest tests/conversion/test_random_networks.py     # 60 of them; 2 by default

A network takes about 40 s of one core. The number of a network is its seed: a failure is repeated by its number alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion.bundle.variants import VARIANTS
from afterlens.conversion.convert import convert
from afterlens.conversion.examples import plain_examples
from afterlens.conversion.fold import fold
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed
from afterlens.training.media.images import fit, read_photo

NETWORKS = int(os.environ.get("AFTERLENS_NETWORKS", "2"))
PROVENANCE = {"checkpoint_sha256": "0" * 64, "recipe": {}, "data_licence": "none"}
LEAST_PSNR = {
    **{"float32": 95.0, "float16": 60.0, "dynamic_range_quant": 35.0},
    # Untrained networks answer to white and to noise as to no photo, which their ranges come from.
    **{"full_integer_quant": 20.0, "mixed": 20.0, "palettized4": 20.0},
}
"""dB on every picture; other variants 25."""
NORMALIZING = ("batch norm of the picture", "instance norm", "group norm")
LEAST_PSNR_OF_FLAT = 85.0
"""dB of float32 where these layers get a picture of one colour: they divide one rounding by another (89 in one network)."""

Picture = NDArray[np.float32]  # (H, W, 3)


class _Layer(nn.Module):
    """A function with its own weights."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, f: Tensor) -> Tensor:
        return self.function(self, f)


def _norm(kind: type[nn.Module], *size: int, **options: object) -> nn.Module:
    norm = kind(*size, **options)
    for name, values in (*norm.named_parameters(), *norm.named_buffers()):
        if name in ("weight", "running_var"):
            nn.init.uniform_(values, 0.5, 1.5)
        elif name in ("bias", "running_mean"):
            nn.init.uniform_(values, -0.3, 0.3)
    return norm


def _attention(layer: Any, f: Tensor) -> Tensor:
    """Restormer's, over channels."""
    batch, channels, height, width = f.shape
    q, k, v = (t.reshape(batch, 2, channels // 2, height * width) for t in layer.qkv(f).chunk(3, 1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    return f + ((q @ k.transpose(-2, -1)) * layer.heat).softmax(-1).matmul(v).reshape(f.shape)


def _normalized_last(layer: Any, f: Tensor) -> Tensor:
    return layer.norm(f.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _gated(layer: Any, f: Tensor) -> Tensor:
    one, other = layer.conv(f).chunk(2, 1)
    return f + one * other.sigmoid()


def _response(layer: Any, f: Tensor) -> Tensor:
    size = torch.norm(f, p=2, dim=(2, 3), keepdim=True)
    return f + 0.3 * f * (size / (size.mean(1, keepdim=True) + 1e-6))


def _box_filtered(layer: Any, f: Tensor) -> Tensor:
    """Means of three rows, from their running sum."""
    total = F.pad(F.pad(f, (0, 0, 1, 1), mode="replicate").cumsum(2), (0, 0, 1, 0))
    return (total[..., 3:, :] - total[..., :-3, :]) / 3


def _layers(draw: random.Random, c: int, height: int, width: int) -> dict[str, Callable[[], nn.Module]]:
    """Every kind of layer for features (1, c, height, width), which they keep."""
    kernel, groups, bias = draw.choice((1, 3, 5)), draw.choice((1, 2, c)), draw.random() < 0.5
    padding: Any = draw.choice(("zeros", "reflect", "replicate", "circular"))
    factor, size = draw.choice((0.5, 2.0, 1.5)), (draw.randint(5, 30), draw.randint(5, 30))

    def resized(mode: str, **how: Any) -> _Layer:
        return _Layer(
            lambda _, f: F.interpolate(
                F.interpolate(f, mode=mode, **how), size=f.shape[2:], mode="bilinear", align_corners=False
            )
        )

    def crop(f: Tensor) -> Tensor:
        return F.pad(f, (0, 4, 0, 4))[..., :height, :width]

    return {
        "convolution": lambda: nn.Conv2d(
            c, c, kernel, padding=kernel // 2, groups=groups, bias=bias, padding_mode=padding
        ),
        "dilated": lambda: nn.Conv2d(c, c, 3, padding=2, dilation=2, groups=groups, bias=bias),
        "transposed": lambda: _Layer(
            lambda layer, f: crop(layer.up(layer.down(f))),
            down=nn.Conv2d(c, c, 3, 2, 1, bias=bias),
            up=nn.ConvTranspose2d(c, c, 4, 2, 1, groups=groups, bias=bias),
        ),
        "batch norm": lambda: nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1, bias=bias), _norm(nn.BatchNorm2d, c)
        ),
        "batch norm of the picture": lambda: _norm(nn.BatchNorm2d, c, track_running_stats=False),
        "transposed and batch norm": lambda: nn.Sequential(
            nn.Conv2d(c, c, 2, 2, padding=1),
            nn.ConvTranspose2d(c, c, 2, 2, groups=groups, bias=bias),
            _norm(nn.BatchNorm2d, c),
            _Layer(lambda _, f: crop(f)),
        ),
        "instance norm": lambda: _norm(nn.InstanceNorm2d, c, affine=True),
        "instance norm, running": lambda: _norm(nn.InstanceNorm2d, c, affine=True, track_running_stats=True),
        "group norm": lambda: _norm(nn.GroupNorm, 2, c),
        "layer norm": lambda: _Layer(_normalized_last, norm=_norm(nn.LayerNorm, c)),
        "RMS norm": lambda: _Layer(
            lambda _, f: F.rms_norm(f.permute(0, 2, 3, 1), (c,), eps=1e-5).permute(0, 3, 1, 2)
        ),
        "response norm": lambda: _Layer(_response),
        "shares": lambda: _Layer(lambda _, f: f / (f.abs().sum(1, keepdim=True) + draw.choice((1e-6, 1e-8)))),
        "max pool": lambda: _Layer(lambda _, f: crop(F.interpolate(F.max_pool2d(f, 2), scale_factor=2))),
        "max pool, ceiling": lambda: _Layer(
            lambda _, f: F.interpolate(F.max_pool2d(f, 3, 2, 1, ceil_mode=True), size=f.shape[2:])
        ),
        "average pool": lambda: _Layer(lambda _, f: F.avg_pool2d(f, 3, 1, 1, count_include_pad=bias)),
        "average pool, ceiling": lambda: _Layer(
            lambda _, f: F.interpolate(F.avg_pool2d(f, 4, 3, 1, True, bias), size=f.shape[2:])
        ),
        "channel attention": lambda: _Layer(
            lambda layer, f: f * layer.conv(F.adaptive_avg_pool2d(f, 1)).sigmoid(), conv=nn.Conv2d(c, c, 1)
        ),
        "pixel shuffle": lambda: _Layer(
            lambda layer, f: layer.down(F.pixel_shuffle(layer.up(f), 2)),
            up=nn.Conv2d(c, 4 * c, 1, groups=draw.choice((1, 2)), bias=bias),
            down=nn.Conv2d(c, c, 3, 2, 1),
        ),
        "masked pixel shuffle": lambda: _Layer(
            lambda layer, f: layer.down(F.pixel_shuffle(layer.up(f) * layer.mask(f).sigmoid(), 2)),
            up=nn.Conv2d(c, 4 * c, 1),
            mask=nn.Conv2d(c, 1, 3, padding=1),
            down=nn.Conv2d(c, c, 3, 2, 1),
        ),
        "attention": lambda: _Layer(
            _attention, qkv=nn.Conv2d(c, 3 * c, 1), heat=nn.Parameter(torch.ones(2, 1, 1))
        ),
        "gate": lambda: _Layer(_gated, conv=nn.Conv2d(c, 2 * c, 3, padding=1, bias=bias)),
        "bias by column": lambda: _Layer(
            lambda layer, f: f + layer.w, w=nn.Parameter(torch.rand(width) - 0.5)
        ),
        "factor by place": lambda: _Layer(
            lambda layer, f: f * layer.w, w=nn.Parameter(torch.rand(1, 1, height, width))
        ),
        "bicubic": lambda: resized("bicubic", scale_factor=factor),
        "bilinear": lambda: resized("bilinear", size=size),
        "nearest": lambda: resized("nearest", scale_factor=2.0),
        "nearest-exact": lambda: resized("nearest-exact", size=size),
        "area": lambda: resized("area", size=size),
        "antialiased": lambda: resized("bilinear", size=size, antialias=True),
        "edges": lambda: _Layer(
            lambda layer, f: layer.conv(F.pad(f, (2, 1, 0, 3), mode=padding.replace("zeros", "constant"))),
            conv=nn.Conv2d(c, c, (4, 4), groups=groups, bias=bias),
        ),
        "PReLU": lambda: nn.PReLU(c),
        "activations": lambda: _Layer(
            lambda _, f: F.leaky_relu(f, 0.2) + F.silu(f) + F.hardswish(f) + F.relu6(f) + F.elu(f, 0.7)
        ),
        "GELU": lambda: nn.GELU(draw.choice(("none", "tanh"))),
        "softplus": lambda: _Layer(lambda _, f: torch.tanh(F.softplus(f)) * f),
        "standardized": lambda: _Layer(
            lambda layer, f: (f - layer.mean) / layer.deviation,
            mean=nn.Parameter(torch.rand(1, c, 1, 1)),
            deviation=nn.Parameter(torch.rand(1, c, 1, 1) + 0.5),
        ),
        "box filter": lambda: _Layer(_box_filtered),
    }


class _Network(nn.Module):
    """Two to four layers between two convolutions, added to the picture."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        channels = draw.choice((8, 16, 24, width if width % 4 == 0 else 8))
        self.inputs, self.outputs = draw.choice(((1, 1), (1, 1), (2, 1), (1, 2)))
        kinds = list(_layers(draw, channels, height, width))
        # The first kind counts through all of them, so that 60 networks have each at least once.
        self.kinds = [kinds[seed % len(kinds)], *draw.sample(kinds, draw.randint(1, 3))]
        self.head = nn.Conv2d(3 * self.inputs, channels, 3, padding=1)
        self.body = nn.ModuleList(_layers(draw, channels, height, width)[kind]() for kind in self.kinds)
        self.wide = nn.Conv2d(channels, 32, 3, padding=1)
        self.tail = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        f = torch.relu(self.head(torch.cat(pictures, 1)))
        for layer in self.body:
            f = layer(f)
        restored = torch.clamp(pictures[0] + 0.2 * self.tail(torch.relu(self.wide(f))), 0, 1)
        return (restored, 1 - restored)[: self.outputs]


def _least_psnr(variant: str, picture: str, kinds: Sequence[str]) -> float:
    if variant == "float32" and picture in ("black", "white") and set(kinds) & set(NORMALIZING):
        return LEAST_PSNR_OF_FLAT
    return LEAST_PSNR.get(variant, 25.0)


def _random_network(seed: int) -> tuple[Deployable, list[str]]:
    """The network, and the kinds of its layers."""
    draw = random.Random(1000 + seed)
    height, width = draw.randint(16, 40), draw.randint(16, 40)
    if draw.random() < 0.3:
        height = width = draw.choice((16, 24, 32))
    module = _Network(seed, height, width).eval()
    shape = (1, 3, height, width)
    names = draw.sample(("image", "add", "input", "conv2d", "Identity", "mul", "x", "restored"), 4)
    inputs = tuple(Port(name, shape, (0.0, 1.0)) for name in names[: module.inputs])
    outputs = tuple(Port(name, shape, (0.0, 1.0)) for name in names[2 : 2 + module.outputs])
    return fold(Deployable(module, "random", f"Network {seed}", "1", inputs, outputs)), module.kinds


def _pictures(deployable: Deployable, photos: Sequence[Path]) -> dict[str, list[Picture]]:
    """8-bit pictures for each input."""
    height, width = deployable.size
    count = len(deployable.inputs)
    noise = np.random.default_rng(0).random((count, height, width, 3))
    found = {
        "noise": list(noise),
        "black": [np.zeros((height, width, 3))] * count,
        "white": [np.ones((height, width, 3))] * count,
        "photo": [fit(read_photo(photos[i % len(photos)]).rgb, height, width) for i in range(count)],
    }
    return {
        name: [np.rint(p * 255).astype(np.float32) / np.float32(255) for p in pictures]
        for name, pictures in found.items()
    }


def _run_tflite(path: Path, deployable: Deployable, pictures: Sequence[Picture]) -> dict[str, Picture]:
    runner = Interpreter(model_content=path.read_bytes()).get_signature_runner("serving_default")
    given = {port.name: picture[None] for port, picture in zip(deployable.inputs, pictures, strict=True)}
    return {name: value[0] for name, value in runner(**given).items()}


def _run_package(path: Path, deployable: Deployable, pictures: Sequence[Picture]) -> dict[str, Picture]:
    given = {
        port.name: np.rint(picture * 255).astype(np.uint8)
        for port, picture in zip(deployable.inputs, pictures, strict=True)
    }
    outputs = MilProgram.load(path).run(given, eight_bit=False)
    return {name: value / np.float32(255) for name, value in outputs.items()}


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_every_variant_of_a_random_network_is_the_network(
    seed: int, photo_paths: list[Path], tmp_path: Path
) -> None:
    deployable, kinds = _random_network(seed)
    print(seed, deployable.size, kinds)
    failed: list[str] = []
    try:
        convert(
            [deployable],
            tmp_path / "bundle",
            PROVENANCE,
            golden_photo=photo_paths[0],
            variants=[variant.file_ending for variant in VARIANTS],
            examples=lambda graph, count: plain_examples(photo_paths, graph)[:count],
        )
    except GateFailed as error:
        failed.append(str(error))
    pictures = _pictures(deployable, photo_paths)
    expected = {}
    with torch.inference_mode():
        for name, given in pictures.items():
            results = deployable.module(*(torch.from_numpy(p).permute(2, 0, 1)[None] for p in given))
            expected[name] = [result[0].permute(1, 2, 0).numpy() for result in results]
    for path in sorted((tmp_path / "bundle").iterdir()):
        if path.suffix not in (".tflite", ".mlpackage"):
            continue
        variant = path.stem.partition("_")[2].partition("_")[2]
        run = _run_tflite if path.suffix == ".tflite" else _run_package
        for name, given in pictures.items():
            outputs = run(path, deployable, given)
            for port, wanted in zip(deployable.outputs, expected[name], strict=True):
                square = float(np.square(outputs[port.name].astype(np.float64) - wanted).mean())
                psnr = 200.0 if square == 0 else -10 * np.log10(square)
                if not psnr >= _least_psnr(variant, name, kinds):  # NaN too
                    failed.append(f"{path.name}, {name}, {port.name}: {psnr:.1f} dB")
    assert failed == []
