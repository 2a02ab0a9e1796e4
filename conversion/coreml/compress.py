"""A float16 Core ML package -> the same graph with smaller weights: int8, palettes of 64 or 16 values, or a mixture.

    compress(Path("reflection_float16.mlpackage"), "palettized6", Path("reflection_palettized6.mlpackage"))
    compress(original, "mixed", out, plan)        # plan: weight name -> representation, see plan.py

coremltools.optimize takes the program apart and rebuilds it, which takes ten times as long and leaves more to prove;
the tests compare both. All forms are those of iOS 16. Palettes of a few channels each, which cost half the error,
would need iOS 18.

A phone expands the weights to float16 again. What shrinks is the download and, where the device expands weights as it
computes, memory traffic. The arithmetic does not get cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.variants import VARIANTS
from afterlens.conversion.coreml.palettes import pack_bits, palettize
from afterlens.conversion.coreml.weight_file import Form, plain_block, rewrite
from afterlens.conversion.mil.package import Package, read_package
from afterlens.training.media.errors import UserError

REPRESENTATIONS = ("palettized4", "palettized6", "int8", "float16")
"""What a weight can be stored as, the smallest first."""

COMPRESSED_VARIANTS = tuple(v.name for v in VARIANTS if v.format == "coreml" and not v.is_float)

THRESHOLD = 2048
"""Constants with fewer values stay float16, as in coremltools.

That spares the biases, whose errors shift whole pictures, and little else: 1 % of the reflection network's weights,
a saving that palettes, padding and records would mostly use up.
"""

BITS = {"palettized6": 6, "palettized4": 4}
_READERS = {
    "conv": 0,
    "linear": 0,
    "conv_transpose": 1,
}  # operators with a weight, and its axis of output channels


@dataclass(frozen=True)
class Weight:
    """A float16 constant that can be compressed."""

    values: NDArray[np.float32]
    axis: int  # of the output channels
    outermost: bool = False  # no layer before it, or none after it


def representation(variant: str, weight: Weight) -> str:
    """How a variant stores a weight: palettes spare the first and the last layers, which get int8.

    Their errors appear in the picture directly. In the under-display network they are 3 % of the weights; palettes of
    64 values lost 1.3 dB with them and 0.0 dB without.
    """
    return "int8" if weight.outermost and variant in BITS else variant


def nothing_to_compress(package: Path, variant: str) -> str | None:
    """Why a variant of a package would be no smaller than another one; None where it is worth making."""
    if variant == "float16":
        return None
    weights = _found_weights(read_package(package))
    if not weights:
        return f"no weight has {THRESHOLD} values or more, so it would be the float16 package"
    if variant in BITS and all(weight.outermost for weight in weights.values()):
        return "only the first and the last layers have weights to compress, so it would be the int8 package"
    return None


def compress(package: Path, variant: str, out: Path, plan: Mapping[str, str] | None = None) -> None:
    """Write a compressed copy of a float16 package of `convert_coreml` to `out`, replacing an older one.

    Args:
        package: float16; it is only read.
        variant: one of `COMPRESSED_VARIANTS`.
        out: the new package. The same weights give the same bytes.
        plan: for `mixed`, one of `REPRESENTATIONS` for each weight of `weights_of`.

    Raises UserError for a package that cannot be read, has no weights to compress or a weight that is not finite.
    """
    if variant not in COMPRESSED_VARIANTS or (plan is None) == (variant == "mixed"):
        raise ValueError(
            f"variant {variant!r}, expected one of {COMPRESSED_VARIANTS}, and a plan for mixed only"
        )
    source = read_package(package)
    weights = weights_of(source)
    chosen = {name: representation(variant, weight) for name, weight in weights.items()}
    if plan is not None:
        chosen = dict(plan)
    if set(chosen) != set(weights) or not set(chosen.values()) <= set(REPRESENTATIONS):
        unknown = sorted(set(chosen) ^ set(weights)) or sorted(set(chosen.values()) - set(REPRESENTATIONS))
        raise ValueError(f"the plan is of another package: {unknown[0]!r}")
    rewrite(
        source,
        {name: compressed(weights[name], kind) for name, kind in chosen.items() if kind != "float16"},
        out,
    )


def compressed(weight: Weight, representation: str) -> Form:
    """A weight as int8 or as a palette."""
    if representation == "int8":
        return _int8(weight)
    palette, indices = palettize(weight.values, BITS[representation])
    return Form(
        "constexpr_lut_to_dense",
        {
            "indices": pack_bits(indices, BITS[representation]),
            "lut": palette,
            "shape": np.array(weight.values.shape, np.uint32),
        },
    )


def _int8(weight: Weight) -> Form:
    """Linear, symmetric, a scale for each output channel: -127 to 127 reach from end to end."""
    others = tuple(axis for axis in range(weight.values.ndim) if axis != weight.axis)
    largest = np.abs(weight.values.astype(np.float64)).max(others)
    scale = (largest / 127).astype(np.float16)
    # Rounded up: else a tiny scale, coarse in float16, might not reach the channel's largest weights.
    scale = np.where(scale.astype(np.float64) * 127 < largest, np.nextafter(scale, np.float16(np.inf)), scale)
    scale[largest == 0] = 1
    steps = weight.values / np.expand_dims(scale.astype(np.float64), others)
    return Form(
        "constexpr_affine_dequantize",
        {
            "quantized_data": np.rint(steps).astype(np.int8),
            "zero_point": np.zeros(scale.shape, np.int8),
            "scale": scale,
            "axis": np.array(weight.axis, np.int32),
        },
    )


def weights_of(package: Package) -> dict[str, Weight]:
    """The weights that `compress` compresses, by name: of convolutions and linear layers, `THRESHOLD` values or more.

    Raises UserError like `compress`.
    """
    weights = _found_weights(package)
    if not weights:
        raise UserError(
            f"{package.path}: no float16 weight of {THRESHOLD} values or more to compress; ship it as it is"
        )
    return weights


def _found_weights(package: Package) -> dict[str, Weight]:
    axes: dict[str, int] = {}
    block = plain_block(package)
    for operation in block.operations:
        if operation.type in _READERS:
            for binding in operation.inputs["weight"].arguments:
                axes.setdefault(binding.name, _READERS[operation.type])
    weights = {}
    for operation in block.operations:
        if operation.type != "const" or len(operation.outputs) != 1 or operation.outputs[0].name not in axes:
            continue
        value, name = operation.attributes["val"], operation.outputs[0].name
        if (
            value.WhichOneof("value") != "blobFileValue"
            or package.tensor_type(value.type).dtype.name != "float16"
        ):
            continue
        values = np.asarray(package.value(value), np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{package.path}: weight {name!r} is not finite; train or convert again")
        if values.size >= THRESHOLD and values.ndim > axes[name]:
            weights[name] = Weight(values, axes[name])
    for name in _outermost(block, weights):
        weights[name] = replace(weights[name], outermost=True)
    return weights


def _outermost(block: Any, weights: Mapping[str, Weight]) -> set[str]:
    """Weights of layers that no other layer with weights feeds, or that feed none."""
    inputs = [
        ([a.name for argument in operation.inputs.values() for a in argument.arguments], operation)
        for operation in block.operations
    ]
    behind: set[str] = set()  # values that a layer had part in
    first, last = set(), set()
    for names, operation in inputs:
        own = weights.keys() & set(names)
        if own and not behind & set(names):
            first |= own
        if own or behind & set(names):
            behind |= {output.name for output in operation.outputs}
    before: set[str] = set()  # values that a layer needs
    for names, operation in reversed(inputs):
        needed = bool(before & {output.name for output in operation.outputs})
        own = weights.keys() & set(names)
        if own and not needed:
            last |= own
        if own or needed:
            before |= set(names)
    return first | last
