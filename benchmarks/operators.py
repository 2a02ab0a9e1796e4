"""Where the time of a TFLite file goes: each operator is timed alone, in a file of its own, in turns with the others.

    profile = profile_operators(Path("reflection_256x256_float32.tflite"), matmul=(call, flop))
    max(profile["operators"], key=lambda operator: operator["ms"])      # {"type": "CONV_2D", "ms": 1.39, ...}

The runtime's own profiler sees one XNNPACK partition as a whole. An operator alone computes what it computes in the
whole file, with the same weights, but is invoked by itself: the sum of all and the whole file, timed in the same rounds,
differ by 5 to 20 %. With one thread, times are that thread's processor time.
"""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.tflite.graph import is_constant, operator_names, pack, read_tflite, shape_of
from afterlens.training.media.errors import UserError

COLOURS = 4
"""A picture has at most this many channels; features have more."""

MAX_SECONDS = 20.0
"""No round after the third starts later than this: int16 takes a hundred times as long as int8."""

_FILTERED = ("CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # second input: the weights


@dataclass(frozen=True)
class Piece:
    """One operator cut out of a file. Tensor indices are those of the whole file."""

    index: int
    type: str
    content: bytes  # a TFLite file of this operator and those that only unpack its constants
    inputs: tuple[int, ...]  # computed ones, in the order of the small file's inputs
    outputs: tuple[int, ...]
    input_shape: tuple[int, ...]  # of the largest computed input
    weights_shape: tuple[int, ...] | None  # of a convolution or matrix product
    output_shape: tuple[int, ...]  # of the largest
    macs: int | None  # None: multiply-accumulates of this type are not counted
    outside: bool | None  # works on the picture outside the network; None: unknown


def profile_operators(
    path: Path, *, matmul: tuple[Callable[[], object], int], threads: int = 1, rounds: int = 15
) -> dict[str, Any]:
    """Time every operator of a TFLite file that computes something at run time.

    Args:
        path: a TFLite file.
        matmul: a matrix product with `threads` threads and its number of floating-point operations: the reference
            speed, timed in every round.
        threads: of the runtime.
        rounds: the most rounds; in each, every operator runs twice, and the second run counts.

    Returns: `operators` of a result in `schema.json`.

    Raises UserError where the file is damaged.
    """
    pieces = cut(read_tflite(path), str(path))
    whole = _open(path.read_bytes(), threads)
    if whole is None:
        raise UserError(f"{path}: the TFLite runtime cannot load it; convert again")
    runs = [_open(piece.content, threads) for piece in pieces]
    samples = _rounds([whole, matmul[0], *filter(None, runs)], rounds, threads)
    whole_ms, matmul_ms, *times = np.median(samples, axis=0).tolist()
    waiting = iter(times)
    milliseconds = [None if run is None else next(waiting) for run in runs]
    matmul_gflops = matmul[1] / matmul_ms / 1e6
    timed = [(piece, ms) for piece, ms in zip(pieces, milliseconds, strict=True) if ms is not None]
    outside = sum(ms for piece, ms in timed if piece.outside)
    known = bool(timed) and all(piece.outside is not None for piece in pieces)
    return {
        "rounds": len(samples),
        "whole_ms": whole_ms,
        "sum_ms": sum(times),
        "matmul_gflops": matmul_gflops,
        "outside_share": outside / sum(times) if known else None,
        "types": _types(timed, matmul_gflops),
        "operators": [
            _entry(piece, ms, matmul_gflops) for piece, ms in zip(pieces, milliseconds, strict=True)
        ],
    }


def cut(model: Any, name: str = "the file") -> list[Piece]:
    """The operators of a `ModelT`, in order, each as a file of its own.

    Operators on constants alone run when the file loads (the widening of float16 weights), so they become part of the
    files of the operators that use them. Raises UserError where the graph is damaged.
    """
    try:
        pieces = _cut(model)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name}: the graph is damaged ({reason}); convert again") from error
    return _with_outside(pieces)


def _cut(model: Any) -> list[Piece]:
    graph = model.subgraphs[0]
    # Tensor -> the operators that compute it from constants; none where it is stored.
    constants: dict[int, tuple[Any, ...]] = {
        number: () for number, tensor in enumerate(graph.tensors) if is_constant(model, tensor)
    }
    pieces = []
    for index, (kind, operator) in enumerate(zip(operator_names(model), graph.operators, strict=True)):
        inputs = [int(number) for number in operator.inputs if number >= 0]
        outputs = tuple(int(number) for number in operator.outputs)
        needed = [*(one for number in inputs for one in constants.get(number, ())), operator]
        chain = tuple(dict.fromkeys(needed))
        if inputs and all(number in constants for number in inputs):
            constants |= dict.fromkeys(outputs, chain)
            continue
        computed = tuple(dict.fromkeys(number for number in inputs if number not in constants))
        shapes = {number: shape_of(graph.tensors[number]) for number in (*inputs, *outputs)}
        weights = shapes[inputs[1]] if kind in _FILTERED else None
        output = max((shapes[number] for number in outputs), key=math.prod)
        source = max((shapes[number] for number in computed), key=math.prod, default=())
        macs = None if weights is None else _macs(kind, source, weights, output)
        content = _file(model, chain, computed)
        pieces.append(Piece(index, kind, content, computed, outputs, source, weights, output, macs, None))
    return pieces


def _file(model: Any, operators: Sequence[Any], inputs: Sequence[int]) -> bytes:
    """A TFLite file of these operators of `model`, in order; the outputs of the last are those of the file."""
    from ai_edge_litert import schema_py_generated as schema

    part = schema.SubGraphT()
    part.tensors, part.operators = [], []
    buffers = [schema.BufferT()]  # number 0 is empty by convention
    numbers = {-1: -1}  # tensors, there -> here; -1: an optional input that is not given

    def add(number: int) -> int:
        if number not in numbers:
            tensor = copy.copy(model.subgraphs[0].tensors[number])
            stored = is_constant(model, tensor)
            if stored:
                buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(buffers) - 1 if stored else 0
            part.tensors.append(tensor)
            numbers[number] = len(part.tensors) - 1
        return numbers[number]

    for operator in operators:
        twin = copy.copy(operator)
        twin.inputs = [add(int(number)) for number in operator.inputs]
        twin.outputs = [add(int(number)) for number in operator.outputs]
        part.operators.append(twin)
    part.inputs = [numbers[number] for number in inputs]
    part.outputs = part.operators[-1].outputs
    small = schema.ModelT()
    small.version, small.operatorCodes = model.version, model.operatorCodes
    small.subgraphs, small.buffers = [part], buffers
    return pack(small)


def _macs(kind: str, source: tuple[int, ...], weights: tuple[int, ...], output: tuple[int, ...]) -> int:
    """Multiply-accumulates of one run; shapes as TFLite stores them, (N, H, W, C)."""
    if kind == "TRANSPOSE_CONV":  # each input value goes to a window of every output channel
        return math.prod(source) * math.prod(weights[:3])
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(output) * math.prod(weights[1:3])
    return math.prod(output) * math.prod(weights[1:])


def _pixels(shape: tuple[int, ...]) -> int:
    return shape[1] * shape[2] if len(shape) == 4 else 0


def _with_outside(pieces: list[Piece]) -> list[Piece]:
    """Mark the operators that work on the full picture, outside of a network that sees a smaller one.

    The network begins with the first convolution that reads colours. A tensor is outside if it has more pixels than
    that convolution reads or, with more channels than colours (a large picture folded into channels), than it writes.
    """
    stem = next((p for p in pieces if p.macs is not None and 0 < _channels(p.input_shape) <= COLOURS), None)
    if stem is None:
        return pieces
    base, inner = _pixels(stem.input_shape), _pixels(stem.output_shape)
    whole = max(_pixels(shape) for piece in pieces for shape in _shapes(piece))

    def outside(shape: tuple[int, ...]) -> bool:
        return _pixels(shape) > (inner if _channels(shape) > COLOURS else base)

    return [
        replace(piece, outside=base < whole and any(outside(shape) for shape in _shapes(piece)))
        for piece in pieces
    ]


def _shapes(piece: Piece) -> tuple[tuple[int, ...], ...]:
    return piece.input_shape, piece.output_shape


def _channels(shape: tuple[int, ...]) -> int:
    return shape[3] if len(shape) == 4 else 0


def _open(content: bytes, threads: int) -> Callable[[], object] | None:
    """A call that runs a file on filled inputs; None where the runtime cannot load it, or not this operator alone."""
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(0)
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], _values(rng, detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError):
        return None
    run: Callable[[], object] = interpreter.invoke
    return run


def _values(rng: np.random.Generator, shape: Any, dtype: Any) -> Any:
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape, np.float32).astype(dtype)
    if dtype in (np.int8, np.uint8, np.int16):  # quantized pictures
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)  # sizes and positions: other numbers might point outside of a tensor


def _rounds(calls: Sequence[Callable[[], object]], rounds: int, threads: int) -> list[list[float]]:
    """Milliseconds of each call in each round: it runs twice, and the second run counts."""
    # A busy machine interrupts long calls more often than short ones, and the whole would seem slower than its parts.
    # Processor time of the one thread leaves the interruptions out.
    clock = time.thread_time if threads == 1 else time.perf_counter
    samples: list[list[float]] = []
    begun = time.perf_counter()
    gc.disable()
    try:
        while len(samples) < rounds and (len(samples) < 3 or time.perf_counter() - begun < MAX_SECONDS):
            samples.append([])
            for call in calls:
                call()
                start = clock()
                call()
                samples[-1].append((clock() - start) * 1e3)
    finally:
        gc.enable()
    return samples


def _types(timed: Sequence[tuple[Piece, float]], matmul_gflops: float) -> list[dict[str, Any]]:
    total = sum(ms for _, ms in timed)
    entries = []
    for kind in dict.fromkeys(piece.type for piece, _ in timed):
        alike = [(piece, ms) for piece, ms in timed if piece.type == kind]
        ms = sum(ms for _, ms in alike)
        macs = sum(piece.macs or 0 for piece, _ in alike) if kind in _FILTERED else None
        share = {"count": len(alike), "ms": ms, "share": ms / total}
        entries.append({"type": kind, **share, **_rates(macs, ms, matmul_gflops)})
    return sorted(entries, key=lambda entry: -float(entry["ms"]))


def _entry(piece: Piece, ms: float | None, matmul_gflops: float) -> dict[str, Any]:
    return {
        "index": piece.index,
        "type": piece.type,
        "input": _words(piece.input_shape),
        "weights": None if piece.weights_shape is None else _words(piece.weights_shape),
        "output": _words(piece.output_shape),
        "outside": piece.outside,
        "ms": ms,
        **_rates(piece.macs, ms, matmul_gflops),
    }


def _rates(macs: int | None, ms: float | None, matmul_gflops: float) -> dict[str, float | None]:
    gflops = None if ms is None or macs is None else 2 * macs / ms / 1e6
    return {"gflops": gflops, "share_of_matmul": None if gflops is None else gflops / matmul_gflops}


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"
