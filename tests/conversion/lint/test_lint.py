"""Networks with known faults: what `lint` says of them, and that it says nothing of sound ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    Contract,
    TensorSpec,
    digest,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.coreml.convert import convert_coreml
from afterlens.conversion.lint.gpu import GPU_OPERATORS
from afterlens.conversion.lint.graph import Graph, read_graph
from afterlens.conversion.lint.lint import lint, require
from afterlens.conversion.lint.ranges import Range, _add, measure_ranges
from afterlens.conversion.lint.rules import CATEGORIES, RULES, markdown
from afterlens.conversion.mil.package import read_package
from afterlens.conversion.tflite.graph import pack
from afterlens.conversion.tflite.scales import quantized_weights
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import fit, read_photo

SIDE = 64
FLOAT32, FLOAT16, INT32, BOOL, INT16, INT8 = 0, 1, 2, 6, 7, 9  # TensorType


# --- small networks, converted --------------------------------------------------------------------------------


class Loud(nn.Module):
    """Multiplies a convolution up beyond float16 and down again, adds up a large mean, and has a tiny constant."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            self.stem.weight.fill_(1 / 27)
            self.stem.bias = None
            self.mix.weight.fill_(1e-3)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        features = torch.relu(self.stem(image))
        loud = torch.sigmoid(features) * features * 6e4  # up to 43 900 on white: high, but inside
        louder = loud + torch.relu(features) * 4e4  # 83 900
        mean = torch.mean(features * 30.0, dim=(2, 3), keepdim=True)
        quiet = self.mix(torch.relu(louder * 1e-5))
        return (torch.clip(image + quiet * 0.002 + mean[:, :3] * 1e-9, 0.0, 1.0),)


class Folded(nn.Module):
    """Correct numbers, and operators that leave the Neural Engine."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=2, dilation=2)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.clamp(self.stem(image), max=9.0)  # its other limit is infinite, as it should be
        folded = x.reshape(1, 16, SIDE, SIDE // 2, 2).permute(0, 4, 1, 2, 3)
        top = torch.topk(folded.reshape(1, 2, -1).mean(dim=1), 5, dim=1).values
        return (torch.clip(image + folded.sum(dim=1).mean() + top.mean(), 0.0, 1.0),)


def deployable(module: nn.Module) -> Deployable:
    ports = [Port(name, (1, 3, SIDE, SIDE), (0.0, 1.0), meaning=name) for name in ("image", "restored")]
    return Deployable(module.eval(), "reflection", "Test", "1", (ports[0],), (ports[1],))


def artifact(path: Path) -> Artifact:
    coreml = path.suffix == ".mlpackage"
    sha256, size = digest(path)
    shape = (SIDE, SIDE, 3) if coreml else (1, SIDE, SIDE, 3)
    top = 255.0 if coreml else 1.0
    layout: Any = "image" if coreml else "NHWC"
    dtype: Any = "uint8" if coreml else "float32"
    ports = [
        TensorSpec(name, shape, layout, dtype, (0.0, top), "sRGB", name) for name in ("image", "restored")
    ]
    kind: Any = "coreml" if coreml else "tflite"
    variant = "float16" if coreml else "float32"
    inputs, outputs = (ports[0],), (ports[1],)
    return Artifact(
        path.name, kind, variant, SIDE, SIDE, sha256, size, "iOS 16, macOS 13", inputs, outputs, 1, 1
    )


def sealed(folder: Path) -> Bundle:
    """A bundle of the files that lie in a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".tflite", ".mlpackage"))
    provenance = {"checkpoint_sha256": "0" * 64, "recipe": {}, "data_licence": "CC BY 4.0", "tools": {}}
    write_contract(
        folder, Contract("reflection", "Test", "1", tuple(artifact(path) for path in files), (), provenance)
    )
    return read_bundle(folder)


def converted(folder: Path, module: nn.Module) -> Bundle:
    convert_coreml(deployable(module), folder / f"net_{SIDE}x{SIDE}_float16.mlpackage")
    return sealed(folder)


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return converted(tmp_path_factory.mktemp("loud"), Loud())


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    return converted(tmp_path_factory.mktemp("folded"), Folded())


def by_rule(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["rule"]: finding for finding in report["findings"]}


def package(bundle: Bundle) -> Path:
    return next(bundle.folder.glob("*.mlpackage"))


# --- ranges ---------------------------------------------------------------------------------------------------


def test_an_overflow_is_named_with_its_tensor_layer_and_picture(loud: Bundle, photo_path: Path) -> None:
    report = lint(loud.folder, [photo_path], fail_on=["range"])
    found = by_rule(report)
    overflow = found["fp16-overflow"]
    assert overflow["severity"] == "error" and overflow["provenance"] == "reference-execution"
    assert [(place["operator"], place["layer"]) for place in overflow["places"]] == [("add", "after stem")]
    assert "largest finite one 8.389e+04 on white" in overflow["message"]
    high = found["fp16-headroom"]["places"]  # the two that it adds
    assert [place["operator"] for place in high] == ["mul", "mul"]
    assert "4.388e+04 on white, 1.5 times below the end" in high[0]["detail"]
    with pytest.raises(GateFailed, match="fp16-overflow: .* infinite in float16, .*layer after stem"):
        require(report)
    require(lint(loud.folder, [photo_path], fail_on=["dynamic"]))
    # Notes are no failures.
    precision = lint(loud.folder, [photo_path], fail_on=["precision"])
    assert {"fp16-epsilon", "fp16-subnormal"} <= set(by_rule(precision))
    assert [line.split(": ")[1] for line in precision["failed"]] == ["fp16-epsilon"]
    require(lint(loud.folder, [photo_path]))


def test_the_largest_values_are_what_pytorch_computes(loud: Bundle, photo_path: Path) -> None:
    """The executor's hook against PyTorch, on the same 8-bit picture."""
    levels = to_levels(fit(read_photo(photo_path).rgb, SIDE, SIDE))
    path = package(loud)
    ranges = measure_ranges(path, read_graph(path), {"photo": {"image": levels}})
    image = torch.from_numpy(levels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = Loud().stem(image)
    (conv,) = [range_ for range_ in ranges if range_.layer == "stem"]
    (mean,) = [range_ for range_ in ranges if range_.operator == "reduce_mean"]
    # Weights are rounded to float16, 1 / 2048 at most.
    assert conv.max_abs == pytest.approx(float(features.abs().max()), rel=1e-3)
    assert conv.values == features.numel() and conv.margin == pytest.approx(65504 / conv.max_abs)
    assert mean.largest_sum == pytest.approx(float((features.relu() * 30).sum(dim=(2, 3)).max()), rel=1e-3)
    assert [range_.largest_sum for range_ in ranges if range_ is not mean] == [None] * (len(ranges) - 1)


def test_a_sum_that_overflows_behind_a_small_mean_is_named(loud: Bundle, photo_path: Path) -> None:
    finding = by_rule(lint(loud.folder, [photo_path]))["fp16-sum"]
    # 64 x 64 values of up to 30 on white, less at the edges.
    assert finding["message"] == "adds up to 1.204e+05 on the way to 29.39"
    assert finding["places"][0]["operator"] == "reduce_mean"
    assert finding["source"].endswith("LiteRT/issues/9249")


def test_a_constant_that_float16_loses_is_named(loud: Bundle, photo_path: Path) -> None:
    finding = by_rule(lint(loud.folder, [photo_path]))["fp16-epsilon"]
    assert finding["severity"] == "warning" and finding["category"] == "precision"
    # coremltools makes 6e-8 of 1e-9, the smallest that float16 has.
    details = [place["detail"] for place in finding["places"]]
    assert details == ["1e-05 is subnormal in float16", "5.96e-08 is subnormal in float16"]


def test_streamed_statistics_are_those_of_all_values_at_once() -> None:
    generator = np.random.default_rng(0)
    parts = [
        (generator.standard_normal((3, 50)) * 10.0 ** generator.uniform(-9, 5.2, (3, 50))).astype(np.float32)
        for _ in range(4)
    ]
    parts[1][0, :3] = [np.inf, -np.inf, np.nan]
    parts[2][1, :2] = [0.0, 65520.0]
    range_ = Range("x", "add", "unknown", "float16")
    for index, part in enumerate(parts):
        _add(range_, part, f"picture {index}", 7)
    values = np.abs(np.concatenate([part.reshape(-1) for part in parts]))
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        halves = finite.astype(np.float16)
    assert range_.values == values.size and range_.not_finite == 3
    assert range_.max_abs == finite.max() and range_.largest_sum == 7 * range_.max_abs
    assert (
        range_.picture
        == f"picture {int(np.argmax([np.nanmax(np.where(np.isfinite(p), abs(p), 0)) for p in parts]))}"
    )
    assert range_.overflowing == np.count_nonzero(np.isinf(halves)) > 0
    assert range_.high == np.count_nonzero(finite > 3e4) > range_.overflowing
    tiny = np.finfo(np.float16).smallest_normal
    assert range_.subnormal == np.count_nonzero((finite > 0) & (finite < tiny)) > 0
    assert range_.vanishing == np.count_nonzero((finite > 0) & (halves == 0)) > 0


# --- Core ML --------------------------------------------------------------------------------------------------


def test_operators_that_leave_the_neural_engine_are_named(folded: Bundle, photo_path: Path) -> None:
    found = by_rule(lint(folded.folder, [photo_path]))
    assert {"ane-rank-5", "ane-transpose", "ane-topk", "ane-dilation"} <= set(found)
    assert "ane-float32" not in found  # the casts at the doors are not counted
    infinite = [c for c in read_graph(package(folded)).constants if np.isinf(c.value).any()]
    assert len(infinite) == 1 and "fp16-constant" not in found
    assert found["ane-dilation"]["places"][0]["layer"] == "stem"
    assert found["ane-transpose"]["places"][0]["layer"] == "after stem"
    assert found["ane-transpose"]["provenance"] == "inferred"
    assert "(1, 16, 64, 32, 2)" in found["ane-transpose"]["message"]
    # 32 768 rows of two values, 4 of 64 bytes each.
    assert "(1, 2, 16, 64, 32) takes" not in str(found)
    assert found["ane-last-axis"]["message"] == "reshape (1, 16, 64, 32, 2) takes 2.0 MB more than it holds"


def test_float32_operators_are_named(loud: Bundle, tmp_path: Path) -> None:
    graph = read_graph(package(loud))
    nodes = tuple(
        replace(node, outputs=tuple(replace(tensor, dtype="float32") for tensor in node.outputs))
        if node.operator == "conv"
        else node
        for node in graph.nodes
    )
    assert rules_of(replace(graph, nodes=nodes), coreml=True)["ane-float32"] == 2  # two convolutions
    assert "ane-float32" not in rules_of(graph, coreml=True)


def test_a_flexible_package_is_named(loud: Bundle, photo_path: Path, tmp_path: Path) -> None:
    bundle = copy_of(loud, tmp_path)
    saved = read_package(package(bundle))
    (function,) = saved.model.mlProgram.functions.values()
    dimension = function.inputs[0].type.tensorType.dimensions[2]
    dimension.Clear()
    dimension.unknown.variadic = False
    next(package(bundle).rglob("*.mlmodel")).write_bytes(saved.model.SerializeToString())
    sealed(bundle.folder)
    report = lint(bundle.folder, [photo_path], fail_on=["dynamic"])
    found = by_rule(report)
    assert "(1, 3, ?, 64)" in found["ane-dynamic"]["message"]
    with pytest.raises(GateFailed, match="ane-dynamic"):
        require(report)


def test_a_package_that_our_executor_cannot_run_is_not_passed_over(
    loud: Bundle, photo_path: Path, tmp_path: Path
) -> None:
    bundle = copy_of(loud, tmp_path)
    saved = read_package(package(bundle))
    (function,) = saved.model.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    next(operation for operation in block.operations if operation.type == "silu").type = "lstm"
    next(package(bundle).rglob("*.mlmodel")).write_bytes(saved.model.SerializeToString())
    sealed(bundle.folder)
    report = lint(bundle.folder, [photo_path], fail_on=["range"])
    found = by_rule(report)
    assert found["ane-recurrent"]["places"][0]["layer"] == "after stem"
    assert report["ranges"][0]["tensors"] == [] and "'lstm'" in report["ranges"][0]["not_measured"]
    assert found["fp16-unmeasured"]["provenance"] == "inferred"
    with pytest.raises(GateFailed, match="fp16-unmeasured"):
        require(report)


def test_compressed_weights_are_constants_and_keep_their_layer(loud: Bundle, tmp_path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(package(loud)), skip_model_load=True)
    settings = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    compressed = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=settings))
    compressed.save(str(tmp_path / "int8.mlpackage"))
    graph = read_graph(tmp_path / "int8.mlpackage")
    assert any(
        "constexpr" in op.type
        for function in read_package(tmp_path / "int8.mlpackage").model.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for op in block.operations
    )
    assert not any("constexpr" in node.operator for node in graph.nodes)
    assert [node.layer for node in graph.nodes if node.operator == "conv"] == ["stem", "after stem"]


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


def rules_of(graph: Graph, coreml: bool = False) -> dict[str, int]:
    from afterlens.conversion.lint.gpu import gpu_hits
    from afterlens.conversion.lint.neural_engine import neural_engine_hits

    hits = (neural_engine_hits if coreml else gpu_hits)(graph)
    return {rule: len(list(group)) for rule, group in itertools.groupby(sorted(hit.rule for hit in hits))}


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


def test_constants_are_judged_by_what_float16_makes_of_them(
    tmp_path: Path, loud: Bundle, photo_path: Path
) -> None:
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


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "net.tflite", [VALUE, VALUE], [("RELU", 1, [0], [7], None)])
    with pytest.raises(UserError, match="damaged") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)


# --- the command ----------------------------------------------------------------------------------------------


def copy_of(bundle: Bundle, folder: Path) -> Bundle:
    import shutil

    return read_bundle(Path(shutil.copytree(bundle.folder, folder / "bundle")))


def test_the_command_gates_by_category(cli: Callable[..., Any], loud: Bundle, photo_path: Path) -> None:
    shared = ("lint", loud.folder, "--photo", photo_path, "--json")
    result = cli(*shared, "--fail-on", "fallback", "--fail-on", "range")
    assert result.code == 1
    assert result.stderr.splitlines()[-1].startswith("error: gate failed: net_64x64_float16.mlpackage: fp16-")
    report = json.loads(result.stdout)
    assert report["fail_on"] == ["fallback", "range"] and report["failed"]
    assert all(finding["rule"] in report["rules"] for finding in report["findings"])
    assert {"flat", "bright", "dark", "black", "white", "room.jpg"} <= set(report["ranges"][0]["pictures"])
    assert cli(*shared, "--fail-on", "dynamic").code == 0
    wrong = cli(*shared, "--fail-on", "speed")
    assert wrong.code == 2 and "expected one of fallback, dynamic" in wrong.stderr
    table = cli("lint", loud.folder, "--photo", photo_path)
    assert table.code == 0 and "fp16-overflow" in table.stdout and "Nothing ran on a phone" in table.stdout


def test_a_file_that_was_changed_is_refused(cli: Callable[..., Any], loud: Bundle, tmp_path: Path) -> None:
    bundle = copy_of(loud, tmp_path)
    next(package(bundle).rglob("weight.bin")).write_bytes(b"x")
    result = cli("lint", bundle.folder)
    assert result.code == 2 and "convert again" in result.stderr


def test_the_bundled_network_has_notes_only(bundle: Bundle, photo_path: Path) -> None:
    report = lint(bundle.folder, [photo_path], fail_on=list(CATEGORIES))
    require(report)
    assert {finding["severity"] for finding in report["findings"]} == {"note"}
    (measured,) = report["ranges"]
    assert 0 < max(tensor["max_abs"] for tensor in measured["tensors"]) < 3e4
    graphs = {a.file: read_graph(bundle.path(a)) for a in bundle.contract.artifacts if a.format == "coreml"}
    (reference,) = graphs.values()
    convolutions = {node.layer for node in reference.nodes if node.operator in ("conv", "conv_transpose")}
    for entry in bundle.contract.artifacts:
        if entry.format == "tflite":
            graph = read_graph(bundle.path(entry), reference.weights)
            found = [node.layer for node in graph.nodes if node.operator in ("CONV_2D", "TRANSPOSE_CONV")]
            assert sorted(found) == sorted(convolutions)  # every one told, none twice


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
