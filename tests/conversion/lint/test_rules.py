"""Lint on TFLite graphs made by hand, and the table of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from afterlens.conversion.lint.constants import constant_hits
from afterlens.conversion.lint.finding import findings_of, hit, one_line
from afterlens.conversion.lint.gpu import GPU_OPERATORS
from afterlens.conversion.lint.graph import Constant, Graph, Node, Tensor, read_graph
from afterlens.conversion.lint.lint import lint
from afterlens.conversion.lint.rules import CATEGORIES, RULES, markdown
from afterlens.conversion.tflite.graph import pack
from afterlens.conversion.tflite.scales import quantized_weights
from afterlens.training.media.errors import UserError
from tests.conversion.lint.bundles import SIDE, by_rule, rules_of, sealed

FLOAT32, FLOAT16, INT32, BOOL, INT16, INT8 = 0, 1, 2, 6, 7, 9  # TensorType

# --- TFLite ---------------------------------------------------------------------------------------------------

# A tensor is (shape, type, values or None); an operator is (name, version, inputs, outputs, options).
TensorEntry = tuple[Sequence[int], int, Any]
OperatorEntry = tuple[str, int, Sequence[int], Sequence[int], Any]
NHWC = (1, 8, 8, 4)
VALUE: TensorEntry = (NHWC, FLOAT32, None)


def write_tflite(path: Path, tensors: Sequence[TensorEntry], operators: Sequence[OperatorEntry]) -> Path:
    """A flatbuffer as TFLite would read it; its first tensor is the input, the last operator's are the outputs."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes, graph.tensors = 3, [schema.BufferT()], [], []
    for index, (shape, kind, given) in enumerate(tensors):
        entry = schema.TensorT()
        entry.name, entry.type, entry.shape, entry.buffer = f"t{index}".encode(), kind, list(shape), 0
        if any(side < 0 for side in shape):
            entry.shapeSignature, entry.shape = list(shape), [max(side, 1) for side in shape]
        if given is not None:
            values, scales = given if isinstance(given, tuple) else (given, None)
            if scales is not None:
                entry.quantization = schema.QuantizationParametersT()
                entry.quantization.scale, entry.quantization.zeroPoint = scales.tolist(), [0] * len(scales)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            model.buffers.append(buffer)
            entry.buffer = len(model.buffers) - 1
        graph.tensors.append(entry)
    graph.operators = []
    for name, version, inputs, outputs, options in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        custom = name.startswith("CUSTOM ")
        code.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if custom else name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        if custom:
            code.customCode = name.removeprefix("CUSTOM ").encode()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), inputs, outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(
                schema.BuiltinOptions, type(options).__name__.removesuffix("T")
            )
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], list(operators[-1][3])
    model.subgraphs = [graph]
    path.write_bytes(pack(model))
    return path


def options(kind: str, **values: Any) -> Any:
    made = getattr(schema, f"{kind}T")()
    for name, value in values.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def integers(*values: int) -> TensorEntry:
    return ((len(values),), INT32, np.array(values, np.int32))


FAULTS: dict[str, tuple[str, list[TensorEntry], OperatorEntry]] = {
    "an operator that it does not know": ("gpu-operator", [VALUE, VALUE], ("ROUND", 1, [0], [1], None)),
    "GATHER_ND": (
        "gpu-operator",
        [VALUE, ((1, 1), INT32, np.zeros((1, 1), np.int32)), VALUE],
        ("GATHER_ND", 1, [0, 1], [2], None),
    ),
    "an operator of TensorFlow": ("gpu-operator", [VALUE, VALUE], ("CUSTOM FlexErf", 1, [0], [1], None)),
    "RELU_0_TO_1": ("gpu-relu-0-to-1", [VALUE, VALUE], ("RELU_0_TO_1", 1, [0], [1], None)),
    "BROADCAST_TO": (
        "gpu-broadcast-to",
        [VALUE, integers(1, 8, 8, 4), VALUE],
        ("BROADCAST_TO", 2, [0, 1], [2], None),
    ),
    "SPLIT": ("gpu-split", [VALUE, integers(3), VALUE, VALUE], ("SPLIT", 1, [1, 0], [2, 3], None)),
    "a convolution of two groups": (
        "gpu-groups",
        [VALUE, ((4, 3, 3, 2), FLOAT32, np.ones((4, 3, 3, 2), np.float32)), VALUE],
        ("CONV_2D", 1, [0, 1], [2], options("Conv2DOptions", strideH=1, strideW=1)),
    ),
    "a version too new": ("gpu-version", [VALUE, VALUE, VALUE], ("ADD", 4, [0, 1], [2], None)),
    "rank 5": (
        "gpu-rank",
        [VALUE, integers(0, 2, 1, 3, 4), ((1, 2, 4, 8, 4), FLOAT32, None)],
        ("TRANSPOSE", 1, [0, 1], [2], None),
    ),
    "a layout transpose": (
        "gpu-transpose",
        [VALUE, integers(0, 3, 1, 2), ((1, 4, 8, 8), FLOAT32, None)],
        ("TRANSPOSE", 1, [0, 1], [2], None),
    ),
    "an open shape": (
        "gpu-dynamic",
        [((1, -1, 8, 4), FLOAT32, None), ((1, -1, 8, 4), FLOAT32, None)],
        ("RELU", 1, [0], [1], None),
    ),
    "int16 values": (
        "gpu-type",
        [(NHWC, INT16, None), (NHWC, INT16, None)],
        ("RESHAPE", 1, [0], [1], None),
    ),
    "a comparison for itself": (
        "gpu-options",
        [VALUE, VALUE, (NHWC, BOOL, None)],
        ("GREATER", 1, [0, 1], [2], None),
    ),
    "a quotient with itself": ("gpu-identical-inputs", [VALUE, VALUE], ("DIV", 1, [0, 0], [1], None)),
    "a second batch": (
        "gpu-batch",
        [VALUE, ((16, 4, 4, 1), FLOAT32, None)],
        ("RESHAPE", 1, [0], [1], None),
    ),
    "ranks 3 and 4": (
        "gpu-mixed-rank",
        [VALUE, ((1, 8, 4), FLOAT32, None), VALUE],
        ("ADD", 1, [0, 1], [2], None),
    ),
    "a softmax of rank 3": (
        "gpu-rank-3",
        [((1, 8, 4), FLOAT32, None), ((1, 8, 4), FLOAT32, None)],
        ("SOFTMAX", 1, [0], [1], options("SoftmaxOptions", beta=1.0)),
    ),
    "a scaled softmax": (
        "gpu-options",
        [VALUE, VALUE],
        ("SOFTMAX", 1, [0], [1], options("SoftmaxOptions", beta=2.0)),
    ),
    "a slice that drops an axis": (
        "gpu-options",
        [VALUE, *[integers(0, 0, 0, 0)] * 3, ((1, 8, 8), FLOAT32, None)],
        ("STRIDED_SLICE", 1, [0, 1, 2, 3], [4], options("StridedSliceOptions", shrinkAxisMask=8)),
    ),
    "a symmetric mirror": (
        "gpu-options",
        [VALUE, ((4, 2), INT32, np.ones((4, 2), np.int32)), VALUE],
        ("MIRROR_PAD", 1, [0, 1], [2], options("MirrorPadOptions", mode=1)),
    ),
    "a mean along computed axes": (
        "gpu-options",
        [VALUE, ((2,), INT32, None), ((1, 1, 1, 4), FLOAT32, None)],
        ("MEAN", 1, [0, 1], [2], None),
    ),
    "a product of a row and a column": (
        "gpu-options",
        [((1, 8, 1, 4), FLOAT32, None), ((1, 1, 8, 4), FLOAT32, None), VALUE],
        ("MUL", 1, [0, 1], [2], None),
    ),
    "padding of rank 3": (
        "gpu-rank-3-pad",
        [((1, 8, 4), FLOAT32, None), ((3, 2), INT32, np.eye(3, 2, k=-1, dtype=np.int32)), ((1, 9, 4), FLOAT32, None)],
        ("PAD", 1, [0, 1], [2], None),
    ),
    "8-bit values": (
        "gpu-quantized",
        [VALUE, (NHWC, INT8, None)],
        ("QUANTIZE", 1, [0], [1], None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_gpu_delegate_is_known_not_to_take_is_named(name: str, tmp_path: Path) -> None:
    rule, tensors, operator = FAULTS[name]
    graph = read_graph(write_tflite(tmp_path / "net.tflite", tensors, [operator]))
    found = rules_of(graph)
    assert found.get(rule) == 1, found
    # Only the transpose of rank 5 breaks two rules.
    assert set(found) - {rule} <= {"gpu-transpose", "gpu-batch", "gpu-type", "gpu-reshape"}, found


def test_a_sound_graph_breaks_no_rule(tmp_path: Path) -> None:
    weight = np.ones((4, 1, 1, 4), np.float32)
    tensors: list[TensorEntry] = [
        VALUE, ((4, 1, 1, 4), FLOAT32, weight), ((4,), FLOAT32, np.ones(4, np.float32)), VALUE, VALUE,
        ((1, 1, 1, 4), FLOAT32, None), integers(1, 2), VALUE, (NHWC, BOOL, None), VALUE,
        ((), FLOAT32, np.float32(0.5)), VALUE,
    ]  # fmt: skip
    operators: list[OperatorEntry] = [
        ("CONV_2D", 6, [0, 1, 2], [3], options("Conv2DOptions", strideW=1, strideH=1)),
        ("LOGISTIC", 1, [3], [4], None),
        ("MEAN", 1, [4, 6], [5], None),
        ("MUL", 1, [3, 5], [7], None),
        ("GREATER", 1, [7, 3], [8], None),
        ("CAST", 1, [8], [9], None),
        ("MAXIMUM", 1, [9, 10], [11], None),
    ]
    assert rules_of(read_graph(write_tflite(tmp_path / "net.tflite", tensors, operators))) == {}


@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
def test_a_layer_is_told_by_its_weights(tmp_path: Path, stored: str) -> None:
    generator = np.random.default_rng(1)
    named = {
        name: generator.standard_normal((32, 8, 3, 3)).astype(np.float32)
        for name in ("first", "second", "head")
    }
    shuffled = named["head"].reshape(2, 16, 8, 3, 3).transpose(1, 0, 2, 3, 4).reshape(32, 8, 3, 3)
    foreign = generator.standard_normal((32, 8, 3, 3)).astype(np.float32)
    tensors: list[TensorEntry] = [((1, 8, 8, 8), FLOAT32, None)]
    operators: list[OperatorEntry] = []
    for weight in (named["second"], shuffled, foreign):
        ohwi = np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
        kind: int = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8}[stored]
        data: Any = ohwi.astype(stored) if stored != "int8" else quantized_weights(ohwi)
        index = len(tensors)
        tensors += [
            ((32, 3, 3, 8), kind, data),
            ((32, 3, 3, 8), FLOAT32, None),
            ((1, 8, 8, 32), FLOAT32, None),
        ]
        if stored == "float16":
            operators.append(("DEQUANTIZE", 3, [index], [index + 1], None))
        read = index + 1 if stored == "float16" else index
        operators.append(("CONV_2D", 1, [0, read], [index + 2], options("Conv2DOptions")))
        operators.append(("RELU", 1, [index + 2], [index + 2], None))
    graph = read_graph(write_tflite(tmp_path / "net.tflite", tensors, operators), named)
    layers = [node.layer for node in graph.nodes]
    assert layers == ["second", "after second", "head", "after head", "input", "input"]
    assert rules_of(graph) == {}


def test_constants_are_judged_by_what_float16_makes_of_them(tmp_path: Path, photo_path: Path) -> None:
    tensors: list[TensorEntry] = [
        ((1, SIDE, SIDE, 3), FLOAT32, None), ((), FLOAT32, np.float32(1e-9)), ((1, SIDE, SIDE, 3), FLOAT32, None),
        ((3,), FLOAT32, np.array([1.0, 7e4, 1.0], np.float32)), ((1, SIDE, SIDE, 3), FLOAT32, None),
    ]  # fmt: skip
    operators: list[OperatorEntry] = [("ADD", 1, [0, 1], [2], None), ("MUL", 1, [2, 3], [4], None)]
    write_tflite(tmp_path / f"net_{SIDE}x{SIDE}_float32.tflite", tensors, operators)
    found = by_rule(lint(sealed(tmp_path).folder, [photo_path]))
    assert found["fp16-epsilon"]["message"] == "1e-09 is 0 in float16"
    assert found["fp16-constant"]["message"] == "1 of 3 constants do not fit into float16"
    assert found["fp16-constant"]["places"][0]["tensor"] == "t3"
    # There is no Core ML package to measure, and that is said.
    assert "no Core ML package" in found["fp16-unmeasured"]["message"]


NORMAL, SUBNORMAL = 2.0**-14, 0.99 * 2.0**-14


@pytest.mark.parametrize(
    ("values", "role", "rules"),
    [
        ([65519.0], "", []),
        ([65520.0], "", ["fp16-constant"]),
        ([-65520.0, 1.0], "", ["fp16-constant"]),
        ([np.nan, 1.0], "", ["fp16-constant"]),
        ([-np.inf], "limit", []),
        ([NORMAL], "", []),
        ([-SUBNORMAL], "", ["fp16-epsilon"]),
        ([0.0], "", []),
        ([0.0], "epsilon", ["fp16-epsilon"]),
        ([1e-3], "epsilon", []),
        ([SUBNORMAL] * 5 + [1.0] * 95, "", []),
        ([SUBNORMAL] * 6 + [1.0] * 94, "", ["fp16-subnormal"]),
        ([NORMAL] * 50 + [0.0] * 50, "", []),
    ],
)
def test_constants_on_both_sides_of_float16(values: list[float], role: str, rules: list[str]) -> None:
    constant = Constant("c", "float32", np.array(values), "layer", role)
    assert [hit.rule for hit in constant_hits([constant])] == rules


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "net.tflite", [VALUE, VALUE], [("RELU", 1, [0], [7], None)])
    with pytest.raises(UserError, match="damaged") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)


# --- on both sides of each limit -------------------------------------------------------------------------------

NEWEST = {
    **dict.fromkeys(("ADD", "CONCATENATION", "LEAKY_RELU", "LOGISTIC", "PAD", "RELU", "SOFTMAX", "SUB"), 2),
    **dict.fromkeys(("MUL", "RESIZE_BILINEAR", "TRANSPOSE_CONV"), 3),
    **{"CONV_2D": 6, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 9, "PRELU": 1, "RESHAPE": 1},
}
"""Of the operators that image networks use, read from model_builder.cc once more."""


def one_node(operator: str, version: int, *shapes: tuple[int, ...]) -> Graph:
    """A graph of one operator, with a value of its own for each shape; the last is its output."""
    *read, made = (Tensor(f"t{index}", "float32", shape) for index, shape in enumerate(shapes))
    return Graph((Node(operator, version, tuple(read), (made,), {}),), (read[0],), ())


@pytest.mark.parametrize("operator", NEWEST)
def test_the_newest_version_that_the_delegate_takes(operator: str) -> None:
    taken, refused = (
        rules_of(one_node(operator, NEWEST[operator] + more, NHWC, NHWC, NHWC)) for more in (0, 1)
    )
    assert "gpu-version" not in taken and refused["gpu-version"] == 1


@pytest.mark.parametrize(("operator", "found"), [("ADD", 0), ("MUL", 0), ("SUB", 1), ("MAXIMUM", 1)])
def test_only_sums_and_products_may_be_of_a_tensor_with_itself(operator: str, found: int) -> None:
    value = Tensor("t", "float32", NHWC)
    graph = Graph((Node(operator, 1, (value, value), (replace(value, name="u"),), {}),), (value,), ())
    assert rules_of(graph).get("gpu-identical-inputs", 0) == found


@pytest.mark.parametrize(
    ("rule", "within", "beyond"),
    [
        ("ane-rank-5", (1, 2, 4, 64), (1, 1, 2, 4, 64)),
        ("ane-rank", (1, 1, 2, 4, 64), (1, 1, 1, 2, 4, 64)),
        ("ane-dimension", (1, 1, 16384, 32), (1, 1, 16385, 32)),
        # A single float16 is padded to 64 bytes, so that 62 of each row are wasted: 16912 * 62 is below 2^20.
        ("ane-last-axis", (1, 2, 8456, 1), (1, 2, 8457, 1)),
    ],
)
def test_the_neural_engines_limits(rule: str, within: tuple[int, ...], beyond: tuple[int, ...]) -> None:
    found = [rules_of(one_node("relu", 0, (1, 3, 8, 64), shape), coreml=True) for shape in (within, beyond)]
    assert rule not in found[0] and found[1][rule] == 1, found


# --- the rules ------------------------------------------------------------------------------------------------


def test_every_rule_is_whole_and_has_a_source() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.category in CATEGORIES and rule.severity in ("error", "warning", "note"), rule
        assert rule.source.startswith("https://") or rule.name == "fp16-unmeasured", rule
        assert rule.says.endswith(".") and "runs on" not in rule.says.replace(
            "runs on the Neural Engine, says", ""
        )
    known = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
    assert set(GPU_OPERATORS) <= known


def test_the_document_has_the_same_rules() -> None:
    text = (Path(__file__).parents[3] / "docs" / "lint.md").read_text("utf-8")
    assert markdown() in text, "docs/lint.md: replace the table by afterlens.conversion.lint.rules.markdown()"


def test_a_finding_names_its_first_place_and_counts_them_all() -> None:
    nodes = [Node("CAST", 1, (), (Tensor(name, "float32", (1, 2)),), {}) for name in ("a", "b", "c")]
    hits = [hit("gpu-operator", node, f"detail {node.name}") for node in nodes]
    (found,) = findings_of("x.tflite", hits, "static")
    assert (found["message"], found["count"]) == ("detail a", 3)
    assert [place["detail"] for place in found["places"]] == ["detail a", "detail b", "detail c"]
    assert one_line(found).startswith("x.tflite: gpu-operator: detail a; CAST 'a', layer ")
    assert one_line(found).endswith("(and 2 more places)")
