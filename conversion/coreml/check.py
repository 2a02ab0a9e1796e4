"""Proves that a compressed Core ML package differs from the float16 one in its weights only, each rightly compressed.

    compress_and_check(original, "palettized6", Path("reflection_palettized6.mlpackage"))
    faults = compression_faults(original, compressed, "palettized6")    # []: no fault

No picture is needed: graphs are compared operator by operator, the weights value by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.coreml.compress import (
    BITS,
    REPRESENTATIONS,
    Weight,
    compress,
    representation,
    weights_of,
)
from afterlens.conversion.coreml.palettes import nearest
from afterlens.conversion.coreml.weight_file import content_of, plain_block
from afterlens.conversion.mil.package import Package, read_package, unpack_bits
from afterlens.training.media.errors import UserError

Array = NDArray[Any]


def compress_and_check(package: Path, variant: str, out: Path, plan: Mapping[str, str] | None = None) -> None:
    """`compress`, then check what was written; UserError also for anything that `compression_faults` finds."""
    compress(package, variant, out, plan)
    faults = compression_faults(package, out, variant)
    if faults:
        raise UserError(f"{out.name}: was compressed wrongly: {faults[0]}; this is a bug, please report it")


def compression_faults(original: Path, compressed: Path, variant: str) -> list[str]:
    """Faults of a compressed package, one line each; none if only weights changed, each as its form allows.

    Everything but the weights must be the same: operators and their order, names, types, other constants, description.
    A weight must have the variant's form (for `mixed`, any form), and each value must be as close to the original as
    that form allows. int8: within half a step, and steps no larger than needed. Palettes: the nearest entry, and a
    squared error no worse than that of evenly spaced entries.

    Raises UserError where a package cannot be read.
    """
    before, after = read_package(original), read_package(compressed)
    weights = weights_of(before)
    old, new = list(plain_block(before).operations), list(plain_block(after).operations)
    faults = []
    if _without_operations(before) != _without_operations(after):
        faults.append("the description, the inputs or the outputs differ from the original's")
    if len(old) != len(new):
        return [*faults, f"{len(new)} operators and constants, the original has {len(old)}"]
    for one, other in zip(old, new, strict=True):
        name = one.outputs[0].name if one.outputs else one.type
        if name not in weights or other.type == "const":
            if content_of(before, one) != content_of(after, other):
                faults.append(f"{name!r} ({one.type}) is not the original's")
            elif name in weights and variant != "mixed":
                expected = representation(variant, weights[name])
                faults.append(f"weight {name!r} is stored as float16, expected {expected}")
            continue
        if list(one.outputs) != list(other.outputs):
            faults.append(f"weight {name!r} has another name or type")
            continue
        fault = _weight_fault(after, other, weights[name], representation(variant, weights[name]))
        if fault is not None:
            faults.append(f"weight {name!r} {fault}")
    return faults


def _without_operations(package: Package) -> bytes:
    model = type(package.model)()
    model.CopyFrom(package.model)
    del plain_block(Package(package.path, model, package.path)).operations[:]
    return bytes(model.SerializeToString(deterministic=True))


def _weight_fault(package: Package, operation: Any, weight: Weight, variant: str) -> str | None:
    """What is wrong with one compressed weight, or None."""
    found = {name: package.value(value) for name, value in operation.attributes.items() if name != "name"}
    wanted = [kind for kind in REPRESENTATIONS[:-1] if variant in (kind, "mixed")]
    if operation.type == "constexpr_affine_dequantize" and "int8" in wanted:
        return _int8_fault(found, weight)
    if operation.type != "constexpr_lut_to_dense" or not set(wanted) - {"int8"}:
        return f"is stored by {operation.type}, expected {' or '.join(wanted)}"
    if set(found) != {"indices", "lut", "shape"} or not np.array_equal(found["shape"], weight.values.shape):
        return "has another shape"
    entries = [1 << BITS[kind] for kind in wanted if kind != "int8"]
    palette = np.asarray(found["lut"], np.float64)
    if palette.ndim != 1 or palette.size not in entries or not np.isfinite(palette).all():
        return (
            f"has a palette of shape {palette.shape}, expected {' or '.join(map(str, entries))} finite values"
        )
    bits = int(palette.size).bit_length() - 1
    if found["indices"].dtype != np.uint8 or found["indices"].shape != (-(-weight.values.size * bits // 8),):
        return f"has {found['indices'].size} bytes of indices, expected {bits} bits for each of {weight.values.size}"
    flat = weight.values.reshape(-1).astype(np.float64)
    error = np.abs(palette[unpack_bits(found["indices"], bits, flat.size)] - flat)
    ascending = np.sort(palette)
    least = np.abs(ascending[nearest(ascending, flat)] - flat)
    if not (error <= least).all():
        return (
            f"has {np.count_nonzero(error > least)} of {flat.size} values that are not the palette's nearest"
        )
    evenly = np.linspace(flat.min(), flat.max(), palette.size).astype(np.float16)
    limit = np.square(evenly[nearest(evenly, flat)] - flat).sum()
    if np.square(error).sum() > 1.01 * limit:
        return (
            f"has a relative RMS error of {_relative(error, flat):.3g}, "
            f"an evenly spaced palette has {np.sqrt(limit / np.square(flat).sum()):.3g}"
        )
    return None


def _int8_fault(found: Mapping[str, Any], weight: Weight) -> str | None:
    channels = weight.values.shape[weight.axis]
    codes, scale, zero = (
        np.asarray(found.get(name, 0)) for name in ("quantized_data", "scale", "zero_point")
    )
    if (
        not np.array_equal(found.get("axis", -1), weight.axis)  # a vector of axes is no axis
        or codes.dtype != np.int8
        or codes.shape != weight.values.shape
        or scale.shape != (channels,)
        or zero.shape != (channels,)
        or zero.any()
    ):
        return f"is not symmetric int8 with a scale for each of {channels} channels"
    others = tuple(axis for axis in range(weight.values.ndim) if axis != weight.axis)
    steps = scale.astype(np.float64)
    largest = np.abs(weight.values.astype(np.float64)).max(others)
    # One unit of float16 more than the smallest scale that reaches the largest weight.
    allowed = np.nextafter((largest / 127).astype(np.float16), np.float16(np.inf)).astype(np.float64)
    if not ((steps > 0) & ((steps <= allowed) | (largest == 0))).all():
        return "has a scale larger than its channel's weights need"
    wide = np.expand_dims(steps, others)
    error = np.abs(codes * wide - weight.values)
    if not (error <= wide * 0.5000001).all():
        return f"is off by more than half a step at {np.count_nonzero(error > wide * 0.5000001)} of {codes.size} values"
    return None


def _relative(error: Array, flat: Array) -> float:
    return float(np.sqrt(np.square(error).sum() / max(np.square(flat).sum(), 1e-30)))
