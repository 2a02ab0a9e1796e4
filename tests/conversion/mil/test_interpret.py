"""Rounding, images and hooks of the interpreter, and whole networks against PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion.mil.interpret import MilProgram
from afterlens.training.blocks import fold_weight_norm
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.network import ReflectionNetwork
from tests.conversion.mil.programs import RNG, Lambda, Save, normal


def psnr(result: NDArray[Any], reference: NDArray[Any], peak: float) -> float:
    return float(10 * np.log10(peak**2 / np.mean((result.astype(np.float64) - reference) ** 2)))


class Seen:
    """A hook that writes down the types of the operators that it is shown."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def __call__(self, name: str, op_type: str, value: NDArray[Any]) -> None:
        self.types.append(op_type)


# float16


@pytest.fixture(scope="module")
def sum_and_product(save_network: Save) -> MilProgram:
    """x0 + x1, and (x0 * x1) / 4, all in float16."""
    example = torch.ones(1, 64)
    return MilProgram.load(save_network(Lambda(lambda a, b: (a + b, (a * b) * 0.25)), example, example))


def outputs(program: MilProgram, a: NDArray[Any], b: NDArray[Any], **how: Any) -> list[NDArray[Any]]:
    return [program.run({"x0": a, "x1": b}, **how)[spec.name] for spec in program.outputs]


def test_results_are_rounded_to_float16(sum_and_product: MilProgram) -> None:
    a, b = normal(1, 64), normal(1, 64) * 30
    total, _ = outputs(sum_and_product, a, b)
    exact = a.astype(np.float16).astype(np.float64) + b.astype(np.float16)
    np.testing.assert_array_equal(total, exact.astype(np.float16).astype(np.float32))
    assert (total != exact).any()


def test_float16_overflows_to_infinity(sum_and_product: MilProgram) -> None:
    """300 * 300 does not fit in float16, although a quarter of it would: the intermediate value is stored."""
    a = np.full((1, 64), 300, np.float32)
    a[0, 0] = -300
    seen: dict[str, float] = {}
    _, product = outputs(
        sum_and_product,
        a,
        np.full((1, 64), 300, np.float32),
        on_value=lambda n, o, v: seen.update({n: np.abs(v).max()}),
    )
    assert product[0, 0] == -np.inf
    assert (product[0, 1:] == np.inf).all()
    assert sum(value == np.inf for value in seen.values()) >= 2  # the product and its quarter
    _, product = outputs(sum_and_product, a, np.full((1, 64), 300, np.float32), round_storage=False)
    np.testing.assert_array_equal(product[0, 1:], 22500)


def test_the_largest_float16_and_the_first_number_beyond(sum_and_product: MilProgram) -> None:
    a = np.full((1, 64), 65504, np.float32)
    b = np.linspace(0, 31, 64, dtype=np.float32)[None]
    total, _ = outputs(sum_and_product, a, b)
    np.testing.assert_array_equal(
        np.isinf(total), b.astype(np.float16) >= 16
    )  # halfway to 65536, ties to even


def test_without_rounding_the_program_computes_in_float32(sum_and_product: MilProgram) -> None:
    a, b = normal(1, 64), normal(1, 64)
    total, product = outputs(sum_and_product, a, b, round_storage=False)
    np.testing.assert_allclose(total, a + b, rtol=1e-6)
    np.testing.assert_allclose(product, a * b * 0.25, rtol=1e-6)


# Hooks


def test_every_operator_is_shown_once_and_in_order(sum_and_product: MilProgram) -> None:
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    outputs(
        sum_and_product, normal(1, 64), normal(1, 64), on_value=lambda n, o, v: seen.append((o, n, v.shape))
    )
    operators = sum_and_product.operators()
    assert {"add", "mul", "cast"} >= {o.op_type for o in operators} >= {"add", "mul"}
    assert seen[: len(operators)] == [(o.op_type, o.name, (1, 64)) for o in operators]
    assert [o.outputs[0][1].shape for o in operators] == [(1, 64)] * len(operators)


def test_an_override_replaces_a_value_for_all_that_follow(sum_and_product: MilProgram) -> None:
    a, b = normal(1, 64), normal(1, 64)
    first = next(o.name for o in sum_and_product.operators() if o.op_type == "mul")

    def double(name: str, op_type: str, value: NDArray[Any]) -> NDArray[Any] | None:
        return value * 2 if name == first else None

    total, product = outputs(sum_and_product, a, b)
    total_after, product_after = outputs(sum_and_product, a, b, override=double)
    np.testing.assert_array_equal(total_after, total)
    np.testing.assert_array_equal(product_after, product * 2)
    with pytest.raises(ValueError, match="shape"):
        outputs(sum_and_product, a, b, override=lambda n, o, v: v[:, :3])


def test_only_what_depends_on_a_changed_constant_is_computed_again(save_network: Save) -> None:
    """Two branches with a weight each, then their sum."""
    torch.manual_seed(0)
    one, other = (nn.Conv2d(3, 4, 3).requires_grad_(False) for _ in range(2))
    path = save_network(Lambda(lambda x: one(x).relu() + other(x).sigmoid()), torch.zeros(1, 3, 8, 8))
    program = MilProgram.load(path)
    x = {"x0": normal(1, 3, 8, 8)}
    known: dict[str, NDArray[Any]] = {}
    (before,) = program.run(x, on_value=lambda n, _, v: known.update({n: v})).values()
    weights = [n for n, v in program.constants().items() if np.shape(v) == (4, 3, 3, 3)]
    assert len(weights) == 2
    for name, branch in zip(weights, ("relu", "sigmoid"), strict=True):
        changed = {name: program.constants()[name] * 2}
        seen = Seen()
        (again,) = program.run(x, constants=changed, known=known, on_value=seen).values()
        (whole,) = program.run(x, constants=changed).values()
        np.testing.assert_array_equal(again, whole)
        assert not np.array_equal(again, before)
        assert [o for o in seen.types if o != "cast"] == ["conv", branch, "add"]
    (after,) = program.run(x).values()
    np.testing.assert_array_equal(after, before)
    for wrong in ({"absent": np.zeros(1)}, {weights[0]: np.zeros((4, 3, 3))}):
        with pytest.raises(ValueError, match="no constant of that name and shape"):
            program.run(x, constants=wrong)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"x0": np.zeros((1, 64))}, r"got inputs \['x0'\], the model takes \['x0', 'x1'\]"),
        ({"x0": np.zeros((1, 64)), "x1": np.zeros((64, 1))}, r"got float64\(64, 1\)"),
        ({"x0": np.zeros((1, 64)), "x1": np.zeros((1, 64)), "x2": 0}, "'x2'"),
    ],
)
def test_wrong_inputs_are_named(sum_and_product: MilProgram, inputs: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        sum_and_product.run(inputs)


# Images


@pytest.fixture(scope="module")
def image_program(coremltools: ModuleType, save_network: Save) -> Callable[[str], MilProgram]:
    """`program(colour)` adds (10.5, 100, -100) to the channels as the program sees them; also their first column."""
    ct = coremltools
    added = torch.tensor([10.5, 100.0, -100.0]).reshape(1, 3, 1, 1)

    def program(colour: str) -> MilProgram:
        layout = getattr(ct.colorlayout, colour)
        path = save_network(
            Lambda(lambda x: (x + added, x[:, :, :, 0])),
            torch.zeros(1, 3, 4, 6),
            inputs=[ct.ImageType(name="image", shape=(1, 3, 4, 6), color_layout=layout)],
            outputs=[ct.ImageType(name="brighter", color_layout=layout), ct.TensorType(name="column")],
        )
        return MilProgram.load(path)

    return program


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_images_are_rgb_outside_whatever_the_program_computes_in(
    image_program: Callable[[str], MilProgram], colour: str
) -> None:
    program = image_program(colour)
    (spec,) = program.inputs
    assert (spec.name, spec.shape, spec.dtype, spec.is_image, spec.colour) == (
        "image", (1, 3, 4, 6), "uint8", True, colour,
    )  # fmt: skip
    brighter = program.outputs[0]
    assert (brighter.is_image, brighter.dtype, brighter.colour) == (True, "uint8", colour)
    image = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    added = np.array([10.5, 100.0, -100.0])
    if colour == "BGR":
        added = added[::-1]
    result = program.run({"image": image})
    assert result["brighter"].dtype == np.uint8
    # rint: a half goes to the even neighbour; below 0 and above 255 is clipped
    np.testing.assert_array_equal(result["brighter"], np.clip(np.rint(image + added), 0, 255))
    planes = image.transpose(2, 0, 1)[:: -1 if colour == "BGR" else 1]
    np.testing.assert_array_equal(result["column"][0], planes[:, :, 0])
    unrounded = program.run({"image": image}, eight_bit=False)["brighter"]
    np.testing.assert_allclose(unrounded, image + added, atol=0.13)  # float16 near 355


def test_a_grey_image(coremltools: ModuleType, save_network: Save) -> None:
    ct = coremltools
    grey = ct.colorlayout.GRAYSCALE
    path = save_network(
        Lambda(lambda x: 255 - x),
        torch.zeros(1, 1, 4, 6),
        inputs=[ct.ImageType(name="image", shape=(1, 1, 4, 6), color_layout=grey)],
        outputs=[ct.ImageType(name="negative", color_layout=grey)],
    )
    image = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(MilProgram.load(path).run({"image": image})["negative"], 255 - image)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4, 3), (1, 3, 4, 6), (4, 6, 4)])
def test_an_image_of_another_shape_is_refused(
    image_program: Callable[[str], MilProgram], shape: tuple[int, ...]
) -> None:
    with pytest.raises(UserError, match="4x6"):
        image_program("RGB").run({"image": np.zeros(shape, np.uint8)})


# Networks


class ManyLayers(nn.Module):
    """What image networks are made of, beyond the reflection network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect")
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.dilated = nn.Conv2d(16, 16, 3, padding=2, dilation=2, stride=2)
        self.batch, self.instance = nn.BatchNorm2d(16), nn.InstanceNorm2d(16, affine=True)
        self.group, self.layer = nn.GroupNorm(4, 16), nn.LayerNorm(16)
        self.prelu = nn.PReLU(16)
        self.up = nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1)
        self.odd_up = nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1)
        self.attention = nn.Linear(16, 48)
        self.head = nn.Conv2d(16, 12, 1)
        for norm in (self.batch, self.instance, self.group, self.layer):
            for name, parameter in norm.named_parameters():
                nn.init.uniform_(parameter, *((0.5, 1.5) if name == "weight" else (-0.5, 0.5)))
        with torch.no_grad():
            self.batch(3 * torch.rand(4, 16, 8, 8) - 1)  # running statistics

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.gelu(self.batch(self.stem(x)))
        b = self.prelu(self.instance(self.dilated(F.silu(self.depthwise(a)))))
        c = F.max_pool2d(a, 3, 2, 1) + F.avg_pool2d(a, 3, 2, 1, ceil_mode=False, count_include_pad=False)
        d = self.group(b + c)
        tokens = self.layer(d.flatten(2).transpose(1, 2))
        query, key, value = self.attention(tokens).chunk(3, -1)
        weights = (query @ key.transpose(1, 2) / 4).softmax(-1)
        e = (weights @ value).transpose(1, 2).reshape(d.shape)
        e = e * torch.sigmoid(e.mean((2, 3), keepdim=True)) + F.hardswish(d) + F.leaky_relu(d, 0.1)
        up = self.up(e) + F.interpolate(e, scale_factor=2, mode="nearest")
        up = up + F.interpolate(e, size=up.shape[2:], mode="bilinear", align_corners=True)
        up = up + F.pad(self.odd_up(e)[:, :, 1:-1, 2:], (1, 1, 1, 1), mode="replicate")
        detail = F.pixel_shuffle(self.head(up), 2)
        small = F.pixel_unshuffle(detail, 2)
        warped = F.grid_sample(
            x, torch.tanh(detail[:, :2, ::2, ::2]).permute(0, 2, 3, 1), align_corners=False
        )
        picture = torch.where(warped > 0.5, warped, torch.sqrt(warped.abs() + 0.01)) + small[:, :3].clamp(
            -1, 1
        )
        return picture, F.hardsigmoid(detail) - torch.exp(-detail.square())


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_network_of_many_layers(coremltools: ModuleType, save_network: Save, precision: str) -> None:
    torch.manual_seed(1)
    network = ManyLayers().eval()
    x = F.interpolate(
        torch.rand(1, 3, 6, 8), size=(24, 32), mode="bilinear"
    )  # smooth, as the warp multiplies errors
    path = save_network(network, x, compute_precision=getattr(coremltools.precision, precision))
    program = MilProgram.load(path)
    result = program.run({"x0": x.numpy()})
    with torch.no_grad():
        single = [t.numpy() for t in network(x)]
        double = [t.numpy() for t in copy.deepcopy(network).double()(x.double())]
    for spec, own, exact in zip(program.outputs, single, double, strict=True):
        span = float(np.ptp(exact))
        if precision == "FLOAT32":  # as near to the exact result as PyTorch itself is
            assert np.abs(result[spec.name] - exact).max() <= 4 * np.abs(own - exact).max() <= 1e-4 * span
        else:
            assert psnr(result[spec.name], exact, span) > 40


class OnPhotos(nn.Module):
    """The reflection network between 8-bit images, with noise for weights: the start weights change nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = ReflectionNetwork()
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(torch.randn_like(parameter) * (1.0 if name.endswith("original0") else 0.07))
        fold_weight_norm(self.network)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        background, layer = self.network(image)
        return background.clamp(0, 1) * 255, (layer * 0.5 + 0.5).clamp(0, 1) * 255


@pytest.fixture(scope="module")
def reflection(coremltools: ModuleType, save_network: Save) -> tuple[OnPhotos, Path]:
    ct = coremltools
    module = OnPhotos().eval()
    path = save_network(
        module,
        torch.zeros(1, 3, 96, 128),
        inputs=[ct.ImageType(name="image", shape=(1, 3, 96, 128), scale=1 / 255)],
        outputs=[ct.ImageType(name="restored"), ct.ImageType(name="layer")],
        minimum_deployment_target=ct.target.iOS17,
    )
    return module, path


def test_the_reflection_network_on_a_photo_and_on_noise(
    reflection: tuple[OnPhotos, Path], photo: NDArray[np.float32]
) -> None:
    module, path = reflection
    program = MilProgram.load(path)
    pictures = [
        np.rint(photo[100:196, 200:328] * 255).astype(np.uint8),
        RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8),
    ]
    for picture in pictures:
        with torch.no_grad():
            expected = module(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        unrounded = program.run({"image": picture}, eight_bit=False)
        rounded = program.run({"image": picture})
        for name, reference in zip(("restored", "layer"), expected, strict=True):
            wanted = reference[0].permute(1, 2, 0).numpy()
            assert psnr(wanted, picture, 255) < 35  # the network does something
            assert psnr(unrounded[name], wanted, 255) > 65
            assert np.abs(rounded[name] - wanted).max() < 1.2


def test_a_swapped_channel_inside_the_network_shows(reflection: tuple[OnPhotos, Path]) -> None:
    """The comparison above would notice: one feature map turned round costs far more than float16 does."""
    program = MilProgram.load(reflection[1])
    picture = RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    first = next(o.name for o in program.operators() if o.op_type == "conv")

    def turned(name: str, op_type: str, value: NDArray[Any]) -> NDArray[Any] | None:
        return np.ascontiguousarray(value[:, ::-1]) if name == first else None

    sound = program.run({"image": picture}, eight_bit=False)["restored"]
    spoilt = program.run({"image": picture}, eight_bit=False, override=turned)["restored"]
    assert psnr(spoilt, sound, 255) < 45


def test_a_program_can_run_twice(reflection: tuple[OnPhotos, Path]) -> None:
    program = MilProgram.load(reflection[1])
    picture = RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    before = copy.deepcopy(picture)
    first, second = (program.run({"image": picture})["restored"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(picture, before)
