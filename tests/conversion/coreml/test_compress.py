"""Compressed Core ML packages against coremltools' own, against the definition of each form, and with faults put in."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import digest
from afterlens.conversion.convert import convert
from afterlens.conversion.coreml.compress import (
    COMPRESSED_VARIANTS,
    REPRESENTATIONS,
    THRESHOLD,
    Weight,
    cheapest,
    compress,
    compress_and_check,
    compressed,
    compression_faults,
    lost,
    pack_bits,
    palettize,
    plan_mixed,
    weights_of,
)
from afterlens.conversion.coreml.convert import convert_coreml, minimum_coreml
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package, unpack_bits
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import fit
from afterlens.training.trained import load_network
from afterlens.training.udc.task import TASK

Array = NDArray[Any]
SIDE = 64


class _Small(nn.Module):
    """All kinds of layers with weights, and channels whose weights differ by a factor of a million."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)  # 432 values: stays float16
        self.body = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.twin = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.other = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.head = nn.Conv2d(16, 3, 1)
        with torch.no_grad():
            self.body.weight *= torch.logspace(-6, 0, 32).reshape(-1, 1, 1, 1)
            self.body.weight[3] = 0.0

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.body(torch.relu(self.stem(image))))
        x = torch.relu(self.twin(x)) + torch.sigmoid(self.other(x))
        return ((image + 0.3 * self.head(torch.relu(self.up(x)))).clamp(0.0, 1.0),)


def _deployable(module: nn.Module, height: int = 32, width: int = 32) -> Deployable:
    shape = (1, 3, height, width)
    ports = [(Port(name, shape, (0.0, 1.0)),) for name in ("image", "restored")]
    return Deployable(module.eval(), "small", "Small", "1", *ports)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small_32x32_float16.mlpackage"
    convert_coreml(_deployable(_Small()), path)
    return path


@pytest.fixture(scope="module")
def udc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small under-display network with its bundled weights, at 64x64."""
    path = tmp_path_factory.mktemp("udc") / "udc_64x64_float16.mlpackage"
    convert_coreml(TASK.deployable(load_network(TASK, TASK.pretrained)[0], SIDE, SIDE), path)
    return path


@pytest.fixture(scope="module")
def forms(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small package in each of the plain variants."""
    folder = tmp_path_factory.mktemp("forms")
    for variant in COMPRESSED_VARIANTS[:3]:
        compress(small, variant, folder / f"{variant}.mlpackage")
    return {variant: folder / f"{variant}.mlpackage" for variant in COMPRESSED_VARIANTS[:3]}


@pytest.fixture(scope="module")
def plain(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small package with every weight in one representation, the outermost too."""
    folder = tmp_path_factory.mktemp("plain")
    for kind in REPRESENTATIONS[:-1]:
        compress(small, "mixed", folder / f"{kind}.mlpackage", dict.fromkeys(weights_of(small), kind))
    return {kind: folder / f"{kind}.mlpackage" for kind in REPRESENTATIONS[:-1]}


@pytest.fixture(scope="module")
def cto() -> ModuleType:
    import coremltools.optimize.coreml

    module: ModuleType = coremltools.optimize.coreml
    return module


def _operations(path: Path) -> list[Any]:
    (function,) = read_package(path).model.mlProgram.functions.values()
    return list(function.block_specializations[function.opset].operations)


# What is written


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_nothing_but_the_weights_changes(small: Path, forms: dict[str, Path], variant: str) -> None:
    assert compression_faults(small, forms[variant], variant) == []
    assert minimum_coreml(forms[variant]) == "iOS 16, macOS 13"
    weights = weights_of(small)
    assert len(weights) == 4 and all(w.values.size >= THRESHOLD for w in weights.values())
    operators = [o for o in MilProgram.load(forms[variant]).operators() if o.op_type.startswith("constexpr_")]
    assert {o.name for o in operators} == set(weights)
    assert digest(forms[variant])[1] < digest(small)[1]


def test_the_same_weights_give_the_same_bytes(small: Path, forms: dict[str, Path], tmp_path: Path) -> None:
    for variant, path in forms.items():
        compress(small, variant, tmp_path / "again.mlpackage")
        assert digest(tmp_path / "again.mlpackage") == digest(path)
        assert (path / "Manifest.json").read_bytes() == (small / "Manifest.json").read_bytes()
    convert_coreml(_deployable(_Small()), tmp_path / "small.mlpackage")
    assert digest(tmp_path / "small.mlpackage") == digest(small)


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_operators_have_the_form_that_coremltools_gives_them(
    small: Path, plain: dict[str, Path], variant: str, cto: ModuleType, tmp_path: Path
) -> None:
    """Attributes, their types and whether they lie in the model or in the weight file."""
    import coremltools

    model = coremltools.models.MLModel(str(small), skip_model_load=True)
    if variant == "int8":
        config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=THRESHOLD - 1)
        theirs = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    else:
        config = cto.OpPalettizerConfig(
            mode="uniform", nbits=int(variant[-1]), weight_threshold=THRESHOLD - 1
        )
        theirs = cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))
    theirs.save(str(tmp_path / "theirs.mlpackage"))
    form, expected = (
        {
            operation.outputs[0].name.removesuffix("_quantized").removesuffix("_palettized"): (
                operation.type,
                operation.outputs[0].type.SerializeToString(deterministic=True),
                {
                    name: (
                        value.type.SerializeToString(deterministic=True),
                        value.blobFileValue.fileName,
                        None
                        if name == "name"
                        else value.immediateValue.SerializeToString(deterministic=True),
                    )
                    for name, value in operation.attributes.items()
                },
            )
            for operation in _operations(path)
            if operation.type.startswith("constexpr_")
        }
        for path in (plain[variant], tmp_path / "theirs.mlpackage")
    )
    assert len(form) == 4
    assert form == expected
    assert abs(digest(plain[variant])[1] - digest(tmp_path / "theirs.mlpackage")[1]) < 2000


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_coremltools_reads_the_weights_that_were_meant(
    small: Path, plain: dict[str, Path], variant: str, cto: ModuleType
) -> None:
    import coremltools

    model = coremltools.models.MLModel(str(plain[variant]), skip_model_load=True)
    operators = cto.decompress_weights(model)._mil_program.functions["main"].operations
    dense = {o.weight.name: o.weight.val for o in operators if "conv" in o.op_type}
    for name, weight in weights_of(small).items():
        (found,) = (value for key, value in dense.items() if key.startswith(name))
        np.testing.assert_array_equal(found.astype(np.float32), compressed(weight, variant).expanded())


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_the_package_computes_with_these_weights(small: Path, plain: dict[str, Path], variant: str) -> None:
    picture = {"image": np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)}
    weights = {name: compressed(w, variant).expanded() for name, w in weights_of(small).items()}
    got = MilProgram.load(plain[variant]).run(picture, eight_bit=False)["restored"]
    expected = MilProgram.load(small).run(picture, eight_bit=False, constants=weights)["restored"]
    exact = MilProgram.load(small).run(picture, eight_bit=False)["restored"]
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(got, exact)


# int8


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_within_half_a_step_in_every_channel(axis: int) -> None:
    generator = np.random.default_rng(1)
    values = generator.standard_normal((24, 24, 3, 3)) * np.logspace(-9, 3, 24).reshape(-1, 1, 1, 1)
    values[5] = 0.0
    values = np.moveaxis(values, 0, axis).astype(np.float16).astype(np.float32)
    form = compressed(Weight(values, axis), "int8")
    scale = form.parameters["scale"].astype(np.float64)
    for channel in range(24):
        own = np.take(values, channel, axis).astype(np.float64)
        codes = np.take(form.parameters["quantized_data"], channel, axis)
        assert np.abs(codes * scale[channel] - own).max() <= scale[channel] / 2
        if np.abs(own).max() > 1e-3:  # below, float16 has no scale that fits
            assert np.abs(codes).max() in (126, 127)
    assert form.parameters["quantized_data"].min() >= -127
    assert not form.parameters["zero_point"].any()


# Palettes


def _samples() -> dict[str, Array]:
    generator = np.random.default_rng(3)
    return {
        "normal": generator.standard_normal(20000),
        "long tails": generator.standard_t(3, 20000),
        "two heaps": np.concatenate([generator.normal(-2, 0.1, 5000), generator.normal(1, 0.5, 15000)]),
        "one far away": np.concatenate([generator.standard_normal(4000), [60.0]]),
    }


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("kind", list(_samples()))
def test_a_palette_is_nearly_the_best_and_every_value_has_its_nearest(kind: str, bits: int) -> None:
    """The best: k-means of one dimension solved exactly, by dynamic programming, as coremltools brings it along."""
    from coremltools._deps import kmeans1d

    values = _samples()[kind].astype(np.float16).astype(np.float32)
    palette, indices = palettize(values, bits)
    assert palette.dtype == np.float16 and palette.shape == (1 << bits,)
    distances = np.abs(values[:, None].astype(np.float64) - palette.astype(np.float64))
    np.testing.assert_array_equal(distances[np.arange(values.size), indices], distances.min(1))
    levels, counts = np.unique(values, return_counts=True)
    best = np.array(kmeans1d.cluster(levels, 1 << bits, weights=counts).centroids)
    optimum = np.square(np.abs(values[:, None] - best).min(1)).sum()
    found = np.square(distances.min(1)).sum()
    print(f"{kind}, {bits} bits: {found / optimum:.4f} of the optimum")
    assert found < 1.15 * optimum


def test_few_different_values_are_kept_exactly() -> None:
    values = np.array([0.5, -1.0, 0.25] * 5, np.float32)
    palette, indices = palettize(values, 4)
    np.testing.assert_array_equal(palette[indices], values)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("count", [1, 37, 4096])
def test_bits_are_packed_as_coremltools_packs_them(bits: int, count: int, cto: ModuleType) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    values = np.random.default_rng(count).integers(0, 1 << bits, count).astype(np.uint8)
    packed = pack_bits(values, bits)
    np.testing.assert_array_equal(packed, pack_elements_into_bits(values, bits))
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), values)


# Faults


def _overwrite(path: Path, name: str, parameter: str, change: Callable[[Array], Array]) -> None:
    """Change what the weight file holds of one parameter of a compressed weight."""
    package = read_package(path)
    (operation,) = (o for o in _operations(path) if o.outputs[0].name == name)
    value = operation.attributes[parameter]
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(file.read_bytes())
    size, start = struct.unpack_from("<QQ", data, value.blobFileValue.offset + 8)
    dtype = np.dtype(package.tensor_type(value.type).dtype.name)
    old = np.frombuffer(data[start : start + size], dtype)
    shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
    new = np.ascontiguousarray(change(old.reshape(shape).copy())).astype(dtype)
    assert new.size == old.size and new.tobytes() != old.tobytes(), "the mutation changes nothing"
    data[start : start + size] = new.tobytes()
    file.write_bytes(data)


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the model of a package."""
    model = read_package(path).model
    before = model.SerializeToString(deterministic=True)
    change(model)
    assert model.SerializeToString(deterministic=True) != before, "the mutation changes nothing"
    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    file.write_bytes(model.SerializeToString(deterministic=True))


def _names(path: Path) -> list[str]:
    return [o.name for o in MilProgram.load(path).operators() if o.op_type.startswith("constexpr_")]


def _indices(change: Callable[[Array], Array], bits: int) -> Callable[[Array], Array]:
    """A change of unpacked indices."""

    def packed(data: Array) -> Array:
        return pack_bits(change(unpack_bits(data, bits, data.size * 8 // bits)).astype(np.uint8), bits)

    return packed


def _zeros(path: Path) -> None:
    """A weight is lost."""
    name = _names(path)[1]
    for parameter in ("quantized_data", "lut"):
        if parameter in {key for o in _operations(path) if o.outputs[0].name == name for key in o.attributes}:
            _overwrite(path, name, parameter, np.zeros_like)


def _larger_scale(path: Path) -> None:
    """All codes are 0 and the steps so large that half of one reaches everything."""
    name = _names(path)[1]
    _overwrite(path, name, "quantized_data", np.zeros_like)
    _overwrite(path, name, "scale", lambda scale: scale * 300)


def _block_of(model: Any) -> Any:
    (function,) = model.mlProgram.functions.values()
    return function.block_specializations[function.opset]


def _swap_weights(path: Path) -> None:
    """Two weights of one shape have each other's values."""

    def change(model: Any) -> None:
        one, other = (
            o for o in _block_of(model).operations
            if o.type.startswith("constexpr_") and any(part in o.outputs[0].name for part in ("twin", "other"))
        )  # fmt: skip
        one.outputs[0].name, other.outputs[0].name = other.outputs[0].name, one.outputs[0].name

    _edit(path, change)


def _another_operator(path: Path) -> None:
    def change(model: Any) -> None:
        next(o for o in _block_of(model).operations if o.type == "relu").type = "sigmoid"

    _edit(path, change)


def _another_order(path: Path) -> None:
    def change(model: Any) -> None:
        block = _block_of(model)
        places = [i for i, o in enumerate(block.operations) if o.type == "conv"]
        operations = list(block.operations)
        operations[places[1]], operations[places[1] - 1] = operations[places[1] - 1], operations[places[1]]
        del block.operations[:]
        block.operations.extend(operations)

    _edit(path, change)


def _another_input(path: Path) -> None:
    """A convolution reads the other's result."""

    def change(model: Any) -> None:
        convolutions = [o for o in _block_of(model).operations if o.type == "conv"]
        convolutions[2].inputs["x"].arguments[0].name = convolutions[1].inputs["x"].arguments[0].name

    _edit(path, change)


def _one_less(path: Path) -> None:
    _edit(path, lambda model: _block_of(model).operations.pop())


def _another_bias(path: Path) -> None:
    """A constant that is not compressed is changed in the weight file."""
    name = next(o.outputs[0].name for o in _operations(path) if "body_bias" in o.outputs[0].name)
    _overwrite(path, name, "val", lambda bias: bias * 1.01)


def _another_colour(path: Path) -> None:
    def change(model: Any) -> None:
        model.description.input[0].type.imageType.colorSpace = 30

    _edit(path, change)


FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("int8", _zeros, "more than half a step"),
    ("palettized6", _zeros, "relative RMS"),
    ("palettized4", _zeros, "relative RMS"),
    ("int8", _larger_scale, "larger than its channel's weights need"),
    *[(variant, _swap_weights, "") for variant in COMPRESSED_VARIANTS[:3]],
    *[
        (variant, fault, text)
        for variant in ("int8", "palettized4")
        for fault, text in (
            (_another_operator, "relu"),
            (_another_order, ""),
            (_another_input, "conv"),
            (_one_less, "operators and constants"),
            (_another_bias, "body_bias"),
            (_another_colour, "description"),
        )
    ],
    # int8: two channels in each other's place, one code two steps off, a scale by 1 % too large
    ("int8", lambda p: _overwrite(p, _names(p)[1], "quantized_data", lambda q: q[::-1]), "half a step"),
    ("int8", lambda p: _overwrite(p, _names(p)[3], "quantized_data", lambda q: q[:, ::-1]), "half a step"),
    ("int8", lambda p: _overwrite(p, _names(p)[2], "quantized_data", _one_code), "at 1 of"),
    ("int8", lambda p: _overwrite(p, _names(p)[1], "scale", lambda s: s * 1.01), "scale"),
    ("int8", lambda p: _overwrite(p, _names(p)[1], "scale", lambda s: s * 0.99), "half a step"),
    ("int8", lambda p: _overwrite(p, _names(p)[1], "scale", lambda s: s * np.nan), "scale"),
    ("int8", lambda p: _overwrite(p, _names(p)[1], "zero_point", lambda z: z + 1), "symmetric"),
    *[
        (
            f"palettized{bits}",
            lambda p, b=bits, c=change: _overwrite(p, _names(p)[1], "indices", _indices(c, b)),
            "nearest",
        )
        for bits in (4, 6)
        for change in (
            lambda i: i.reshape(32, -1)[::-1].ravel(),  # output channels in reverse
            lambda i: i ^ 1,  # neighbouring entries in each other's place
            np.zeros_like,
            lambda i: np.concatenate([i[1:], i[:1]]),  # one value further
            lambda i: np.where(np.arange(i.size) == 7, i ^ 2, i),  # a single index
        )
    ],
    *[
        (f"palettized{bits}", (lambda p, c=change: _overwrite(p, _names(p)[1], "lut", c)), "nearest")
        for bits in (4, 6)
        for change in (lambda t: t[::-1], lambda t: t * 1.05, lambda t: np.where(t == t.max(), 0, t))
    ],
    ("palettized4", lambda p: _overwrite(p, _names(p)[1], "lut", lambda t: t * np.nan), "finite"),
]  # fmt: skip


def _one_code(codes: Array) -> Array:
    codes.flat[100] ^= 2
    return codes


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_fault_is_found(small: Path, forms: dict[str, Path], number: int, tmp_path: Path) -> None:
    variant, fault, text = FAULTS[number]
    path = Path(shutil.copytree(forms[variant], tmp_path / "faulty.mlpackage"))
    fault(path)
    faults = compression_faults(small, path, variant)
    print(faults)
    assert faults and text in faults[0]


def test_another_representation_than_asked_for_is_found(small: Path, forms: dict[str, Path]) -> None:
    inner = [weight for weight in weights_of(small).values() if not weight.outermost]
    assert inner
    for variant, other in itertools.permutations(forms, 2):
        assert len(compression_faults(small, forms[variant], other)) >= len(inner)
    for variant, path in forms.items():
        assert "stored as float16" in compression_faults(small, small, variant)[0]
        assert compression_faults(small, path, "mixed") == []


def test_palettes_spare_the_first_and_the_last_layers(udc: Path, tmp_path: Path) -> None:
    compress(udc, "palettized6", tmp_path / "palettized6.mlpackage")
    stored = {
        operation.outputs[0].name: operation.type
        for operation in _operations(tmp_path / "palettized6.mlpackage")
        if operation.type.startswith("constexpr_")
    }
    outermost = {name for name, kind in stored.items() if kind == "constexpr_affine_dequantize"}
    assert {name for name, weight in weights_of(udc).items() if weight.outermost} == outermost
    assert len(outermost) == 2 and all("stem" in name or "head" in name for name in outermost)
    assert len(stored) > 15


def test_another_network_is_found(small: Path, forms: dict[str, Path], udc: Path) -> None:
    assert "operators and constants" in compression_faults(udc, forms["int8"], "int8")[-1]


def test_a_package_that_cannot_be_read_is_one_line(
    small: Path, forms: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(forms["int8"], tmp_path / "cut.mlpackage"))
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut\.mlpackage: a tensor record at byte"):
        compression_faults(small, path, "int8")


# What cannot be compressed


class _Tint(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image * 0.5,)


def test_a_package_without_large_weights_is_refused(tmp_path: Path) -> None:
    convert_coreml(_deployable(_Tint()), tmp_path / "tint.mlpackage")
    with pytest.raises(UserError, match="no float16 weight of 2048 values"):
        compress(tmp_path / "tint.mlpackage", "int8", tmp_path / "out.mlpackage")


def test_a_weight_that_is_not_finite_is_named(small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(small, tmp_path / "nan.mlpackage"))
    name = next(iter(weights_of(path)))
    _overwrite(path, name, "val", lambda weight: np.where(weight == weight.max(), np.nan, weight))
    with pytest.raises(UserError, match=f"{name}.*not finite"):
        compress(path, "palettized6", tmp_path / "out.mlpackage")
    assert not (tmp_path / "out.mlpackage").exists()


def test_a_plan_of_another_package_is_refused(small: Path, tmp_path: Path) -> None:
    names = list(weights_of(small))
    for plan in (None, {}, dict.fromkeys(names[1:], "int8"), dict.fromkeys(names, "int2")):
        with pytest.raises(ValueError, match="plan"):
            compress(small, "mixed", tmp_path / "out.mlpackage", plan)
    with pytest.raises(ValueError, match="plan"):
        compress(small, "int8", tmp_path / "out.mlpackage", dict.fromkeys(names, "int8"))


# Mixed


def _saved(path: Path) -> dict[str, str]:
    """Which representation each weight of a package has, read off the file."""
    kinds = {}
    for operation in _operations(path):
        if operation.type == "constexpr_affine_dequantize":
            kinds[operation.outputs[0].name] = "int8"
        elif operation.type == "constexpr_lut_to_dense":
            entries = operation.attributes["lut"].type.tensorType.dimensions[0].constant.size
            kinds[operation.outputs[0].name] = f"palettized{entries.bit_length() - 1}"
    return kinds


def test_a_mixed_package_follows_its_plan(small: Path, tmp_path: Path) -> None:
    plan = dict(zip(weights_of(small), REPRESENTATIONS, strict=True))
    compress_and_check(small, "mixed", tmp_path / "mixed.mlpackage", plan)
    assert _saved(tmp_path / "mixed.mlpackage") == {n: kind for n, kind in plan.items() if kind != "float16"}


@pytest.mark.parametrize(("judged", "share"), [(True, 0.05), (False, 0.5)])
def test_a_mixed_network_keeps_its_budget(
    udc: Path, photo: NDArray[np.float32], judged: bool, share: float, tmp_path: Path
) -> None:
    """A share of what palettes of 4 bits everywhere cost; both measured anew, on the saved packages."""
    truth = fit(photo, SIDE, SIDE)
    hazy = (np.rint((0.7 * truth + 0.2) * 255) / np.float32(255)).astype(np.float32)
    truths = [truth] if judged else None
    everywhere, mixed = tmp_path / "palettized4.mlpackage", tmp_path / "mixed.mlpackage"
    compress(udc, "palettized4", everywhere)
    budget = share * _loss(udc, everywhere, hazy, truths)
    plan = plan_mixed(udc, [{"image": hazy}], truths, budget)
    compress_and_check(udc, "mixed", mixed, plan)
    assert _saved(mixed) == {name: kind for name, kind in plan.items() if kind != "float16"}
    loss = _loss(udc, mixed, hazy, truths)
    sizes = [digest(path)[1] for path in (udc, mixed, everywhere)]
    print(
        f"{loss:.4f} of {budget:.4f} dB, {sizes} bytes, {[list(plan.values()).count(k) for k in REPRESENTATIONS]}"
    )
    assert 0.3 * budget < loss <= budget + 1e-6
    assert sizes[2] < sizes[1] < 0.5 * sizes[0]


def _loss(original: Path, compressed: Path, picture: Array, truths: list[Array] | None) -> float:
    levels = {"image": np.rint(picture * 255).astype(np.uint8)}
    exact, got = (
        MilProgram.load(path).run(levels, round_storage=False, eight_bit=False)
        for path in (original, compressed)
    )
    return lost(
        [{name: value / 255 for name, value in got.items()}],
        [{name: value / 255 for name, value in exact.items()}],
        truths,
    )


class _Unequal(_Small):
    """Of two equal layers one does nothing."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.body(torch.relu(self.stem(image))))
        x = 20.0 * torch.relu(self.twin(x)) + 1e-3 * torch.sigmoid(self.other(x))
        return ((image + 0.3 * self.head(torch.relu(self.up(x)))).clamp(0.0, 1.0),)


def test_bits_go_to_the_layer_that_the_picture_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "unequal.mlpackage"
    convert_coreml(_deployable(_Unequal()), path)
    picture = np.random.default_rng(5).random((32, 32, 3), np.float32)
    compress(path, "palettized4", tmp_path / "palettized4.mlpackage")
    budget = 0.02 * _loss(path, tmp_path / "palettized4.mlpackage", picture, None)
    plan = plan_mixed(path, [{"image": picture}], None, budget)
    kinds = {part: next(kind for name, kind in plan.items() if part in name) for part in ("twin", "other")}
    assert REPRESENTATIONS.index(kinds["other"]) < REPRESENTATIONS.index(kinds["twin"]), plan


def test_the_cheapest_plan_within_the_budget_is_found() -> None:
    """One weight of a hundred kinds: the loss falls with the price, in steps."""
    asked: list[int] = []

    def plan_at(price: float) -> dict[str, str]:
        return {"weight": str(min(int(np.log10(price) * 5), 99))}

    def loss(plan: Any) -> float:
        asked.append(int(plan["weight"]))
        return 1 - int(plan["weight"]) / 100

    assert cheapest(plan_at, loss, 0.365) == {"weight": "64"}
    assert len(asked) <= 12
    assert cheapest(plan_at, loss, 2.0) == {"weight": "0"}
    assert cheapest(plan_at, loss, 0.001) == {"weight": "99"}


def test_errors_that_happen_to_cancel_do_not_count_as_none() -> None:
    truth = np.full((4, 4, 3), 0.5, np.float32)
    exact = [{"restored": truth + np.float32(0.1), "layer": truth}]
    better = [{"restored": truth + np.float32(0.05), "layer": truth}]
    worse = [{"restored": truth + np.float32(0.2), "layer": truth}]
    assert lost(exact, exact, [truth]) == pytest.approx(0, abs=1e-6)
    assert lost(better, exact, [truth]) == pytest.approx(10 * np.log10((0.01 + 0.0025) / 0.01), rel=1e-4)
    assert lost(worse, exact, [truth]) == pytest.approx(10 * np.log10(0.04 / 0.01), rel=1e-4)
    # Without a truth, and for outputs that have none: against 30 dB.
    assert lost(better, exact, None) == pytest.approx(10 * np.log10((0.001 + 0.0025) / 0.001), rel=1e-4)
    other = [{"restored": exact[0]["restored"], "layer": truth + np.float32(0.01)}]
    assert lost(other, exact, [truth]) == pytest.approx(10 * np.log10((0.001 + 0.0001) / 0.001), rel=1e-4)


@pytest.mark.parametrize(("budget", "pictures", "truths"), [(0.0, 1, None), (0.3, 0, None), (0.3, 1, 2)])
def test_senseless_arguments_are_a_programming_error(
    small: Path, budget: float, pictures: int, truths: int | None
) -> None:
    picture = np.zeros((32, 32, 3), np.float32)
    with pytest.raises(ValueError, match="budget"):
        plan_mixed(
            small, [{"image": picture}] * pictures, None if truths is None else [picture] * truths, budget
        )


# Bundles


def test_a_bundle_of_compressed_packages_at_two_sizes(photo_path: Path, tmp_path: Path) -> None:
    """Without the float16 package, which is only made on the way; the plan of the first size is that of all."""
    network = _Small()
    bundle = convert(
        [_deployable(network, 32, 48), _deployable(network, 48, 32)],
        tmp_path / "bundle",
        {"checkpoint_sha256": "0" * 64, "recipe": {"name": "test"}, "data_licence": "CC BY 4.0"},
        golden_photo=photo_path,
        variants=[f"{variant}.mlpackage" for variant in COMPRESSED_VARIANTS],
    )
    made = [(a.width, a.height, a.variant, a.minimum_runtime) for a in bundle.contract.artifacts]
    assert sorted(made) == sorted(
        (*size, variant, "iOS 16, macOS 13")
        for size in ((48, 32), (32, 48))
        for variant in COMPRESSED_VARIANTS
    )
    assert {path.suffix for path in bundle.folder.iterdir()} == {".mlpackage", ".json", ""}
    plans = [_saved(bundle.path(a)) for a in bundle.contract.artifacts if a.variant == "mixed"]
    assert plans[0] == plans[1]
