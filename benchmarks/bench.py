"""How fast is a bundle on this machine: TFLite beside ONNX Runtime and PyTorch eager, taking turns.

    document = bench(Path("build/bundle"), checkpoint, threads=1, out=Path("bench.json"))

In every round each graph runs once, and so does a matrix product; the order shifts by one from round to round.
Whatever disturbs the machine then disturbs all of them, so the ratios hold even where the milliseconds do not.
Start-up time and memory come from a separate process for each graph. Host timings do not predict phone latency.
The document follows `schema.json`, which the apps share.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from afterlens.benchmarks.device import device, load
from afterlens.benchmarks.document import SCHEMA_VERSION, check
from afterlens.benchmarks.graphs import Entry, artifacts, entries, feed_and_compare, golden_inputs, network
from afterlens.benchmarks.operators import profile_operators
from afterlens.benchmarks.probe import Figures, probe
from afterlens.benchmarks.runners import Runner, open_graph
from afterlens.benchmarks.timing import (
    MATMUL_FLOP,
    MATMUL_SIZE,
    interleave,
    ratio,
    statistics,
    yardstick,
)
from afterlens.conversion.bundle.contract import Bundle, read_bundle
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path
from afterlens.training.media.progress import progress_bar

OPERATOR_ROUNDS = 15
"""At most so many rounds for the operators: each of a few hundred runs twice a round."""

MAX_THREADS = 256
"""Runtimes start as many as they are told, and with more a machine does nothing else."""

_MATMUL = "matmul"


def bench(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    reference: str | None = None,
    runs: int = 30,
    warmup: int = 3,
    threads: int = 1,
    size: tuple[int, int] | None = None,
    operators: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Time every TFLite artifact of a bundle, and its network in PyTorch and ONNX Runtime, in turns.

    Args:
        folder: the bundle.
        checkpoint: the one it was converted from; None for the bundled one.
        reference: `package.module:function` of an external network (conversion/external.py), in its place.
        runs, warmup: counted and uncounted rounds.
        threads: of every runtime and of the matrix product.
        size: (width, height) of the artifacts to time; None for all.
        operators: also time each operator of the artifacts by itself.
        out: JSON file to write.

    Returns: the document of `schema.json`.

    Raises UserError for a bundle that is damaged or was made from another checkpoint, GateFailed where a graph
    computes something else than PyTorch does.
    """
    if runs < 1 or warmup < 0 or not 1 <= threads <= MAX_THREADS:
        raise UserError(
            f"got {runs} runs, {warmup} warm-ups, {threads} threads; expected at least 1, 0 and 1, "
            f"and at most {MAX_THREADS} threads"
        )
    bundle = read_bundle(folder)
    timed = artifacts(bundle, size)
    source = network(bundle, checkpoint, reference)
    inputs = {(artifact.width, artifact.height): golden_inputs(bundle, artifact) for artifact in timed}
    console = Console(stderr=True)
    created, load_before = datetime.now(UTC), load()
    if load_before > 1.0:
        console.print(
            f"[yellow]the machine is busy (load average {load_before:.1f}): trust the ratios, not the times[/]"
        )
    with tempfile.TemporaryDirectory(prefix="afterlens-bench-") as scratch:
        with console.status("exporting to ONNX"):
            graphs = entries(bundle, timed, source, Path(scratch), threads)
        with console.status("loading the graphs"):
            runners = {entry.id: open_graph(entry.graph) for entry in graphs}
            errors = feed_and_compare(inputs, graphs, runners)
        # No refresh thread: it would wake up in the middle of a timed run.
        with progress_bar(console=console, auto_refresh=False) as progress:
            bar = progress.add_task("start-up and memory", total=len(graphs))
            figures = {}
            for entry in graphs:
                figures[entry.id] = probe(entry.graph)
                progress.update(bar, advance=1, refresh=True)
            bar = progress.add_task("rounds", total=warmup + runs)
            samples = interleave(
                {name: runner.run for name, runner in runners.items()} | {_MATMUL: yardstick(threads)},
                warmup,
                runs,
                lambda: progress.update(bar, advance=1, refresh=True),
            )
            profiles = {}
            if operators:
                bar = progress.add_task("operators", total=len(timed))
                for entry in graphs:
                    if entry.artifact is not None:
                        profiles[entry.id] = profile_operators(
                            entry.graph.path,
                            matmul=(yardstick(threads), MATMUL_FLOP),
                            threads=threads,
                            rounds=min(runs, OPERATOR_ROUNDS),
                        )
                        progress.update(bar, advance=1, refresh=True)
    document = _document(graphs, runners, figures, errors, samples, warmup, threads)
    for result in document["results"]:
        if result["id"] in profiles:
            result["operators"] = profiles[result["id"]]
    document["created"] = created.isoformat(timespec="seconds")
    document["conditions"] = {"interleaved": True, "load_average": [load_before, load()]}
    document["input"] = _input_text(bundle)
    check(document, "the benchmark")
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def _input_text(bundle: Bundle) -> str:
    names = [golden.file for golden in bundle.contract.golden if golden.role == "input"]
    return f"the bundle's golden input of the size ({', '.join(names)})"


def _document(
    graphs: list[Entry],
    runners: dict[str, Runner],
    figures: dict[str, Figures],
    errors: dict[str, float],
    samples: dict[str, list[float]],
    warmup: int,
    threads: int,
) -> dict[str, Any]:
    matmul = MATMUL_FLOP / float(np.median(samples[_MATMUL])) / 1e6
    machine = {
        "matmul_gflops": matmul,
        "matmul_gflops_best": MATMUL_FLOP / min(samples[_MATMUL]) / 1e6,
        "matmul_size": MATMUL_SIZE,
        "threads": threads,
        "library": f"NumPy {np.__version__}",
        "samples_ms": samples[_MATMUL],
    }
    results = []
    for entry in graphs:
        timing = statistics(samples[entry.id])
        achieved = 2 * entry.macs / timing["p50_ms"] / 1e6
        runner, measured, artifact = runners[entry.id], figures[entry.id], entry.artifact
        results.append(
            {
                "id": entry.id,
                "runtime": {
                    "name": entry.graph.runtime,
                    "version": runner.version,
                    "threads": threads,
                    "compute_unit": "cpu",
                    "delegate": runner.delegate,
                },
                "artifact": {
                    "task": entry.graph.task,
                    "variant": entry.variant,
                    "width": entry.graph.width,
                    "height": entry.graph.height,
                    "file": artifact.file if artifact else None,
                    "sha256": artifact.sha256 if artifact else None,
                    "bytes": artifact.bytes if artifact else None,
                    "parameters": entry.parameters,
                    "macs": entry.macs,
                },
                "timing": {
                    "warmup": warmup,
                    "runs": len(samples[entry.id]),
                    **timing,
                    "init_ms": measured.init_ms,
                    "first_ms": measured.first_ms,
                    "peak_rss_bytes": measured.peak_rss_bytes,
                    "idle_rss_bytes": measured.idle_rss_bytes,
                    "samples_ms": samples[entry.id],
                },
                "achieved_gflops": achieved,
                "share_of_matmul": achieved / matmul,
                "max_error": errors[entry.id],
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": "measured-host",
        "device": device(),
        "machine": machine,
        "results": results,
        "ratios": _ratios(graphs, samples),
    }


def _ratios(graphs: list[Entry], samples: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Every graph against the first of its size, TFLite float32 where the bundle has it."""
    ratios = []
    baselines: dict[tuple[int, int], str] = {}
    for entry in graphs:
        baseline = baselines.setdefault((entry.graph.width, entry.graph.height), entry.id)
        if entry.id != baseline:
            against = ratio(samples[entry.id], samples[baseline])
            ratios.append({"result": entry.id, "baseline": baseline, **against})
    return ratios
