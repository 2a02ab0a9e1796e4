"""What phones' accelerators may not take in a bundle's files, and how near its values come to the ends of float16.

    report = lint(Path("build/bundle"), [Path("room.jpg")], fail_on=["fallback", "range"])
    for finding in report["findings"]:
        print(finding["severity"], finding["rule"], finding["message"])

Two kinds of findings: about placement ("inferred": from the saved graphs and what is publicly known, `lint_rules.py`;
nothing ran on a phone), and about ranges ("reference-execution": the Core ML package, run in our own executor). All are
risks. docs/lint.md says what the rules rest on and what they do not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.bundle.contract import Artifact, Bundle, integrity_fault, read_bundle
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.lint.graph import UNKNOWN, Constant, Graph, Node, read_graph
from afterlens.conversion.lint.ranges import (
    INFINITE_FROM,
    SMALLEST_NORMAL,
    Levels,
    Range,
    measure_ranges,
)
from afterlens.conversion.lint.rules import (
    BY_NAME,
    CATEGORIES,
    COMPARISONS,
    ELEMENTWISE,
    GPU_CUSTOM,
    GPU_OPERATORS,
    ONE_INPUT,
    RULES,
    TWO_INPUTS,
    Rule,
)
from afterlens.conversion.verify.verify import extreme_pictures
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import fit, read_photo
from afterlens.training.media.progress import progress_bar

SUBNORMAL_SHARE = 0.05  # of a tensor's values, from which it is worth a note
WIDE = 1 << 20  # bytes that padding of the last axis must waste to be worth a note
MAX_DIMENSION = 16384
SHOWN_PLACES = 20  # of a finding, in the document
_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Place:
    """Where a rule fired."""

    operator: str
    tensor: str
    layer: str
    detail: str


@dataclass(frozen=True)
class Hit:
    """A rule that fired once."""

    rule: str
    place: Place


def lint(folder: Path, photos: Sequence[Path], *, fail_on: Sequence[str] = ()) -> dict[str, Any]:
    """Check every artifact of a bundle against the rules, and measure its ranges.

    Args:
        folder: a bundle of `convert`.
        photos: real ones, at least one; extreme pictures are made of the first. Cropped and scaled to each size.
        fail_on: names of CATEGORIES whose errors and warnings are to fail; `require` does that.

    Returns: the report, for JSON.

    Raises:
        UserError: for a folder that is no bundle, files that are not the ones that were converted, no photos, and
            unknown categories.
    """
    unknown = [category for category in fail_on if category not in CATEGORIES]
    if unknown:
        raise UserError(f"--fail-on {unknown[0]!r}: expected one of {', '.join(CATEGORIES)}")
    if not photos:
        raise UserError("no photos to measure ranges with, expected at least one")
    bundle = read_bundle(folder)
    for artifact in bundle.contract.artifacts:
        fault = integrity_fault(folder, artifact)
        if fault is not None:
            raise UserError(f"{fault}; convert again")
    graphs = _read_graphs(bundle)
    findings: list[dict[str, Any]] = []
    for artifact in bundle.contract.artifacts:
        check = _gpu_hits if artifact.format == "tflite" else _neural_engine_hits
        graph = graphs[artifact.file]
        hits = [*check(graph), *_constant_hits(graph.constants)]
        findings += _findings(artifact.file, hits, "inferred")
    measured = _measure(bundle, graphs, photos, findings)
    findings.sort(
        key=lambda finding: (_ORDER[finding["severity"]], finding["file"])
    )  # stable: rules in order
    fired = {finding["rule"] for finding in findings}
    return {
        "schema_version": 1,
        "task": bundle.contract.task,
        "version": bundle.contract.version,
        "artifacts": [
            {"file": a.file, "format": a.format, "variant": a.variant, "operators": len(graphs[a.file].nodes)}
            for a in bundle.contract.artifacts
        ],
        "findings": findings,
        "ranges": measured,
        "fail_on": list(fail_on),
        "failed": [
            _line(finding)
            for finding in findings
            if finding["category"] in fail_on and finding["severity"] != "note"
        ],
        "rules": {rule.name: asdict(rule) for rule in RULES if rule.name in fired},
    }


def require(report: Mapping[str, Any]) -> None:
    """GateFailed where a category of `fail_on` has an error or a warning; the message names the first finding."""
    failed = report["failed"]
    if failed:
        raise GateFailed(failed[0] + (f" (and {len(failed) - 1} more findings)" if len(failed) > 1 else ""))


def _read_graphs(bundle: Bundle) -> dict[str, Graph]:
    """By file; Core ML first, since TFLite's layers are told by its weights."""
    artifacts = sorted(
        bundle.contract.artifacts, key=lambda a: (a.format != "coreml", a.variant != "float16")
    )
    graphs: dict[str, Graph] = {}
    named: Mapping[str, Any] = {}
    for artifact in artifacts:
        graphs[artifact.file] = read_graph(bundle.path(artifact), named)
        named = named or graphs[artifact.file].weights
    return graphs


def _findings(file: str, hits: Sequence[Hit], provenance: str) -> list[dict[str, Any]]:
    """One finding for all places of a file where a rule fired on the same type of operator for the same reason."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for hit in hits:
        rule = BY_NAME[hit.rule]
        kind = "" if rule.target == "float16" or hit.rule == "gpu-type" else hit.place.operator
        groups.setdefault((hit.rule, kind), []).append(hit.place)
    order = [rule.name for rule in RULES]
    return [
        {
            "rule": name,
            "target": BY_NAME[name].target,
            "category": BY_NAME[name].category,
            "severity": BY_NAME[name].severity,
            "file": file,
            "message": places[0].detail,
            "count": len(places),
            "places": [asdict(place) for place in places[:SHOWN_PLACES]],
            "provenance": provenance,
            "source": BY_NAME[name].source,
        }
        for (name, _), places in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    ]


def _line(finding: Mapping[str, Any]) -> str:
    place = finding["places"][0]
    more = f" (and {finding['count'] - 1} more places)" if finding["count"] > 1 else ""
    return (
        f"{finding['file']}: {finding['rule']}: {finding['message']}; {place['operator']} {place['tensor']!r}, "
        f"layer {place['layer']}{more}"
    )


def _hit(rule: str, node: Node, detail: str) -> Hit:
    return Hit(rule, Place(node.operator, node.name, node.layer, detail))


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


# TFLite's GPU delegate


def _gpu_hits(graph: Graph) -> Iterator[Hit]:
    by_operator = {
        operator: rule for rule in RULES if rule.target == "TFLite GPU" for operator in rule.operators
    }
    consumers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            consumers.setdefault(tensor.name, []).append(node)
    batch = next((tensor.shape[0] for tensor in graph.inputs if tensor.shape), None)
    for node in graph.nodes:
        operator = node.operator
        rule = by_operator.get(operator)
        if rule is not None:
            yield _hit(rule.name, node, _operator_detail(rule, node))
        elif operator not in GPU_OPERATORS and operator.removeprefix("CUSTOM ") not in GPU_CUSTOM:
            yield _hit("gpu-operator", node, f"{operator} is not an operator that the delegate knows")
        limit = GPU_OPERATORS.get(operator)
        if limit is not None and node.version > limit:
            yield _hit(
                "gpu-version", node, f"{operator} version {node.version}, the delegate takes up to {limit}"
            )
        refusal = _gpu_refusal(node, consumers)
        if refusal is not None:
            yield _hit("gpu-options", node, f"{operator}: {refusal}")
        yield from _gpu_tensor_hits(node, batch)


def _operator_detail(rule: Rule, node: Node) -> str:
    computed = [tensor for tensor in node.inputs if not tensor.constant]
    shapes = [_shape(tensor.shape) for tensor in (*computed[:1], *node.outputs[:1])]
    if rule.category == "layout":
        return f"{node.operator} {' -> '.join(shapes)} moves data"
    return f"{node.operator} {' -> '.join(shapes)}"


def _gpu_tensor_hits(node: Node, batch: int | None) -> Iterator[Hit]:
    """What its tensors' types and shapes say of an operator."""
    operator = node.operator
    moving = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.constant]
    allowed = {"float32", "float16", "int8", "uint8"}
    if operator == "CAST":
        allowed |= {"bool", "int32"}
    if operator in COMPARISONS:
        allowed |= {"bool"}
    if operator == "ONE_HOT":
        allowed |= {"int32"}
    odd = next((tensor for tensor in moving if tensor.dtype not in allowed), None)
    if odd is not None:
        yield _hit("gpu-type", node, f"{operator} on {odd.dtype} values")
    if operator == "QUANTIZE" and any(tensor.dtype in ("int8", "uint8") for tensor in node.outputs):
        yield _hit("gpu-quantized", node, f"{operator} to {node.outputs[0].dtype} becomes rounding")
    tensors = [*moving, *(tensor for tensor in node.inputs if tensor.constant)]
    deep = next((tensor for tensor in tensors if len(tensor.shape) > 4), None)
    if deep is not None:
        yield _hit(
            "gpu-rank", node, f"{operator} on a tensor of rank {len(deep.shape)}, {_shape(deep.shape)}"
        )
    loose = next((tensor for tensor in moving if None in tensor.shape), None)
    if loose is not None:
        yield _hit("gpu-dynamic", node, f"{operator} on a tensor of open shape {_shape(loose.shape)}")
    flat = [tensor for tensor in moving if tensor.shape]
    split = next((t for t in flat if t.shape[0] not in (batch, None)), None)
    if batch is not None and split is not None:
        yield _hit(
            "gpu-batch",
            node,
            f"{operator} on {_shape(split.shape)}, whose first dimension is not the input's {batch}",
        )
    if operator in ("SOFTMAX", "BATCH_MATMUL") and any(len(tensor.shape) == 3 for tensor in moving):
        yield _hit("gpu-rank-3", node, f"{operator} on a tensor of rank 3")
    if operator in ELEMENTWISE:
        ranks = {len(tensor.shape) for tensor in node.inputs if not tensor.constant}
        if len(ranks) > 1:
            yield _hit(
                "gpu-mixed-rank",
                node,
                f"{operator} of ranks {' and '.join(str(rank) for rank in sorted(ranks))}",
            )
        names = [tensor.name for tensor in node.inputs if not tensor.constant]
        if len(names) == 2 and names[0] == names[1] and operator not in ("ADD", "MUL"):
            yield _hit("gpu-identical-inputs", node, f"{operator} of a tensor with itself")
    paddings = np.asarray(node.options.get("paddings", ()))
    if operator == "PAD" and node.inputs and len(node.inputs[0].shape) == 3 and np.any(paddings[:-1]):
        yield _hit("gpu-rank-3-pad", node, "PAD of a rank-3 tensor, not along the last axis alone")


def _gpu_refusal(node: Node, consumers: Mapping[str, Sequence[Node]]) -> str | None:
    """What gpu_compatibility.cc and model_builder.cc would say of an operator's inputs and options."""
    operator, options = node.operator, node.options
    moving = [tensor for tensor in node.inputs if not tensor.constant]
    ranks = [len(tensor.shape) for tensor in node.inputs]
    sides = [tensor.shape for tensor in node.inputs]
    if operator in ONE_INPUT and (len(moving) != 1 or len(node.inputs) != 1):
        return f"expected one computed input, got {len(moving)}"
    if operator in TWO_INPUTS and (len(node.inputs) != 2 or not moving):
        return f"expected two inputs, one of them computed, got {len(node.inputs)} and {len(moving)}"
    if operator in ("ADD", "MUL", "ADD_N") and len(node.inputs) != 2:
        return f"expected two inputs, got {len(node.inputs)}"
    if operator in ("ADD", "MUL") and min(ranks) > 1 and ranks[0] != ranks[1] and not _broadcasts(*sides):
        return f"cannot broadcast {_shape(sides[0])} and {_shape(sides[1])}"
    if operator == "MUL" and ranks[0] == ranks[1] and None not in (*sides[0], *sides[1]):
        smaller = [(a or 0) < (b or 0) for a, b in zip(*sides, strict=True)]
        larger = [(a or 0) > (b or 0) for a, b in zip(*sides, strict=True)]
        if any(smaller) and any(larger):
            return f"neither of {_shape(sides[0])} and {_shape(sides[1])} is the larger in all dimensions"
    if operator in COMPARISONS:
        users = [user for tensor in node.outputs for user in consumers.get(tensor.name, ())]
        if len(users) != 1 or users[0].operator != "CAST":
            return "only in front of a single CAST to float"
    if operator in ("SLICE", "STRIDED_SLICE") and ranks and ranks[0] not in (3, 4):
        return f"supports 3 or 4 dimensions, got {ranks[0]}"
    for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask"):
        if operator == "STRIDED_SLICE" and options.get(mask):
            return f"does not support {mask}"
    if operator == "SOFTMAX" and options.get("beta", 1.0) != 1.0:
        return f"beta {options['beta']:g}, only 1 is supported"
    if operator == "RESIZE_BILINEAR" and options.get("alignCorners") and options.get("halfPixelCenters"):
        return "aligned corners and half-pixel centres at once"
    if operator in ("PAD", "PADV2", "MIRROR_PAD") and len(sides) > 1 and sides[1] not in ((3, 2), (4, 2)):
        return f"paddings of shape {_shape(sides[1])}, expected (3, 2) or (4, 2)"
    if operator == "MIRROR_PAD" and options.get("mode", 0) != 0:
        return "only reflection is supported"
    if operator in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        if axes is None or not axes.constant or axes.dtype != "int32":
            return "the axes must be an int32 constant"
    if operator == "GATHER" and ([t.dtype for t in node.inputs[1:]] != ["int32"] or ranks[1] != 1):
        return "only by a list of int32 indices"
    multiplied = operator == "DEPTHWISE_CONV_2D" and options.get("depthMultiplier", 1) != 1
    if multiplied and sides and sides[0][-1:] != (1,):
        return "a depth multiplier needs an input of one channel"
    if operator == "DEQUANTIZE" and node.inputs and node.inputs[0].dtype == "int16":
        return "unsupported type int16"
    return None


def _broadcasts(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(a == b or 1 in (a, b) or None in (a, b) for a, b in pairs)


# The Neural Engine


def _neural_engine_hits(graph: Graph) -> Iterator[Hit]:
    by_operator = {
        operator: rule for rule in RULES if rule.target == "Neural Engine" for operator in rule.operators
    }
    read = {tensor.name for node in graph.nodes for tensor in node.inputs}
    entrances = {tensor.name for tensor in graph.inputs}
    for tensor in graph.inputs:
        if None in tensor.shape:
            place = Place(
                "input", tensor.name, "input", f"input {tensor.name!r} of open shape {_shape(tensor.shape)}"
            )
            yield Hit("ane-dynamic", place)
    for node in graph.nodes:
        operator = node.operator
        if operator in by_operator:
            rule = by_operator[operator]
            yield _hit(rule.name, node, _operator_detail(rule, node))
        # The casts at the doors: pictures come and go in float32, and nothing can be done about it.
        at_door = operator == "cast" and (
            node.name not in read or any(tensor.name in entrances for tensor in node.inputs)
        )
        if any(tensor.dtype == "float32" for tensor in node.outputs) and not at_door:
            yield _hit("ane-float32", node, f"{operator} is typed float32")
        tensors = [*node.outputs, *(t for t in node.inputs if t.name in entrances)]
        for tensor in tensors:
            shape = tensor.shape
            if len(shape) > 5:
                yield _hit("ane-rank", node, f"{operator} on a tensor of rank {len(shape)}, {_shape(shape)}")
            elif len(shape) == 5:
                yield _hit("ane-rank-5", node, f"{operator} on a tensor of rank 5, {_shape(shape)}")
            if None in shape and tensor.name not in entrances:
                yield _hit("ane-dynamic", node, f"{operator} on a tensor of open shape {_shape(shape)}")
            if max((side or 0 for side in shape), default=0) > MAX_DIMENSION:
                yield _hit("ane-dimension", node, f"{operator} on {_shape(shape)}")
            wasted = _wasted(shape)
            if wasted >= WIDE:
                yield _hit(
                    "ane-last-axis",
                    node,
                    f"{operator} {_shape(shape)} takes {wasted / 1e6:.1f} MB more than it holds",
                )
        dilations = np.asarray(node.options.get("dilations", 1))
        if operator == "conv" and dilations.dtype.kind in "iu" and np.any(dilations > 1):
            yield _hit("ane-dilation", node, f"conv of dilation {dilations.tolist()}")


def _wasted(shape: Sequence[int | None]) -> int:
    """Bytes that float16 values take on top where the last axis is padded to 64 bytes."""
    if not shape or None in shape:
        return 0
    sides = [side or 0 for side in shape]
    rows = int(np.prod(sides[:-1], dtype=np.int64))
    return rows * (-(-sides[-1] * 2 // 64) * 64 - sides[-1] * 2)


# Constants


def _constant_hits(constants: Sequence[Constant]) -> Iterator[Hit]:
    """What becomes of a file's constants in float16; what a float16 file stores has become it already."""
    for constant in constants:
        value = np.abs(constant.value)

        def hit(rule: str, detail: str, constant: Constant = constant) -> Hit:
            return Hit(rule, Place("constant", constant.name, constant.layer, detail))

        infinite = int(np.count_nonzero(~(value < INFINITE_FROM)))
        if infinite and constant.role != "limit":
            yield hit("fp16-constant", f"{infinite} of {value.size} constants do not fit into float16")
        small = int(np.count_nonzero((value < SMALLEST_NORMAL) & (value > 0)))
        lone = value.size == 1
        if lone and (small or (constant.role == "epsilon" and not value.all())):
            number = float(constant.value.reshape(-1)[0])
            lost = "0" if np.float16(number) == 0 else "subnormal"
            yield hit("fp16-epsilon", f"{number:.3g} is {lost} in float16")
        elif not lone and small > SUBNORMAL_SHARE * value.size:
            yield hit(
                "fp16-subnormal", f"{small / value.size:.1%} of {value.size} weights are subnormal in float16"
            )


# Ranges


def _measure(
    bundle: Bundle, graphs: Mapping[str, Graph], photos: Sequence[Path], findings: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Runs one Core ML package of each size; adds to the findings and returns what was measured."""
    sizes: dict[tuple[int, int], list[Artifact]] = {}
    for artifact in bundle.contract.artifacts:
        sizes.setdefault((artifact.height, artifact.width), []).append(artifact)
    measured = []
    with progress_bar() as progress:
        bar = progress.add_task("lint", total=len(sizes) * (len(photos) + 7))
        for (height, width), artifacts in sorted(sizes.items()):
            # Compression moves values by per cents, and the limits are far apart: one variant stands for all.
            packages = sorted(
                (a for a in artifacts if a.format == "coreml"), key=lambda a: a.variant != "float16"
            )
            reason, ranges, names = "no Core ML package of this size in the bundle", [], []
            if packages:
                pictures = _pictures(packages[0], photos)
                names = list(pictures)

                def tick(name: str, label: str = f"lint {width}x{height}") -> None:
                    progress.update(bar, advance=1, description=f"{label} on {name}")

                path = bundle.path(packages[0])
                try:
                    ranges = measure_ranges(path, graphs[packages[0].file], pictures, tick)
                    reason = ""
                except UserError as error:
                    reason = str(error).removeprefix(f"{path}: ")
            file = packages[0].file if packages else artifacts[0].file
            hits = list(_range_hits(ranges))
            if reason:
                hits.append(Hit("fp16-unmeasured", Place("file", file, UNKNOWN, reason)))
            findings += _findings(file, hits, "inferred" if reason else "reference-execution")
            measured.append(
                {
                    "file": file,
                    "width": width,
                    "height": height,
                    "stands_for": [artifact.file for artifact in artifacts],
                    "not_measured": reason or None,
                    "pictures": names,
                    "provenance": "reference-execution",
                    "tensors": [_range_document(range_) for range_ in ranges],
                }
            )
    return measured


def _pictures(artifact: Artifact, photos: Sequence[Path]) -> dict[str, dict[str, Levels]]:
    """Names and inputs: the photos, extreme pictures made of the first one, black and white."""
    levels = {
        str(path): to_levels(fit(read_photo(path).rgb, artifact.height, artifact.width)) for path in photos
    }
    first = next(iter(levels.values()))
    short = {path.name for path in photos}
    named = {
        Path(name).name if len(short) == len(photos) else name: picture for name, picture in levels.items()
    }
    named |= extreme_pictures(first)
    named |= {"black": np.zeros_like(first), "white": np.full_like(first, 255)}
    # As `verify` does: two inputs never get the very same picture.
    return {
        name: {spec.name: picture[:: (-1) ** i] for i, spec in enumerate(artifact.inputs)}
        for name, picture in named.items()
    }


def _range_hits(ranges: Sequence[Range]) -> Iterator[Hit]:
    """Large values in the order of execution, since the first is the cause of others; small ones, the most first."""
    for range_ in ranges:

        def hit(rule: str, detail: str, range_: Range = range_) -> Hit:
            return Hit(rule, Place(range_.operator, range_.tensor, range_.layer, detail))

        if range_.not_finite or range_.overflowing:
            infinite = range_.not_finite + range_.overflowing
            yield hit(
                "fp16-overflow",
                f"{infinite} of {range_.values} values are infinite in float16, largest finite one "
                f"{range_.max_abs:.4g} on {range_.picture}",
            )
        elif range_.high:
            yield hit(
                "fp16-headroom",
                f"largest value {range_.max_abs:.4g} on {range_.picture}, {range_.margin:.1f} times below the end",
            )
        if range_.largest_sum is not None and range_.largest_sum >= INFINITE_FROM:
            yield hit("fp16-sum", f"adds up to {range_.largest_sum:.4g} on the way to {range_.max_abs:.4g}")
    for range_ in sorted(ranges, key=lambda range_: -range_.subnormal_share):
        if range_.subnormal_share > SUBNORMAL_SHARE:
            detail = (
                f"{range_.subnormal_share:.1%} of the values are subnormal in float16, "
                f"{range_.vanishing / range_.values:.1%} become 0"
            )
            yield Hit("fp16-subnormal", Place(range_.operator, range_.tensor, range_.layer, detail))


def _range_document(range_: Range) -> dict[str, Any]:
    return {
        **asdict(range_),
        "margin": range_.margin,
        "subnormal_share": range_.subnormal_share,
    }


# For people
