"""Faults put into compressed packages on purpose: each must be found."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afterlens.conversion.coreml.check import _int8_fault, compression_faults
from afterlens.conversion.coreml.compress import (
    COMPRESSED_VARIANTS,
    Weight,
    compress,
    compressed,
    weights_of,
)
from afterlens.conversion.coreml.palettes import pack_bits
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package, unpack_bits
from afterlens.training.media.errors import UserError
from tests.conversion.coreml.packages import Array, operations, overwrite


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
        if parameter in {key for o in operations(path) if o.outputs[0].name == name for key in o.attributes}:
            overwrite(path, name, parameter, np.zeros_like)


def _larger_scale(path: Path) -> None:
    """All codes are 0 and the steps so large that half of one reaches everything."""
    name = _names(path)[1]
    overwrite(path, name, "quantized_data", np.zeros_like)
    overwrite(path, name, "scale", lambda scale: scale * 300)


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
    name = next(o.outputs[0].name for o in operations(path) if "body_bias" in o.outputs[0].name)
    overwrite(path, name, "val", lambda bias: bias * 1.01)


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
    ("int8", lambda p: overwrite(p, _names(p)[1], "quantized_data", lambda q: q[::-1]), "half a step"),
    ("int8", lambda p: overwrite(p, _names(p)[3], "quantized_data", lambda q: q[:, ::-1]), "half a step"),
    ("int8", lambda p: overwrite(p, _names(p)[2], "quantized_data", _one_code), "at 1 of"),
    ("int8", lambda p: overwrite(p, _names(p)[1], "scale", lambda s: s * 1.01), "scale"),
    ("int8", lambda p: overwrite(p, _names(p)[1], "scale", lambda s: s * 0.99), "half a step"),
    ("int8", lambda p: overwrite(p, _names(p)[1], "scale", lambda s: s * np.nan), "scale"),
    ("int8", lambda p: overwrite(p, _names(p)[1], "zero_point", lambda z: z + 1), "symmetric"),
    *[
        (
            f"palettized{bits}",
            lambda p, b=bits, c=change: overwrite(p, _names(p)[1], "indices", _indices(c, b)),
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
        (f"palettized{bits}", (lambda p, c=change: overwrite(p, _names(p)[1], "lut", c)), "nearest")
        for bits in (4, 6)
        for change in (lambda t: t[::-1], lambda t: t * 1.05, lambda t: np.where(t == t.max(), 0, t))
    ],
    ("palettized4", lambda p: overwrite(p, _names(p)[1], "lut", lambda t: t * np.nan), "finite"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("units", "fault"), [(0, None), (1, None), (2, "has a scale larger"), (-20, "is off by more")]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scale_is_as_small_as_float16_allows(axis: int, units: int, fault: str | None) -> None:
    """One unit more than the nearest is allowed: the nearest may not reach the channel's largest weight."""
    values = np.random.default_rng(4).standard_normal((16, 16, 3, 3)).astype(np.float16).astype(np.float32)
    weight = Weight(values, axis)
    others = tuple(other for other in range(4) if other != axis)
    scale = (np.abs(values).max(others) / 127).astype(np.float16)
    for _ in range(abs(units)):
        scale = np.nextafter(scale, np.float16(np.inf if units > 0 else 0))
    codes = np.rint(values / np.expand_dims(scale.astype(np.float64), others)).clip(-127, 127)
    form = {
        **compressed(weight, "int8").parameters,
        "scale": scale.astype(np.float32),
        "quantized_data": codes.astype(np.int8),
    }
    found = _int8_fault(form, weight)
    print(found)
    assert found is None if fault is None else fault in (found or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda form: form.update(axis=np.array(1)),
        lambda form: form.update(axis=np.array([0])),
        lambda form: form.pop("axis"),
        lambda form: form.update(quantized_data=form["quantized_data"].astype(np.int16)),
        lambda form: form.update(quantized_data=form["quantized_data"].swapaxes(0, 1)),
        lambda form: form.update(scale=form["scale"][:1]),
        lambda form: form.update(scale=form["scale"][0]),
        lambda form: form.update(zero_point=form["zero_point"][:1]),
        lambda form: form["zero_point"].put(3, 1),
    ],
    ids=["axis", "axes", "no axis", "type", "shape", "one scale", "a scalar", "one zero", "a zero point"],
)
def test_every_part_of_int8_is_checked(change: Callable[[dict[str, Array]], object]) -> None:
    values = np.random.default_rng(4).standard_normal((16, 8, 3, 3)).astype(np.float16).astype(np.float32)
    values[5] = 0.0  # any scale will do
    weight = Weight(values, 0)
    form = dict(compressed(weight, "int8").parameters)
    assert _int8_fault(form, weight) is None
    assert _int8_fault({**form, "scale": np.where(np.arange(16) == 5, 9.0, form["scale"])}, weight) is None
    nothing = np.where(np.arange(16) == 5, 0.0, form["scale"])
    assert "scale" in (_int8_fault({**form, "scale": nothing}, weight) or "")
    change(form)
    assert _int8_fault(form, weight) == "is not symmetric int8 with a scale for each of 16 channels"


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
    inner = [weight for weight in weights_of(read_package(small)).values() if not weight.outermost]
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
        for operation in operations(tmp_path / "palettized6.mlpackage")
        if operation.type.startswith("constexpr_")
    }
    outermost = {name for name, kind in stored.items() if kind == "constexpr_affine_dequantize"}
    assert {name for name, weight in weights_of(read_package(udc)).items() if weight.outermost} == outermost
    layers = {name.removeprefix("p_module_network_").removesuffix("_weight_to_fp16") for name in outermost}
    assert layers == {"encoder_stem", "head_0", "gain_head_0"}  # the last two: the change, and its gain
    assert len(stored) > 15


def test_another_network_is_found(small: Path, forms: dict[str, Path], udc: Path) -> None:
    assert "operators and constants" in compression_faults(udc, forms["int8"], "int8")[-1]


@pytest.mark.parametrize("more", ["a function", "a block"])
def test_a_package_of_more_than_one_graph_is_refused(
    small: Path, forms: dict[str, Path], more: str, tmp_path: Path
) -> None:
    def add(model: Any) -> None:
        functions = model.mlProgram.functions
        if more == "a function":
            functions["other"].CopyFrom(functions["main"])
        else:
            functions["main"].block_specializations["CoreML6"].operations[0].blocks.add()

    path = Path(shutil.copytree(forms["int8"], tmp_path / "two.mlpackage"))
    _edit(path, add)
    with pytest.raises(UserError, match=r"two\.mlpackage: got several functions or blocks"):
        compression_faults(small, path, "int8")


def test_a_package_that_cannot_be_read_is_one_line(
    small: Path, forms: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(forms["int8"], tmp_path / "cut.mlpackage"))
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut\.mlpackage: a tensor record at byte"):
        compression_faults(small, path, "int8")


# What cannot be compressed
