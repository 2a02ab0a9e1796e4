"""The quantized variants of one float file: which scheme each has, what was measured, and what a smaller size decided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afterlens.conversion.examples import Example
from afterlens.conversion.tflite import quantizer
from afterlens.conversion.tflite.graph import operator_names, pack, read_tflite
from afterlens.conversion.tflite.quantizer import Quantizer
from afterlens.conversion.tflite.sensitivity import Bench
from tests.conversion.tflite.test_quantized_layers import SIDE
from tests.conversion.tflite.test_sensitivity import DEPLOYABLE, two_outputs


def pictures(count: int, brightest: float = 1.0) -> list[Example]:
    noise = np.random.default_rng(0).random((count, SIDE, SIDE, 3)).astype(np.float32)
    return [Example(f"{number}", {"t0": brightest * picture}, None) for number, picture in enumerate(noise)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = two_outputs()
    for tensor, port in zip(model.subgraphs[0].outputs, DEPLOYABLE.outputs, strict=True):
        model.subgraphs[0].tensors[tensor].name = port.name.encode()
    (tmp_path / "float32.tflite").write_bytes(pack(model))
    return tmp_path / "float32.tflite"


def types(data: bytes, path: Path) -> dict[str, int]:
    """The types of the first convolution's input, weights and result, by number."""
    path.write_bytes(data)
    model = read_tflite(path)
    tensors = model.subgraphs[0].tensors
    convolution = model.subgraphs[0].operators[operator_names(model).index("CONV_2D")]
    places = {"read": convolution.inputs[0], "weights": convolution.inputs[1], "made": convolution.outputs[0]}
    return {name: tensors[place].type for name, place in places.items()}


@pytest.mark.parametrize(
    ("variant", "activations"),
    [
        ("dynamic_range_quant", 0),
        ("full_integer_quant", 9),
        ("integer_quant_with_int16_act", 7),
        ("mixed", 9),
    ],
)
def test_each_variant_has_its_types(variant: str, activations: int, path: Path, tmp_path: Path) -> None:
    """0: float32, 7: int16, 9: int8."""
    data = Quantizer(path, DEPLOYABLE, pictures(2)).variant(variant, budget=90.0)
    wanted = {"read": activations, "weights": 9, "made": activations}
    assert types(data, tmp_path / "quantized.tflite") == wanted


def test_ranges_are_those_of_the_pictures_of_both_ends_and_of_what_is_declared(path: Path) -> None:
    hazy = Quantizer(path, DEPLOYABLE, pictures(2, brightest=0.5))
    graph = hazy.model.subgraphs[0]
    assert hazy.ranges[graph.inputs[0]] == (0.0, 1.0)
    low, high = hazy.ranges[graph.outputs[1]]
    assert low <= -1.0 and high >= 1.0  # of the mask


@pytest.mark.parametrize(
    ("given", "benched"),
    [
        (1, [0]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (15, [0, 1, 2, 3, 4, 5, 6, 7]),
        (16, [0, 2, 4, 6, 8, 10, 12, 14]),
        (20, [0, 2, 4, 6, 8, 10, 12, 14]),
        (25, [0, 3, 6, 9, 12, 15, 18, 21]),
    ],
)
def test_eight_examples_from_all_over_decide(
    given: int, benched: list[int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(model: Any, examples: Sequence[Example], deployable: Any) -> Bench:
        seen.extend(example.name for example in examples)
        return Bench(model, examples, deployable)

    monkeypatch.setattr(quantizer, "Bench", watched)
    own = Quantizer(path, DEPLOYABLE, pictures(given))
    assert own.variant("mixed", budget=90.0) == own.variant("mixed", budget=90.0)
    assert seen == [str(number) for number in benched]  # and once only


def test_what_a_smaller_size_saw_and_decided_counts_at_the_larger_one(path: Path, tmp_path: Path) -> None:
    wide, narrow = pictures(2, brightest=3.0), pictures(2)
    smaller = Quantizer(path, DEPLOYABLE, wide)
    (mask,) = smaller.model.subgraphs[0].outputs[1:]
    smaller.ranges[mask] = (-81.0, 81.0)  # so coarse that its layer stays in float
    kept = operator_names(read(smaller.variant("mixed", budget=90.0), tmp_path))
    assert kept.count("QUANTIZE") == 1 and kept.count("DEQUANTIZE") == 1  # only the picture's
    alone, larger = Quantizer(path, DEPLOYABLE, narrow), Quantizer(path, DEPLOYABLE, narrow, smaller)
    for tensor, (low, high) in alone.ranges.items():
        lower, higher = smaller.ranges[tensor]
        is_input = tensor in larger.model.subgraphs[0].inputs
        assert larger.ranges[tensor] == ((low, high) if is_input else (min(low, lower), max(high, higher)))
    assert larger.ranges != alone.ranges
    again = operator_names(read(larger.variant("mixed", budget=1e-9), tmp_path))
    assert again == kept  # the budget is not asked again
    assert operator_names(read(alone.variant("mixed", budget=90.0), tmp_path)).count("DEQUANTIZE") == 2


def read(data: bytes, folder: Path) -> Any:
    (folder / "quantized.tflite").write_bytes(data)
    return read_tflite(folder / "quantized.tflite")
