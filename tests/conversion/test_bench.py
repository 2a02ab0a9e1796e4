"""The host benchmark on a real bundle. It stands here because the bundle that all tests share does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import afterlens.benchmarks.bench as bench_module
from afterlens.benchmarks.bench import bench
from afterlens.benchmarks.document import read_document
from afterlens.benchmarks.runners import Graph, Pixels, Runner, open_graph
from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.operator_counts import operator_counts
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.reflection.task import TASK
from afterlens.training.trained import load_network
from afterlens.verbs.bench import times


@pytest.fixture(scope="module")
def measured(
    bundle: Bundle, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    return bench(bundle.folder, checkpoint, runs=4, warmup=1, operators=True, out=out), out


def test_all_runtimes_are_measured_and_the_document_is_written(
    measured: tuple[dict[str, Any], Path], bundle: Bundle
) -> None:
    document, out = measured
    assert read_document(out) == document
    assert document["provenance"] == "measured-host"
    assert [result["id"] for result in document["results"]] == [
        "TFLite float32 256x256",
        "TFLite float16 256x256",
        "ONNX Runtime float32 256x256",
        "PyTorch eager float32 256x256",
    ]
    artifacts = {artifact.file: artifact for artifact in bundle.contract.artifacts}
    for result in document["results"]:
        timing, described = result["timing"], result["artifact"]
        assert len(timing["samples_ms"]) == timing["runs"] == 4
        assert timing["min_ms"] <= timing["p50_ms"] <= timing["p90_ms"] <= timing["p99_ms"]
        assert timing["p50_ms"] == pytest.approx(float(np.median(timing["samples_ms"])))
        assert timing["idle_rss_bytes"] < timing["peak_rss_bytes"]
        assert result["achieved_gflops"] == pytest.approx(2 * described["macs"] / timing["p50_ms"] / 1e6)
        share = result["achieved_gflops"] / document["machine"]["matmul_gflops"]
        assert result["share_of_matmul"] == pytest.approx(share)
        if described["file"] is not None:
            artifact = artifacts[described["file"]]
            assert (described["sha256"], described["bytes"]) == (artifact.sha256, artifact.bytes)
            assert result["runtime"]["delegate"].startswith("XNNPACK")


def test_the_macs_are_those_of_the_network(measured: tuple[dict[str, Any], Path], checkpoint: Path) -> None:
    """Counted once more with hooks on the convolutions and linear layers, at the bundle's size."""
    import torch
    from torch import nn

    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        # A convolution gathers into each output value; a transposed one scatters each input value.
        values = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        total += values.numel() * module.weight[0].numel()

    network, _ = load_network(TASK, checkpoint)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 256, 256))
    assert measured[0]["results"][0]["artifact"]["macs"] == pytest.approx(total, rel=0.01)


def test_the_operators_of_each_artifact_are_timed_alone(
    measured: tuple[dict[str, Any], Path], bundle: Bundle
) -> None:
    document, _ = measured
    assert len(document["machine"]["samples_ms"]) == 4
    for result in document["results"]:
        assert ("operators" in result) == (result["artifact"]["file"] is not None)
        if "operators" not in result:
            continue
        found = result["operators"]
        counts = dict(operator_counts(bundle.folder / result["artifact"]["file"]).operators)
        # Widening float16 weights is done when the file loads.
        counts.pop("DEQUANTIZE", None)
        assert {entry["type"]: entry["count"] for entry in found["types"]} == counts
        assert found["outside_share"] == 0  # the network sees the whole picture
        macs = sum(
            operator["gflops"] * operator["ms"] for operator in found["operators"] if operator["gflops"]
        )
        assert macs * 1e6 / 2 == pytest.approx(result["artifact"]["macs"], rel=0.01)


def test_ratios_are_those_within_the_rounds(measured: tuple[dict[str, Any], Path]) -> None:
    document, _ = measured
    samples = {result["id"]: result["timing"]["samples_ms"] for result in document["results"]}
    assert [ratio["result"] for ratio in document["ratios"]] == list(samples)[1:]
    for ratio in document["ratios"]:
        assert ratio["baseline"] == "TFLite float32 256x256"
        pairs = zip(samples[ratio["result"]], samples[ratio["baseline"]], strict=True)
        rounds = sorted(mine / theirs for mine, theirs in pairs)
        assert ratio["p50"] == pytest.approx((rounds[1] + rounds[2]) / 2)


def test_all_runtimes_computed_the_same(measured: tuple[dict[str, Any], Path]) -> None:
    errors = {result["id"]: result["max_error"] for result in measured[0]["results"]}
    assert errors["PyTorch eager float32 256x256"] == 0.0
    assert errors["TFLite float32 256x256"] <= 1e-4, errors
    assert errors["ONNX Runtime float32 256x256"] <= 1e-4, errors
    assert errors["TFLite float16 256x256"] < 0.05, errors


def test_the_table_shows_ratios_and_the_yardstick(measured: tuple[dict[str, Any], Path]) -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(times(measured[0]))
    text = console.export_text()
    assert "1 (baseline)" in text
    ratio = measured[0]["ratios"][-1]
    assert f"{ratio['p50']:.2f} ({ratio['p10']:.2f}–{ratio['p90']:.2f})" in text
    assert "not a phone's" in text


def test_a_graph_that_computes_something_else_is_not_timed(
    bundle: Bundle, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def off(pixels: Pixels) -> Pixels:
        return pixels + np.float32(0.2)

    def open_wrong(graph: Graph) -> Runner:
        runner = open_graph(graph)
        if graph.path.name != "reflection_256x256_float16.tflite":
            return runner
        return replace(runner, picture=lambda outputs: off(runner.picture(outputs)))

    monkeypatch.setattr(bench_module, "open_graph", open_wrong)
    monkeypatch.setattr(bench_module, "probe", lambda _: None)
    with pytest.raises(GateFailed, match="TFLite float16 256x256: differs from PyTorch by 0.2"):
        bench(bundle.folder, checkpoint, runs=1, warmup=0, out=tmp_path / "bench.json")
    assert list(tmp_path.iterdir()) == []


def test_another_checkpoint_than_the_bundles_is_refused(
    bundle: Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    with pytest.raises(UserError, match="was converted from"):
        bench(bundle.folder, other)
    with pytest.raises(UserError, match="no such checkpoint"):
        bench(bundle.folder, tmp_path / "none.safetensors")


def test_a_size_that_is_not_there_lists_those_that_are(bundle: Bundle, checkpoint: Path) -> None:
    with pytest.raises(UserError, match="no TFLite artifact of 640x480, it has 256x256"):
        bench(bundle.folder, checkpoint, size=(640, 480))


def test_a_damaged_artifact_is_not_loaded(own_bundle: Bundle, checkpoint: Path) -> None:
    path = own_bundle.folder / "reflection_256x256_float16.tflite"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match="has 100000 bytes"):
        bench(own_bundle.folder, checkpoint)


def test_a_bundle_without_golden_input_is_refused(own_bundle: Bundle, checkpoint: Path) -> None:
    contract = json.loads((own_bundle.folder / "model.json").read_text())
    contract["golden"] = []
    (own_bundle.folder / "model.json").write_text(json.dumps(contract))
    with pytest.raises(UserError, match="no golden input of 256x256"):
        bench(own_bundle.folder, checkpoint, runs=1, warmup=0)
