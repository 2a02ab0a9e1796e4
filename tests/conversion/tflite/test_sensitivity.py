"""What decides which layers stay in float: pictures of one colour and every output, beside the examples' loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.examples import Example
from afterlens.conversion.tflite import sensitivity
from afterlens.conversion.tflite.graph import pack
from afterlens.conversion.tflite.quantize import quantize
from afterlens.conversion.tflite.ranges import extremes, measure_ranges
from afterlens.conversion.tflite.scales import Scheme
from afterlens.conversion.tflite.sensitivity import MOST_LEVELS, Bench, keys, layers, mixed_plan
from afterlens.training.deployable import Deployable, Port
from tests.conversion.tflite.files import File, conv_options
from tests.conversion.tflite.test_quantized_layers import SIDE, normal

PICTURE, MASK = 0, 1  # the convolutions by number
SHAPE = (1, SIDE, SIDE, 3)
PORT = (1, 3, SIDE, SIDE)
DEPLOYABLE = Deployable(
    torch.nn.Identity(),
    "two",
    "Two outputs",
    "1",
    (Port("t0", PORT, (0.0, 1.0)),),
    (Port("picture", PORT, (0.0, 1.0)), Port("mask", PORT, (-1.0, 1.0))),
)


def two_outputs() -> Any:
    """One convolution makes the picture, another the mask."""
    return convolutions("picture", "mask")


def convolutions(*names: str) -> Any:
    """A convolution of the image for each output."""
    file = File()
    image, *results = (file.tensor(SHAPE) for _ in ("t0", *names))
    for number, made in enumerate(results):
        constants = [
            file.tensor((3, 3, 3, 3), data=0.1 * normal(number, 3, 3, 3, 3)),
            file.tensor((3,), data=np.zeros(3, np.float32)),
        ]
        file.operator("CONV_2D", [image, *constants], [made], conv_options())
    model = file.finish([image], results)
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [], []
    for name, tensor in zip(("t0", *names), (image, *results), strict=True):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), tensor
        (signature.inputs if name == "t0" else signature.outputs).append(entry)
    model.signatureDefs = [signature]
    return model


@pytest.fixture
def examples() -> list[Example]:
    noise = np.random.default_rng(0).random((3, SIDE, SIDE, 3)).astype(np.float32)
    return [Example(f"{number}", {"t0": picture}, None) for number, picture in enumerate(noise)]


def ranges_of(model: Any, examples: list[Example]) -> dict[int, tuple[float, float]]:
    pictures = [example.inputs for example in examples]
    return measure_ranges(model, [*pictures, *extremes(pictures, DEPLOYABLE.inputs)])


@pytest.mark.parametrize("end", [0, 1])
def test_a_layer_that_only_a_picture_of_one_colour_shows_stays_in_float(
    examples: list[Example], end: int
) -> None:
    """Its output is no picture that anything is evaluated by, and the examples lose nothing."""
    model = two_outputs()
    ranges = ranges_of(model, examples)
    bench = Bench(model, examples, DEPLOYABLE)
    assert mixed_plan(model, ranges, bench, budget=3.0) == []
    mask = model.subgraphs[0].outputs[MASK]
    # A range far beyond the mask's own: steps of 0.3.
    ranges[mask] = (-80.0 * end - 1.0, 80.0 * (1 - end) + 1.0)
    coarse = quantize(model, ranges, Scheme.INT8)
    print(bench.losses(coarse), bench.levels(coarse))
    assert max(bench.losses(coarse)) < 3.0 and bench.levels(coarse) > MOST_LEVELS
    assert mixed_plan(model, ranges, bench, budget=3.0) == [MASK]
    assert bench.levels(quantize(model, ranges, Scheme.INT8, [MASK])) <= MOST_LEVELS


NAMES = "abcdefg"
COARSE = (5, 0, 3, 6, 1, 2, 4)
"""The layers that are spoiled, one after the other: neither in the file's order nor in its reverse."""


@pytest.mark.parametrize("count", range(len(NAMES) + 1))
def test_the_layers_that_do_harm_stay_in_float_and_no_others(examples: list[Example], count: int) -> None:
    model = convolutions(*NAMES)
    ports = tuple(Port(name, PORT, (0.0, 1.0)) for name in NAMES)
    deployable = replace(DEPLOYABLE, outputs=ports)
    ranges = ranges_of(model, examples)
    for place in COARSE[:count]:
        ranges[model.subgraphs[0].outputs[place]] = (-81.0, 81.0)
    bench = Bench(model, examples, deployable)
    assert mixed_plan(model, ranges, bench, budget=90.0) == sorted(COARSE[:count])


def test_the_worst_picture_must_be_within_the_budget_and_the_levels_within_theirs(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is just at the limit is within it."""
    model = two_outputs()
    ranges = ranges_of(model, examples)
    bench = Bench(model, examples, DEPLOYABLE)
    made = quantize(model, ranges, Scheme.INT8)
    losses, levels = bench.losses(made), bench.levels(made)
    assert 0.0 < min(losses) < max(losses) and 0.0 < levels < MOST_LEVELS
    assert mixed_plan(model, ranges, bench, budget=max(losses)) == []
    assert mixed_plan(model, ranges, bench, budget=0.9999 * max(losses)) == [PICTURE]
    for limit, plan in ((levels, False), (0.9999 * levels, True)):
        monkeypatch.setattr(sensitivity, "MOST_LEVELS", limit)
        assert bool(mixed_plan(model, ranges, bench, budget=90.0)) == plan


def test_only_the_given_groups_may_stay_in_float(examples: list[Example]) -> None:
    model = two_outputs()
    ranges = ranges_of(model, examples)
    bench = Bench(model, examples, DEPLOYABLE)
    assert mixed_plan(model, ranges, bench, 1e-9, [[MASK]]) == [MASK]
    assert mixed_plan(model, ranges, bench, 1e-9, [[PICTURE], [MASK]]) == [PICTURE]


@pytest.mark.parametrize(
    ("known", "error"),
    [(None, 1e-3), (0.05, 0.05**2), (0.0, 1e-6)],
    ids=["no ground truth", "an error", "none"],
)
def test_a_loss_is_against_the_error_that_the_float_file_has(
    examples: list[Example], known: float | None, error: float
) -> None:
    """10 log10(1 + d / e), with d = 0.01."""
    model = two_outputs()
    references = Bench(model, examples, DEPLOYABLE).references
    judged = [
        replace(example, ground_truth=None if known is None else reference + np.float32(known))
        for example, reference in zip(examples, references, strict=True)
    ]
    bench = Bench(model, judged, DEPLOYABLE)
    assert bench.losses(pack(model)) == [0.0] * len(examples)
    (operator, _) = model.subgraphs[0].operators
    bias = model.buffers[model.subgraphs[0].tensors[operator.inputs[2]].buffer]
    bias.data = np.frombuffer(np.full(3, 0.1, np.float32).tobytes(), np.uint8)
    assert bench.losses(pack(model)) == pytest.approx(
        [10 * np.log10(1 + 0.01 / error)] * len(examples), rel=1e-3
    )
    bias.data = np.frombuffer(np.full(3, np.nan, np.float32).tobytes(), np.uint8)
    assert min(bench.losses(pack(model))) > 10 * np.log10(1 + 0.1 / error)  # not a number: lost


def test_a_layer_is_a_convolution_and_what_follows_it() -> None:
    assert layers(chain((0, 1, 2))) == [[0, 1], [2, 3], [4, 5]]
    file = File()
    image, soft, made = file.tensor(SHAPE), file.tensor(SHAPE), file.tensor(SHAPE)
    file.operator("LOGISTIC", [image], [soft])
    file.operator("SIN", [soft], [made])  # int8 has none
    deep = file.tensor(SHAPE)
    constants = [file.tensor((3, 1, 1, 3), data=normal(0, 3, 1, 1, 3)), file.tensor((3,), data=np.zeros(3))]
    file.operator("CONV_2D", [made, *constants], [deep], conv_options())
    assert layers(file.finish([image], [deep])) == [[0], [2]]


def test_levels_are_of_255_of_the_declared_range_and_the_worst_counts(examples: list[Example]) -> None:
    model = two_outputs()
    bench = Bench(model, examples, DEPLOYABLE)
    assert bench.levels(pack(model)) == 0.0
    for port, tensor, width in zip(DEPLOYABLE.outputs, model.subgraphs[0].outputs, (1.0, 2.0), strict=True):
        (operator,) = [o for o in model.subgraphs[0].operators if tensor in o.outputs]
        bias = model.buffers[model.subgraphs[0].tensors[operator.inputs[2]].buffer]
        whole = bias.data
        bias.data = np.frombuffer(np.array([0.0, -0.1, 0.05], np.float32).tobytes(), np.uint8)
        assert bench.levels(pack(model)) == pytest.approx(255 * 0.1 / width, rel=1e-3), port.name
        bias.data = np.frombuffer(np.array([np.nan] * 3, np.float32).tobytes(), np.uint8)
        assert bench.levels(pack(model)) == 255.0
        bias.data = whole


def test_the_plan_asks_more_than_the_gate() -> None:
    assert gate("tflite", "mixed").max_flat_levels > MOST_LEVELS


def chain(places: tuple[int, ...], weights: tuple[int, ...] = (0, 1, 2), side: int = SIDE) -> Any:
    """Three convolutions of the image, each with an activation after it; written in the order ``places``."""
    file = File()
    shape = (1, side, side, 3)
    image = file.tensor(shape)
    made = []
    for place in places:
        deep, result = file.tensor(shape), file.tensor(shape)
        constants = [
            file.tensor((3, 3, 3, 3), data=normal(weights[place], 3, 3, 3, 3)),
            file.tensor((3,), data=np.zeros(3, np.float32)),
        ]
        file.operator("CONV_2D", [image, *constants], [deep], conv_options())
        file.operator("LOGISTIC" if place == 1 else "TANH", [deep], [result])
        made.append(result)
    return file.finish([image], made)


def test_layers_keep_their_names_at_other_sizes_and_in_another_order() -> None:
    """What the smaller size decided is looked up by them."""
    names = keys(chain((0, 1, 2)))
    assert len(set(names)) == 6
    assert keys(chain((0, 1, 2), side=2 * SIDE)) == names
    assert keys(chain((2, 0, 1))) == [*names[4:], *names[:4]]
    other = keys(chain((0, 1, 2), (0, 3, 2)))  # other weights: another layer, and what follows it
    assert [one == before for one, before in zip(other, names, strict=True)] == [True] * 2 + [False] * 2 + [
        True
    ] * 2


def test_layers_with_the_same_weights_are_told_apart_by_their_order() -> None:
    names = keys(chain((0, 1, 2), (0, 1, 0)))
    assert len(set(names)) == 6
    assert keys(chain((0, 1, 2), (0, 1, 0), 2 * SIDE)) == names
