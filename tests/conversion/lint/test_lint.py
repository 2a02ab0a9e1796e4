"""Networks with known faults: what `lint` says of them, and that it says nothing of sound ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import (
    Bundle,
    read_bundle,
)
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.coreml.convert import convert_coreml
from afterlens.conversion.lint import graph
from afterlens.conversion.lint.graph import Node, read_graph
from afterlens.conversion.lint.lint import lint, require
from afterlens.conversion.lint.ranges import Range, _add, measure_ranges, terms
from afterlens.conversion.lint.rules import CATEGORIES
from afterlens.conversion.mil.package import read_package
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed
from afterlens.training.media.images import fit, read_photo
from afterlens.verbs.lint import findings
from tests.conversion.lint.bundles import SIDE, by_rule, rules_of, sealed

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


@pytest.mark.parametrize(
    ("operator", "before", "after", "options", "count"),
    [
        ("MEAN", (1, 8, 6, 4), (1, 1, 1, 4), {}, 48),
        ("reduce_mean", (1, 4, 8, 6), (1, 4), {}, 48),
        ("MEAN", (1, None, 6, 4), (1, 1, 1, 4), {}, None),
        ("MEAN", (1, 8, 6, 4), (None, 4), {}, None),
        ("MEAN", (1, 0, 6, 4), (1, 4), {}, None),
        ("avg_pool", (1, 4, 8, 6), (1, 4, 4, 2), {"kernel_sizes": [2, 3]}, 6),
        ("CONV_2D", (1, 8, 6, 4), (1, 8, 6, 4), {}, None),
    ],
)
def test_how_many_values_are_summed_up(
    operator: str,
    before: tuple[int | None, ...],
    after: tuple[int | None, ...],
    options: dict[str, Any],
    count: int | None,
) -> None:
    """Nothing is said of shapes that are not fixed. The axes, a constant, are no values."""
    inputs = (
        graph.Tensor("axes", "int32", (2,), constant=True),
        graph.Tensor("in", "float32", before),
    )
    assert terms(Node(operator, 1, inputs, (graph.Tensor("out", "float32", after),), options)) == count


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


def tensor(name: str, largest: float, margin: float | None, total: float = 0.0) -> dict[str, Any]:
    places = {"tensor": name, "operator": "conv", "layer": "stem", "picture": "flat"}
    numbers = {"max_abs": largest, "margin": margin, "subnormal_share": 0.125, "largest_sum": total}
    return {**places, **numbers}


def test_people_see_the_largest_values_first_and_what_was_not_measured() -> None:
    measured = [tensor("a", 5.0, 13101.0, 20.0), tensor("b", 300.0, 218.3), tensor("c", 0.0, None, 80.0)]
    common = {"file": "net.mlpackage", "pictures": ["flat", "room.jpg"]}
    report = {
        "task": "net",
        "version": "1",
        "findings": [],
        "ranges": [
            {**common, "width": 96, "height": 64, "not_measured": "no operator 'lstm'", "tensors": []},
            {**common, "width": 48, "height": 32, "not_measured": None, "tensors": measured},
        ],
    }
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(findings(report, shown=2))
    text = console.export_text()
    print(text)
    assert text.splitlines()[:2] == ["No rule fired.", "96x64: ranges not measured: no operator 'lstm'"]
    assert text.count("largest values") == 1 and "48x32: largest values, net.mlpackage on 2 pictures" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [
        ["b", "conv", "stem", "flat", "300", "218", "12.50%"],
        ["a", "conv", "stem", "flat", "5", "13101", "12.50%"],
    ]
    # 65504 / 80
    assert "48x32: largest sum behind a mean: 80, 818.8 times below 65504 (c, stem)" in text
    assert text.rstrip().endswith("Nothing ran on a phone.")


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
