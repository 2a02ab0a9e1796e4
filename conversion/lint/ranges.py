"""How large the values inside a Core ML package get on real and extreme pictures, and which ones float16 cannot hold.

    for value in measure_ranges(Path("reflection.mlpackage"), {"room.jpg": {"image": levels}}):
        print(value.tensor, value.max_abs, 65504 / value.max_abs)

The package runs in our own executor with float32 arithmetic and without rounding between operators, so that a value
beyond float16 shows as itself and not as the infinities that follow from it. Only counts and extremes are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.lint.finding import Hit, Place
from afterlens.conversion.lint.graph import Graph, Node, Tensor
from afterlens.conversion.mil.interpret import MilProgram

Levels = NDArray[np.uint8]  # (H, W, 3), RGB

LARGEST = 65504.0  # of float16
INFINITE_FROM = 65520.0  # float16 rounds this and more to infinity
HIGH = 3e4
SMALLEST_NORMAL = 2.0**-14  # of float16, 6.1e-5
SMALLEST = 2.0**-25  # float16 rounds this and less to 0
SUBNORMAL_SHARE = 0.05  # of a tensor's values; more is worth a note


@dataclass
class Range:
    """One tensor over all pictures. Counts are of values, summed over the pictures."""

    tensor: str
    operator: str
    layer: str
    dtype: str  # as declared; the GPU and the Neural Engine compute all in float16
    values: int = 0
    max_abs: float = 0.0  # of the finite ones
    picture: str = ""  # that has it
    not_finite: int = 0
    overflowing: int = 0  # float16 stores them as infinity
    high: int = 0  # above 30000
    subnormal: int = 0  # not 0 themselves, subnormal or 0 in float16
    vanishing: int = 0  # of these, 0 in float16
    largest_sum: float | None = None  # behind a mean or an average pool: the sum before the division

    @property
    def margin(self) -> float | None:
        """How many times larger the values could be; None if all are 0."""
        return LARGEST / self.max_abs if self.max_abs else None

    @property
    def subnormal_share(self) -> float:
        """Of all values."""
        return self.subnormal / self.values if self.values else 0.0


def measure_ranges(
    path: Path, graph: Graph, pictures: Mapping[str, Mapping[str, NDArray[Any]]], tick: Any = None
) -> list[Range]:
    """Run a package on pictures; ranges in the order of execution. Raises UserError if our executor cannot run it.

    Args:
        graph: of the same package; names the layers.
        pictures: by name, images (H, W, 3) uint8 and arrays with their batch dimension, by input name.
        tick: called with each picture's name before it is run.
    """
    program = MilProgram.load(path)
    nodes = {tensor.name: (node, tensor) for node in graph.nodes for tensor in node.outputs}
    found: dict[str, Range] = {}
    for picture, inputs in pictures.items():
        if tick is not None:
            tick(picture)

        def record(name: str, operator: str, value: NDArray[Any], picture: str = picture) -> None:
            if name not in nodes or value.dtype.kind != "f" or not value.size:
                return
            if name not in found:
                node, tensor = nodes[name]
                found[name] = Range(name, operator, node.layer, tensor.dtype)
            _add(found[name], value, picture, terms(nodes[name][0]))

        program.run(inputs, round_storage=False, on_value=record)
    return list(found.values())


def terms(node: Node) -> int | None:
    """How many values a mean or an average pool adds up for one result; None for other operators."""
    if node.operator in ("reduce_mean", "MEAN") and node.inputs and node.outputs:
        before, after = _size(node.inputs), _size(node.outputs)
        return before // after if before and after else None
    if node.operator in ("avg_pool", "AVERAGE_POOL_2D") and "kernel_sizes" in node.options:
        return int(np.prod(node.options["kernel_sizes"]))
    return None


def _size(tensors: Sequence[Tensor]) -> int:
    """Values in the first computed tensor; 0 if its shape is not fixed."""
    shape = next((tensor.shape for tensor in tensors if not tensor.constant), ())
    return 0 if None in shape else math.prod(side or 0 for side in shape)


def _add(range_: Range, value: NDArray[Any], picture: str, count: int | None) -> None:
    size = np.abs(value)
    top = float(size.max())
    range_.values += size.size
    if not math.isfinite(top):
        finite = size[np.isfinite(size)]
        range_.not_finite += size.size - finite.size
        top = float(finite.max()) if finite.size else 0.0
        size = finite
    if top > range_.max_abs:
        range_.max_abs, range_.picture = top, picture
    elif not range_.picture:
        range_.picture = picture
    if top > HIGH:
        range_.high += int(np.count_nonzero(size > HIGH))
        range_.overflowing += int(np.count_nonzero(size >= INFINITE_FROM))
    small = size[size < SMALLEST_NORMAL]
    if small.size:
        range_.subnormal += int(np.count_nonzero(small))
        range_.vanishing += int(np.count_nonzero((small <= SMALLEST) & (small > 0)))
    if count is not None:
        range_.largest_sum = max(range_.largest_sum or 0.0, top * count)


def range_hits(ranges: Sequence[Range]) -> Iterator[Hit]:
    """Large values in the order of execution, as the first one causes others; small values, most affected first."""
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
