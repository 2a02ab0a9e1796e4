"""A float16 Core ML package -> the same graph with smaller weights: int8, palettes of 64 or 16 values, or a mixture.

    compress(Path("reflection_float16.mlpackage"), "palettized6", Path("reflection_palettized6.mlpackage"))
    faults = compression_faults(original, compressed, "palettized6")    # []: only weights changed, and those rightly

    plan = plan_mixed(original, pictures, truths, budget=0.3)           # weight name -> representation
    compress(original, "mixed", out, plan)

The package is rewritten operator by operator: a weight's `const` becomes the `constexpr_*` operator that expands it,
under the same name, and everything else stays as it is. coremltools.optimize takes the program apart and builds it
anew, which takes ten times as long and leaves more to be proved; tests hold both against each other. All forms are
those of iOS 16. Palettes of a few channels each, which cost half the error, would need iOS 18.

A phone expands the weights to float16 again. What shrinks is the download and, where the device expands them as it
computes, the traffic with its memory; nothing here makes the arithmetic itself cheaper.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.mil.compressed import constexpr_affine_dequantize, constexpr_lut_to_dense
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import DATA_TYPES, Package, read_package, unpack_bits
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

Array = NDArray[Any]
Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]

REPRESENTATIONS = ("palettized4", "palettized6", "int8", "float16")
"""What a weight can be stored as, the smallest first."""

COMPRESSED_VARIANTS = ("int8", "palettized6", "palettized4", "mixed")

THRESHOLD = 2048
"""Constants of fewer values stay float16, as in coremltools.

That leaves out the biases, whose errors shift whole pictures, and little else: of the reflection network 1 %, which
palettes, padding and records would mostly eat up again.
"""

ASSUMED_QUALITY = 30.0
"""dB against the truth that a network is taken to reach where no truth is given.

Restoring real damage it reaches less, and then the same error costs less than planned.
"""

MEASURED_PICTURES = 4  # a weight's sensitivity is measured on so many; the whole plan on all of them

_BITS = {"palettized6": 6, "palettized4": 4}
_READERS = {
    "conv": 0,
    "linear": 0,
    "conv_transpose": 1,
}  # operators with a weight, and its axis of output channels
_WEIGHT_FILE = "@model_path/weights/weight.bin"
_TYPE_NUMBERS = {entry.name: number for number, entry in DATA_TYPES.items()}


@dataclass(frozen=True)
class Weight:
    """A float16 constant that can be compressed."""

    values: NDArray[np.float32]
    axis: int  # of the output channels
    outermost: bool = False  # no layer before it, or none behind it


def representation(variant: str, weight: Weight) -> str:
    """How a variant stores a weight: palettes spare the first layers and the last ones, which get int8.

    Their errors are the picture's own. Of the under-display network they are 3 % of the weights, and with them in
    palettes of 64 the pictures lost 1.3 dB, without 0.0.
    """
    return "int8" if weight.outermost and variant in _BITS else variant


@dataclass(frozen=True)
class Form:
    """A weight as an operator `constexpr_*` holds it."""

    operator: str
    parameters: dict[str, Array]  # in the types of the file: int8, uint8, uint32, int32, float16

    def expanded(self) -> NDArray[np.float32]:
        """The weight that the operator computes, rounded to float16."""
        given = {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in self.parameters.items()
        }
        expand = constexpr_lut_to_dense if "lut" in given else constexpr_affine_dequantize
        return np.asarray(expand(**given)).astype(np.float16).astype(np.float32)

    def size(self) -> int:
        """Bytes in the weight file, with the records."""
        return sum(
            64 + -(-p.nbytes // 64) * 64
            for name, p in self.parameters.items()
            if name not in ("shape", "axis")
        )


def compress(package: Path, variant: str, out: Path, plan: Mapping[str, str] | None = None) -> None:
    """Write a compressed copy of a float16 package of `convert_coreml` to `out`; an older one there is replaced.

    Args:
        package: stays as it is.
        variant: one of `COMPRESSED_VARIANTS`.
        out: the new package. The same weights give the same bytes.
        plan: for `mixed`, one of `REPRESENTATIONS` for each weight of `weights_of`.

    Raises UserError for a package that cannot be read, has no weights to compress or one that is not finite.
    """
    if variant not in COMPRESSED_VARIANTS or (plan is None) == (variant == "mixed"):
        raise ValueError(
            f"variant {variant!r}, expected one of {COMPRESSED_VARIANTS}, and a plan for mixed only"
        )
    source = read_package(package)
    weights = _weights(source)
    chosen = {name: representation(variant, weight) for name, weight in weights.items()}
    if plan is not None:
        chosen = dict(plan)
    if set(chosen) != set(weights) or not set(chosen.values()) <= set(REPRESENTATIONS):
        unknown = sorted(set(chosen) ^ set(weights)) or sorted(set(chosen.values()) - set(REPRESENTATIONS))
        raise ValueError(f"the plan is of another package: {unknown[0]!r}")
    _rewrite(
        source,
        {name: compressed(weights[name], kind) for name, kind in chosen.items() if kind != "float16"},
        out,
    )


def compress_and_check(package: Path, variant: str, out: Path, plan: Mapping[str, str] | None = None) -> None:
    """`compress`, and UserError too where `compression_faults` finds something wrong with what was written."""
    compress(package, variant, out, plan)
    faults = compression_faults(package, out, variant)
    if faults:
        raise UserError(f"{out.name}: was compressed wrongly: {faults[0]}; this is a bug, please report it")


def weights_of(package: Path) -> dict[str, Weight]:
    """The weights that `compress` compresses, by name: of convolutions and linear layers, `THRESHOLD` values or more.

    Raises UserError like `compress`.
    """
    return _weights(read_package(package))


def compressed(weight: Weight, representation: str) -> Form:
    """A weight as int8 or as a palette."""
    if representation == "int8":
        return _int8(weight)
    palette, indices = palettize(weight.values, _BITS[representation])
    return Form(
        "constexpr_lut_to_dense",
        {
            "indices": pack_bits(indices, _BITS[representation]),
            "lut": palette,
            "shape": np.array(weight.values.shape, np.uint32),
        },
    )


def _int8(weight: Weight) -> Form:
    """Linear, symmetric, a scale for each output channel: -127 to 127 reach from end to end."""
    others = tuple(axis for axis in range(weight.values.ndim) if axis != weight.axis)
    largest = np.abs(weight.values.astype(np.float64)).max(others)
    scale = (largest / 127).astype(np.float16)
    # Rounded up, or the largest weights of a channel whose scale is tiny in float16 could not be reached.
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


def palettize(values: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """k-means of the values -> 2^bits of them in float16, ascending, and for each value the number of the nearest.

    Lloyd's iteration on sorted values, where a cluster is a range and its mean a difference of running sums: a weight
    takes milliseconds, and no chance is involved. Then, as long as that helps, a cluster that is worth splitting gets
    the entry of two neighbours that are better merged. Dynamic programming, which finds the optimum, takes far longer.
    """
    flat = values.reshape(-1).astype(np.float64)
    levels, counts = np.unique(flat, return_counts=True)
    entries = 1 << bits
    if len(levels) <= entries:
        best = np.concatenate([levels, np.repeat(levels[-1:], entries - len(levels))])
    else:
        best, error = _lloyd(levels, counts, _by_density(levels, counts, entries))
        for _ in range(2 * entries):
            moved, less = _lloyd(levels, counts, _with_one_moved(levels, counts, best))
            if not less < error * (1 - 1e-4):
                break
            best, error = moved, less
    palette = best.astype(np.float16)
    return palette, _nearest(palette, flat).astype(np.uint8)


def _clusters(levels: Array, counts: Array, edges: Array) -> tuple[Array, Array, Array]:
    """Members, mean and squared error of the ranges between edges; an empty one has mean NaN."""
    sums = [np.diff(np.concatenate([[0.0], np.cumsum(counts * levels**power)])[edges]) for power in (0, 1, 2)]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[1] / sums[0]
        return sums[0], mean, np.where(sums[0] > 0, np.maximum(sums[2] - sums[1] * mean, 0.0), 0.0)


def _edges(levels: Array, palette: Array) -> Array:
    return np.concatenate([[0], np.searchsorted(levels, (palette[1:] + palette[:-1]) / 2), [len(levels)]])


def _lloyd(levels: Array, counts: Array, palette: Array, limit: int = 500) -> tuple[Array, float]:
    """Moves a palette's entries to the means of the values nearest to them until nothing changes; and the error."""
    number = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * levels)])
    before = None
    for _ in range(limit):
        edges = _edges(levels, palette)
        if before is not None and np.array_equal(edges, before):
            break
        before = edges
        members = np.diff(number[edges])
        palette = np.where(members > 0, np.diff(total[edges]) / np.maximum(members, 1), palette)
    return palette, float(_clusters(levels, counts, _edges(levels, palette))[2].sum())


def _with_one_moved(levels: Array, counts: Array, palette: Array) -> Array:
    """The palette with the cluster split at its mean that gains most, and the two neighbours merged that lose least."""
    edges = _edges(levels, palette)
    members, mean, error = _clusters(levels, counts, edges)
    middle = np.searchsorted(levels, np.nan_to_num(mean)).clip(edges[:-1], edges[1:])
    halves = np.insert(edges, np.arange(1, len(edges)), middle)
    _, half_means, half_errors = _clusters(levels, counts, halves)
    gain = error - half_errors.reshape(-1, 2).sum(1)
    split = int(np.argmax(gain))
    with np.errstate(invalid="ignore"):
        loss = members[1:] * members[:-1] / (members[1:] + members[:-1]) * np.diff(mean) ** 2
    loss = np.nan_to_num(loss)  # an empty cluster is free
    loss[max(split - 1, 0) : split + 1] = np.inf
    merged = int(np.argmin(loss))
    parts = half_means.reshape(-1, 2)[split]
    if not gain[split] > loss[merged] or not np.isfinite(parts).all():
        return palette
    both = members[merged : merged + 2]
    joined = (
        np.average(np.nan_to_num(mean[merged : merged + 2]), weights=both) if both.any() else palette[merged]
    )
    kept = np.delete(palette, [split, merged, merged + 1])
    return np.sort(np.concatenate([kept, parts, [joined]]))


def _by_density(levels: Array, counts: Array, entries: int) -> Array:
    """Entries as dense as the cube root of the values' density: the optimum of many entries (Panter and Dite 1951)."""
    number = np.concatenate([[0], np.cumsum(counts)])
    # Pieces of as many values each: so a long tail does not blur the middle.
    ends = np.searchsorted(number, np.linspace(0, number[-1], 32 * entries + 1))
    ends = np.unique(ends.clip(0, len(levels) - 1))
    share = np.cbrt(np.diff(number[ends]) * np.diff(levels[ends]) ** 2)  # density^(1/3) times width
    running = np.concatenate([[0], np.cumsum(share)])
    return np.interp((np.arange(entries) + 0.5) / entries * running[-1], running, levels[ends])


def _nearest(palette: Array, flat: Array) -> NDArray[np.intp]:
    """For each value the number of the nearest entry of an ascending palette."""
    entries = palette.astype(np.float64)
    return np.searchsorted((entries[1:] + entries[:-1]) / 2, flat)


def pack_bits(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Values of so many bits each, the least significant bit first, without gaps: what `unpack_bits` undoes."""
    planes = np.right_shift(values.reshape(-1, 1), np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(-1).astype(np.uint8), bitorder="little")


# Reading and writing packages


def _block(package: Package) -> Any:
    """The one block of the one function of a package of `convert_coreml`."""
    functions = list(package.model.mlProgram.functions.values())
    blocks = [block for function in functions for block in function.block_specializations.values()]
    if len(blocks) != 1 or any(operation.blocks for operation in blocks[0].operations):
        raise UserError(
            f"{package.path}: got several functions or blocks, expected a plain graph; convert again"
        )
    return blocks[0]


def _weights(package: Package) -> dict[str, Weight]:
    axes: dict[str, int] = {}
    block = _block(package)
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
    if not weights:
        raise UserError(
            f"{package.path}: no float16 weight of {THRESHOLD} values or more to compress; ship it as it is"
        )
    return weights


def _outermost(block: Any, weights: Mapping[str, Weight]) -> set[str]:
    """Names of the weights of layers that no other such layer feeds, or that feed none."""
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


@dataclass
class _WeightFile:
    """A weight file of version 2 in the making (see conversion/mil/package.py)."""

    data: bytearray = field(default_factory=lambda: bytearray(64))
    records: int = 0

    def add(self, content: bytes, type_name: str, padding_bits: int = 0) -> int:
        """Append a tensor; its record's offset is returned."""
        offset = len(self.data)
        number = DATA_TYPES[_TYPE_NUMBERS[type_name]].blob
        self.data += struct.pack("<IIQQQ", 0xDEADBEEF, number, len(content), offset + 64, padding_bits)
        self.data += bytes(32) + content
        self.data += bytes(-len(self.data) % 64)
        self.records += 1
        return offset

    def content(self) -> bytes:
        """The whole file."""
        struct.pack_into("<II", self.data, 0, self.records, 2)
        return bytes(self.data)


def _rewrite(source: Package, forms: Mapping[str, Form], out: Path) -> None:
    """Write a package with these weights in these forms."""
    model = type(source.model)()
    model.CopyFrom(source.model)
    file = _WeightFile()
    block = _block(Package(source.path, model, out))
    for operation in block.operations:
        form = forms.get(operation.outputs[0].name) if operation.type == "const" else None
        if form is not None:
            _expand(operation, form, file)
            continue
        for value in _values(operation):
            if value.WhichOneof("value") == "blobFileValue":
                declared = source.tensor_type(value.type)
                content = source.stored(value)
                padding = (
                    8 * len(content) - _count(value) * declared.dtype.bits if declared.dtype.bits < 8 else 0
                )
                value.blobFileValue.offset = file.add(content, declared.dtype.name, padding)
                value.blobFileValue.fileName = _WEIGHT_FILE
    with atomic_path(out) as folder:
        data = folder / "Data" / "com.apple.CoreML"
        (data / "weights").mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(model.SerializeToString(deterministic=True))
        (data / "weights" / "weight.bin").write_bytes(file.content())
        (folder / "Manifest.json").write_bytes((source.path / "Manifest.json").read_bytes())


def _values(operation: Any) -> list[Any]:
    """All values in an operation's attributes and inputs, in a fixed order."""
    values = [operation.attributes[key] for key in sorted(operation.attributes)]
    for key in sorted(operation.inputs):
        values += [b.value for b in operation.inputs[key].arguments if b.WhichOneof("binding") == "value"]
    return values


def _count(value: Any) -> int:
    return int(
        np.prod([dimension.constant.size for dimension in value.type.tensorType.dimensions], dtype=np.int64)
    )


def _expand(operation: Any, form: Form, file: _WeightFile) -> None:
    """Turn a `const` into the operator that expands a compressed weight; name and type stay."""
    operation.type = form.operator
    del operation.attributes["val"]
    for name, array in form.parameters.items():
        value = operation.attributes[name]
        tensor = value.type.tensorType
        tensor.dataType, tensor.rank = _TYPE_NUMBERS[array.dtype.name], array.ndim
        for size in array.shape:
            tensor.dimensions.add().constant.size = size
        if name == "axis":
            value.immediateValue.tensor.ints.values.append(int(array))
        elif name == "shape":
            value.immediateValue.tensor.bytes.values = array.astype("<u4").tobytes()
        else:
            little = array.astype(array.dtype.newbyteorder("<"))
            value.blobFileValue.fileName = _WEIGHT_FILE
            value.blobFileValue.offset = file.add(little.tobytes(), array.dtype.name)


# Proof


def compression_faults(original: Path, compressed: Path, variant: str) -> list[str]:
    """What is wrong with a compressed package, one line each; none where only weights changed, and those rightly.

    Everything but the weights must be the same: operators and their order, names, types, other constants, description.
    A weight must have the variant's form (of `mixed`, any), and each of its values must be as near to the original as
    that form allows: within half a step of int8, whose steps may not be larger than needed; the nearest entry of the
    palette, which may not do worse than evenly spaced entries.

    Raises UserError where a package cannot be read.
    """
    before, after = read_package(original), read_package(compressed)
    weights = _weights(before)
    old, new = list(_block(before).operations), list(_block(after).operations)
    faults = []
    if _without_operations(before) != _without_operations(after):
        faults.append("the description, the inputs or the outputs differ from the original's")
    if len(old) != len(new):
        return [*faults, f"{len(new)} operators and constants, the original has {len(old)}"]
    for one, other in zip(old, new, strict=True):
        name = one.outputs[0].name if one.outputs else one.type
        if name not in weights or other.type == "const":
            if _content(before, one) != _content(after, other):
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
    del _block(Package(package.path, model, package.path)).operations[:]
    return bytes(model.SerializeToString(deterministic=True))


def _content(package: Package, operation: Any) -> tuple[bytes, list[bytes]]:
    """An operation with all its values, wherever in the weight file they lie."""
    plain = type(operation)()
    plain.CopyFrom(operation)
    for value in _values(plain):
        if value.WhichOneof("value") == "blobFileValue":
            value.blobFileValue.Clear()
    stored = [package.stored(v) for v in _values(operation) if v.WhichOneof("value") == "blobFileValue"]
    return bytes(plain.SerializeToString(deterministic=True)), stored


def _weight_fault(package: Package, operation: Any, weight: Weight, variant: str) -> str | None:
    """What is wrong with one compressed weight."""
    found = {name: package.value(value) for name, value in operation.attributes.items() if name != "name"}
    wanted = [kind for kind in REPRESENTATIONS[:-1] if variant in (kind, "mixed")]
    if operation.type == "constexpr_affine_dequantize" and "int8" in wanted:
        return _int8_fault(found, weight)
    if operation.type != "constexpr_lut_to_dense" or not set(wanted) - {"int8"}:
        return f"is stored by {operation.type}, expected {' or '.join(wanted)}"
    if set(found) != {"indices", "lut", "shape"} or list(found["shape"]) != list(weight.values.shape):
        return "has another shape"
    entries = [1 << _BITS[kind] for kind in wanted if kind != "int8"]
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
    nearest = np.abs(ascending[_nearest(ascending, flat)] - flat)
    if not (error <= nearest).all():
        return f"has {np.count_nonzero(error > nearest)} of {flat.size} values that are not the palette's nearest"
    evenly = np.linspace(flat.min(), flat.max(), palette.size).astype(np.float16)
    limit = np.square(evenly[_nearest(evenly, flat)] - flat).sum()
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
        int(found.get("axis", -1)) != weight.axis
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


# Which weight as what


def plan_mixed(
    package: Path,
    pictures: Sequence[Mapping[str, Picture]],
    truths: Sequence[Picture] | None = None,
    budget: float = 0.3,
) -> dict[str, str]:
    """Which representation each weight gets, so that the pictures lose at most `budget` dB and the file is small.

    What a weight costs the pictures is measured: the program runs with only this one in its smallest form, in float32
    arithmetic, and only what depends on it is computed again. What its larger forms cost is inferred: as much less as
    their squared error is smaller. One price of squared error then decides for all weights which form is worth its
    bytes (Shoham and Gersho 1988), and the price is lowered as far as the pictures allow, measured with all weights
    compressed at once: errors of many layers do not simply add up.

    Args:
        package: float16, of `convert_coreml`.
        pictures: (H, W, 3) by input name, of the package's size: a few real ones, of the kind that the network is for.
        truths: for each picture, what the first output should be; the loss is then how much further from that it gets.
            The other outputs, and the first where there are no truths, are taken to be `ASSUMED_QUALITY` dB from it.
        budget: dB, more than 0, of the mean over the pictures; the output that loses most counts (see `lost`).

    Returns: one of `REPRESENTATIONS` by weight name. Other pictures may lose more.

    Raises UserError for a package that cannot be read or has no weights to compress.
    """
    if budget <= 0 or not pictures or (truths is not None and len(truths) != len(pictures)):
        raise ValueError(
            f"budget {budget}, {len(pictures)} pictures, {None if truths is None else len(truths)} truths"
        )
    program = MilProgram.load(package)
    weights = weights_of(package)
    forms = {
        name: {kind: compressed(weight, kind) for kind in REPRESENTATIONS[:-1]}
        for name, weight in weights.items()
    }
    expanded = {name: {kind: form.expanded() for kind, form in own.items()} for name, own in forms.items()}
    sizes = {
        name: {
            **{kind: form.size() for kind, form in own.items()},
            "float16": 64 + 2 * weights[name].values.size,
        }
        for name, own in forms.items()
    }
    levels = [_levels(picture) for picture in pictures]
    exact = [_run(program, picture) for picture in levels]
    step = -(-len(levels) // MEASURED_PICTURES)
    costs = _costs(program, levels[::step], exact[::step], weights, expanded)

    def plan_at(price: float) -> dict[str, str]:
        """The best trade for every weight if a unit of squared error is worth so many bytes."""
        return {
            name: min(REPRESENTATIONS, key=lambda kind: sizes[name][kind] + price * costs[name][kind])
            for name in weights
        }

    def loss(plan: Mapping[str, str]) -> float:
        changed = {name: expanded[name][kind] for name, kind in plan.items() if kind != "float16"}
        return lost([_run(program, picture, changed) for picture in levels], exact, truths)

    return cheapest(plan_at, loss, budget)


def cheapest(
    plan_at: Callable[[float], dict[str, str]], loss: Callable[[Mapping[str, str]], float], budget: float
) -> dict[str, str]:
    """A plan of a low price whose loss is within the budget, by bisection; of the highest if there is none.

    The loss falls as the price rises, but for small bumps: the lowest price that keeps the budget may be missed by one.
    """
    # Exponents of ten of the price; at the ends all weights are as small as possible, and all exact.
    low, high = 0.0, 20.0
    worst, best = plan_at(10**low), plan_at(10**high)
    if loss(worst) <= budget:
        return worst
    while high - low > 0.02:
        middle = (low + high) / 2
        plan = plan_at(10**middle)
        if plan == best or (plan != worst and loss(plan) <= budget):
            high, best = middle, plan
        else:
            low, worst = middle, plan
    return best


def lost(
    outputs: Sequence[Mapping[str, Picture]],
    exact: Sequence[Mapping[str, Picture]],
    truths: Sequence[Picture] | None,
) -> float:
    """dB that pictures lose by compression: the mean over the pictures, of the output that loses most.

    Nobody may count on errors that happen to cancel each other: a picture loses no less than if what compression
    changes had nothing to do with what the network had left wrong.
    """
    drops = []
    for place, name in enumerate(exact[0]):
        rows = []
        for index, (got, reference) in enumerate(zip(outputs, exact, strict=True)):
            changed = _error(got[name], reference[name])
            if truths is not None and place == 0:
                left = _error(reference[name], truths[index])
                wrong = max(_error(got[name], truths[index]), left + changed)
            else:
                left = 10 ** (-ASSUMED_QUALITY / 10)
                wrong = left + changed
            rows.append(10 * np.log10(wrong / max(left, 1e-10)))
        drops.append(float(np.mean(rows)))
    return max(drops)


def _costs(
    program: MilProgram,
    levels: Sequence[Mapping[str, Array]],
    exact: Sequence[Mapping[str, Picture]],
    weights: Mapping[str, Weight],
    expanded: Mapping[str, Mapping[str, NDArray[np.float32]]],
) -> dict[str, dict[str, float]]:
    """Squared error of the pictures, the mean over pictures and outputs, by weight and its form."""
    smallest = REPRESENTATIONS[0]
    measured = dict.fromkeys(weights, 0.0)
    for picture, reference in zip(levels, exact, strict=True):
        known = _all_values(program, picture)
        for name in weights:
            got = _run(program, picture, {name: expanded[name][smallest]}, known)
            measured[name] += float(np.mean([_error(got[port], reference[port]) for port in reference]))
    costs = {}
    for name, weight in weights.items():
        errors = {
            kind: float(np.square(values - weight.values).sum()) for kind, values in expanded[name].items()
        }
        each = measured[name] / len(levels) / max(errors[smallest], 1e-30)
        costs[name] = {**{kind: each * error for kind, error in errors.items()}, "float16": 0.0}
    return costs


def _all_values(program: MilProgram, picture: Mapping[str, Array]) -> dict[str, Array]:
    values: dict[str, Array] = {}
    program.run(picture, round_storage=False, on_value=lambda name, _, value: values.update({name: value}))
    return values


def _run(
    program: MilProgram,
    picture: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    known: Mapping[str, Array] | None = None,
) -> dict[str, Picture]:
    """(H, W, 3) in [0, 1] by output name."""
    outputs = program.run(picture, round_storage=False, eight_bit=False, constants=constants, known=known)
    return {name: np.divide(value, np.float32(255), dtype=np.float32) for name, value in outputs.items()}


def _levels(picture: Mapping[str, Picture]) -> dict[str, Array]:
    return {
        name: np.rint(np.clip(value, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
        for name, value in picture.items()
    }


def _error(got: Picture, wanted: Picture) -> float:
    return float(np.square(got.astype(np.float64) - wanted).mean())
