"""The pieces of the host benchmark: taking turns, statistics, runners and the process that measures memory."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from afterlens.benchmarks import probe as probing
from afterlens.benchmarks.bench import bench
from afterlens.benchmarks.probe import probe
from afterlens.benchmarks.runners import Graph, open_graph
from afterlens.benchmarks.timing import interleave, ratio, statistics
from afterlens.training.media.errors import UserError


@pytest.fixture
def blur(tmp_path: Path) -> Graph:
    """An ONNX graph with one 3x3 convolution over 1024x768, and as second output its input."""
    weight = np.random.default_rng(0).random((3, 3, 3, 3), np.float32) / 27
    shape = [1, 3, 768, 1024]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["blurred"], pads=[1, 1, 1, 1]),
            helper.make_node("Identity", ["image"], ["same"]),
        ],
        "blur",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("same", "blurred")],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path / "blur.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, path)
    return Graph("onnxruntime", path, "blur", 768, 1024, ("image",), "blurred", 1)


def test_every_call_runs_once_a_round_in_shifting_order() -> None:
    log: list[str] = []
    rounds = []
    calls = {name: lambda name=name: log.append(name) for name in "abc"}
    samples = interleave(calls, warmup=1, runs=4, after_round=lambda: rounds.append(len(log)))
    assert "".join(log) == "abcbcacababcbca"
    assert rounds == [3, 6, 9, 12, 15]
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(time > 0 for times in samples.values() for time in times)


def test_percentiles_lie_between_the_neighbours_as_the_formula_says() -> None:
    times = [float(value) for value in range(1, 102)]  # 1 to 101: percentile p is p + 1
    random.Random(0).shuffle(times)
    assert statistics(times) == {
        "p50_ms": 51.0,
        "p90_ms": pytest.approx(91.0),
        "p99_ms": pytest.approx(100.0),
        "mean_ms": 51.0,
        "min_ms": 1.0,
    }
    assert statistics([3.0])["p99_ms"] == 3.0


def test_ratios_do_not_move_when_a_disturbance_hits_both() -> None:
    calm = [10.0] * 20
    disturbed = [10.0 if i < 8 else 35.0 for i in range(20)]
    assert ratio([2 * time for time in disturbed], disturbed) == {"p50": 2.0, "p10": 2.0, "p90": 2.0}
    assert ratio(calm, [5.0] * 20)["p50"] == 2.0


def test_a_runner_computes_its_graph_and_finds_the_output_by_name(blur: Graph) -> None:
    image = np.random.default_rng(1).random((1, 3, 768, 1024), np.float32)
    runner = open_graph(blur)
    runner.feed(image)
    got = runner.picture(runner.run())
    weight = np.random.default_rng(0).random((3, 3, 3, 3), np.float32) / 27
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)))
    expected = np.zeros((3, 768, 1024))
    for y in range(3):
        for x in range(3):
            window = padded[:, y : y + 768, x : x + 1024]
            expected += np.einsum("oi,ihw->ohw", weight[:, :, y, x], window)
    assert got.shape == (1, 3, 768, 1024)
    assert np.abs(got[0] - expected).max() < 1e-5


def test_the_probe_measures_its_own_process_and_not_the_one_that_started_it(blur: Graph) -> None:
    # Linux hands the highest memory of the starting process on to the started one in getrusage.
    ballast = np.ones((768 << 20) // 8)
    figures = probe(blur)
    assert ballast[0] == 1.0
    image_bytes = 3 * 768 * 1024 * 4
    assert figures.peak_rss_bytes < 400e6, figures
    assert figures.peak_rss_bytes - figures.idle_rss_bytes > 2 * image_bytes, figures  # two outputs at least
    assert figures.init_ms > 0 and figures.first_ms > 0


def test_loading_feeding_and_the_first_run_are_told_apart(
    blur: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only these three move."""
    now = [100.0]

    def takes(seconds: float) -> Callable[..., None]:
        def work(*_: object) -> None:
            now[0] += seconds

        return work

    def opened(_: Graph) -> SimpleNamespace:
        now[0] += 0.5
        return SimpleNamespace(feed=takes(0.25), run=takes(2.0))

    monkeypatch.setattr(probing, "open_graph", opened)
    monkeypatch.setattr(probing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(probing, "_memory", {"VmRSS": 10, "VmHWM": 70}.__getitem__)
    figures = probing.measure(blur)
    assert (figures.init_ms, figures.first_ms) == (500.0, 2000.0)
    assert (figures.idle_rss_bytes, figures.peak_rss_bytes) == (10, 70)


def test_a_probe_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(UserError, match="broken.onnx: could not be measured with onnxruntime") as caught:
        probe(Graph("onnxruntime", broken, "blur", 8, 8, ("image",), "blurred", 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"runs": 0}, {"warmup": -1}, {"threads": 0}])
def test_impossible_counts_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected at least 1, 0 and 1"):
        bench(tmp_path, **options)  # type: ignore[arg-type]


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(UserError, match="model.json"):
        bench(tmp_path)
