"""More than one thread: the number that was asked for reaches every runtime."""

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from afterlens.benchmarks.bench import bench
from afterlens.benchmarks.compare import slowdown_interval
from afterlens.benchmarks.graphs import artifacts, entries, network
from afterlens.benchmarks.runners import Graph, open_graph
from afterlens.benchmarks.timing import yardstick
from afterlens.conversion.bundle.contract import Bundle
from afterlens.training.media.errors import UserError


def threads_of(graph: Graph, images: int) -> int:
    """How many threads more this process has once the graph has run."""
    before = psutil.Process().num_threads()
    runner = open_graph(graph)
    shape = (1, 3, graph.height, graph.width)
    runner.feed(*(np.zeros(shape, np.float32) for _ in range(images)))
    runner.run()
    found = psutil.Process().num_threads() - before
    del runner
    return found


@pytest.mark.parametrize("runtime", ["tflite", "onnxruntime"])
def test_a_runtime_starts_as_many_threads_as_asked_for(
    bundle: Bundle, checkpoint: Path, tmp_path: Path, runtime: str
) -> None:
    chosen = artifacts(bundle, None)[:1]
    found = entries(bundle, chosen, network(bundle, checkpoint, None), tmp_path, threads=1)
    graph = next(entry.graph for entry in found if entry.graph.runtime == runtime)
    one, three = threads_of(graph, 1), threads_of(replace(graph, threads=3), 1)
    assert three >= one + 2, (one, three)


def test_pytorch_and_the_yardstick_take_the_number_too(
    bundle: Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    found = entries(
        bundle, artifacts(bundle, None)[:1], network(bundle, checkpoint, None), tmp_path, threads=3
    )
    assert {entry.graph.threads for entry in found} == {3}
    try:
        open_graph(next(entry.graph for entry in found if entry.graph.runtime == "pytorch"))
        assert torch.get_num_threads() == 3
        yardstick(2)
        numpys = [p for p in threadpool_info() if p["user_api"] == "blas" and "numpy" in p["filepath"]]
        assert {pool["num_threads"] for pool in numpys} == {2}
    finally:
        torch.set_num_threads(before)
        yardstick(1)


def test_more_threads_than_any_machine_has_are_refused(bundle: Bundle) -> None:
    for threads in (257, 10**20):
        with pytest.raises(UserError, match="at most 256 threads"):
            bench(bundle.folder, threads=threads)


def test_the_interval_is_the_one_of_95_percent() -> None:
    """Against theory: of n draws the median is at most the k-th value if more than half of them are."""
    count = 31
    new = np.arange(1.0, count + 1)

    def at_most(k: int) -> float:
        share = k / count
        return sum(
            comb(count, m) * share**m * (1 - share) ** (count - m) for m in range(count // 2 + 1, count + 1)
        )

    def rank(probability: float) -> int:
        return next(k for k in range(1, count + 1) if at_most(k) >= probability)

    low, high = slowdown_interval(np.ones(count), new)
    assert abs(low + 1 - rank(0.025)) <= 0.5 and abs(high + 1 - rank(0.975)) <= 0.5, (low, high)
    assert rank(0.025) < rank(0.05) and rank(0.95) < rank(0.975)  # an interval of 90 % is another one
