"""Quantized TFLite files: what is stored, what they compute, and that a wrong one is noticed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.runtimes import TfliteSession
from afterlens.conversion.examples import Example, task_examples
from afterlens.conversion.tflite.check import quantization_faults
from afterlens.conversion.tflite.graph import array_of, operator_names, pack, read_tflite
from afterlens.conversion.tflite.quantize import quantizable, quantize
from afterlens.conversion.tflite.ranges import measure_ranges
from afterlens.conversion.tflite.scales import Scheme, quantized_weights, scale_and_zero_point
from afterlens.conversion.tflite.sensitivity import Bench, keys, layers, mixed_plan
from afterlens.training.deployable import Deployable
from afterlens.training.reflection.task import TASK
from tests.recipes import with_kinds

Ranges = dict[int, tuple[float, float]]


@pytest.fixture(scope="module")
def source(bundle: Bundle) -> Path:
    return bundle.folder / "reflection_256x256_float32.tflite"


@pytest.fixture(scope="module")
def model(source: Path) -> Any:
    return read_tflite(source)


@pytest.fixture(scope="module")
def examples(deployable: Deployable, photo_paths: list[Path]) -> list[Example]:
    return task_examples(
        TASK, with_kinds(TASK, "shadow", "reflection"), photo_paths, deployable, count=4, seed=1
    )


@pytest.fixture(scope="module")
def ranges(model: Any, examples: list[Example]) -> Ranges:
    return measure_ranges(model, [example.inputs for example in examples])


def fidelity(data: bytes, model: Any, example: Example) -> float:
    """PSNR in dB of a file's restored picture against the float file's."""
    got, wanted = (TfliteSession(file).run(example.inputs)["restored"] for file in (data, pack(model)))
    return -10.0 * float(np.log10(np.square(got.astype(np.float64) - wanted).mean() + 1e-12))


def test_ranges_are_what_pytorch_computes(
    model: Any, ranges: Ranges, deployable: Deployable, examples: list[Example]
) -> None:
    names = {tensor.name.decode(): index for index, tensor in enumerate(model.subgraphs[0].tensors)}
    pictures = [torch.from_numpy(e.inputs["image"]).permute(2, 0, 1)[None] for e in examples]
    with torch.no_grad():
        restored = [deployable.module(picture)[0] for picture in pictures]
    assert ranges[names["image"]] == (
        min(float(p.min()) for p in pictures),
        max(float(p.max()) for p in pictures),
    )
    low, high = ranges[names["restored"]]
    assert low == pytest.approx(min(float(r.min()) for r in restored), abs=1e-5)
    assert high == pytest.approx(max(float(r.max()) for r in restored), abs=1e-5)


@pytest.mark.parametrize(
    ("scheme", "least", "share"),
    [(Scheme.DYNAMIC, 40.0, 0.35), (Scheme.INT8, 33.0, 0.36), (Scheme.INT16, 40.0, 0.36)],
)
def test_every_scheme_computes_nearly_the_same_in_a_third_of_the_bytes(
    scheme: Scheme,
    least: float,
    share: float,
    model: Any,
    ranges: Ranges,
    examples: list[Example],
    source: Path,
) -> None:
    data = quantize(model, ranges, scheme)
    assert len(data) < share * source.stat().st_size
    assert fidelity(data, model, examples[0]) > least


def test_ranges_that_are_too_narrow_show(model: Any, ranges: Ranges, examples: list[Example]) -> None:
    narrow = {index: (low / 4, high / 4) for index, (low, high) in ranges.items()}
    assert fidelity(quantize(model, narrow, Scheme.INT8), model, examples[0]) < 25.0


def test_with_everything_kept_in_float_nothing_changes(
    model: Any, ranges: Ranges, examples: list[Example]
) -> None:
    data = quantize(model, ranges, Scheme.INT8, quantizable(model, Scheme.INT8))
    assert fidelity(data, model, examples[0]) > 115.0


def test_an_operator_kept_in_float_stands_between_two_conversions(
    model: Any, ranges: Ranges, tmp_path: Path
) -> None:
    types = operator_names(model)
    kept = types.index("CONV_2D", 10)
    path = tmp_path / "mixed.tflite"
    path.write_bytes(quantize(model, ranges, Scheme.INT8, [kept]))
    whole = tmp_path / "whole.tflite"
    whole.write_bytes(quantize(model, ranges, Scheme.INT8))
    counts = [operator_names(read_tflite(p)) for p in (path, whole)]
    assert counts[0].count("DEQUANTIZE") == counts[1].count("DEQUANTIZE") + 1
    assert counts[0].count("QUANTIZE") >= counts[1].count("QUANTIZE")
    graph = read_tflite(path).subgraphs[0]
    floats = [
        operator
        for operator, name in zip(graph.operators, counts[0], strict=True)
        if name == "CONV_2D" and graph.tensors[operator.inputs[1]].type == 0
    ]
    assert len(floats) == 1


def test_inputs_and_outputs_stay_float32_and_keep_their_names(
    model: Any, ranges: Ranges, tmp_path: Path
) -> None:
    path = tmp_path / "whole.tflite"
    path.write_bytes(quantize(model, ranges, Scheme.INT8))
    graph = read_tflite(path).subgraphs[0]
    ports = [graph.tensors[index] for index in (*graph.inputs, *graph.outputs)]
    assert [(port.name, port.type) for port in ports] == [(b"image", 0), (b"restored", 0), (b"layer", 0)]


def test_what_an_operator_only_moves_keeps_its_scale(model: Any, ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / "whole.tflite"
    path.write_bytes(quantize(model, ranges, Scheme.INT8))
    quantized = read_tflite(path)
    graph = quantized.subgraphs[0]
    seen = 0
    for operator, name in zip(graph.operators, operator_names(quantized), strict=True):
        if name in ("CONCATENATION", "RESIZE_BILINEAR", "DEPTH_TO_SPACE", "AVERAGE_POOL_2D"):
            tied = [
                graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if graph.tensors[i].type == 9
            ]
            assert len({(t.quantization.scale[0], t.quantization.zeroPoint[0]) for t in tied}) == 1
            seen += 1
    assert seen > 10


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-3.0, 1.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_zero_is_exact_and_the_range_is_covered(low: float, high: float, scheme: Scheme) -> None:
    scale, zero = scale_and_zero_point(low, high, scheme)
    limits = (-32768, 32767) if scheme is Scheme.INT16 else (-128, 127)
    assert limits[0] <= zero <= limits[1] and (scheme is Scheme.INT8 or zero == 0)
    # Half a step may be missing at an end, since zero must fall on a step.
    assert scale * (limits[0] - zero) <= low + 0.51 * scale and high - 0.51 * scale <= scale * (
        limits[1] - zero
    )


def test_weights_have_a_scale_for_each_output_channel() -> None:
    weights = np.array([[[[1.0, -2.0]]], [[[0.01, 0.005]]], [[[0.0, 0.0]]]], np.float32)
    stored, scales = quantized_weights(weights)
    assert stored[:, 0, 0].tolist() == [[64, -127], [127, 64], [0, 0]]
    assert np.abs(stored * scales.reshape(-1, 1, 1, 1) - weights).max() <= scales.max() / 2


def test_a_damaged_weight_is_found(model: Any, ranges: Ranges, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "whole.tflite"
    path.write_bytes(quantize(model, ranges, Scheme.INT8))
    assert quantization_faults(path, source) == []
    damaged = read_tflite(path)
    tensor = next(
        t
        for t in damaged.subgraphs[0].tensors
        if t.type == 9
        and t.shape is not None
        and len(t.shape) == 4
        and damaged.buffers[t.buffer].data is not None
    )
    values = array_of(damaged, tensor).copy()
    values.flat[5] ^= 0x40
    damaged.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    path.write_bytes(pack(damaged))
    (fault,) = quantization_faults(path, source)
    assert tensor.name.decode().removesuffix("_quantized") in fault and "steps off" in fault
    assert quantization_faults(source, source) == ["holds no quantized weights"]


def test_layers_hold_every_operator_once(model: Any) -> None:
    groups = layers(model)
    assert sorted(index for group in groups for index in group) == quantizable(model, Scheme.INT8)
    types = operator_names(model)
    assert all(sum(types[index] == "CONV_2D" for index in group) <= 1 for group in groups)
    assert len(set(keys(model))) == len(types)


def test_the_layer_that_does_the_harm_stays_in_float(
    model: Any, ranges: Ranges, examples: list[Example], deployable: Deployable
) -> None:
    bench = Bench(model, examples[:1], deployable)
    assert mixed_plan(model, ranges, bench, budget=3.0) == []
    types = operator_names(model)
    # The first convolution gets a range in which nothing can be told apart.
    harmful = types.index("CONV_2D")
    output = model.subgraphs[0].operators[harmful].outputs[0]
    coarse = {**ranges, output: (-3000.0, 3000.0)}
    assert max(bench.losses(quantize(model, coarse, Scheme.INT8))) > 3.0
    # Few layers only, or the test would measure them all.
    first = layers(model)[:8]
    kept = mixed_plan(model, coarse, bench, budget=3.0, groups=first)
    print(f"{len(kept)} of {sum(len(group) for group in first)} operators kept in float")
    assert harmful in kept and len(kept) <= 0.6 * sum(len(group) for group in first)
    assert max(bench.losses(quantize(model, coarse, Scheme.INT8, kept))) <= 3.0


def test_loss_counts_distance_whatever_its_direction(
    model: Any, examples: list[Example], deployable: Deployable
) -> None:
    """A file that is nearer to the ground truth than PyTorch by luck must not count as a gain."""
    bench = Bench(model, examples[:1], deployable)
    assert bench.losses(pack(model)) == [pytest.approx(0.0, abs=1e-6)]


def test_a_clamp_becomes_the_end_of_a_range(model: Any, ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / "whole.tflite"
    path.write_bytes(quantize(model, ranges, Scheme.INT8))
    before, after = operator_names(model), operator_names(read_tflite(path))
    assert before.count("MINIMUM") == before.count("RELU") == 2  # the gate's, and the picture's
    assert after.count("MINIMUM") == after.count("RELU") == 0
    graph = read_tflite(path).subgraphs[0]
    names = [tensor.name for tensor in graph.tensors]
    (last,) = [o for o in graph.operators if list(o.outputs) == [names.index(b"restored")]]
    ends = graph.tensors[last.inputs[0]].quantization
    # From 0 to 1 exactly: what int8 cannot hold is what the clamp would cut.
    assert ends.scale[0] * (-128 - ends.zeroPoint[0]) == 0.0
    assert ends.scale[0] * (127 - ends.zeroPoint[0]) == pytest.approx(1.0, abs=1e-6)
