"""How fast is a bundle on this machine: TFLite beside ONNX Runtime and PyTorch eager, taking turns.

    document = bench(Path("build/bundle"), checkpoint, threads=1, out=Path("bench.json"))

In every round each graph runs once, and so does a matrix product; the order shifts by one from round to round.
What disturbs the machine then disturbs all of them, so that the ratios hold where the milliseconds do not.
Start-up time and memory come from a process of its own for each graph. These are times of this host: they
say nothing of a phone. The document follows `schema.json`, which the apps share.
"""

import gc
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from afterlens.benchmarks.document import SCHEMA_VERSION, check
from afterlens.benchmarks.operators import profile_operators
from afterlens.benchmarks.probe import Figures, probe
from afterlens.benchmarks.runners import Graph, Pixels, Runner, open_graph
from afterlens.conversion.bundle.contract import Artifact, Bundle, digest, integrity_fault, read_bundle
from afterlens.conversion.external import references, refuse_unnamed
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import atomic_path, read_photo
from afterlens.training.media.progress import progress_bar
from afterlens.training.tasks import TASKS, find_task
from afterlens.training.trained import load_network

MATMUL_SIZE = 1024
"""Side of the square float32 matrices whose product is the machine's yardstick: 2.1 GFLOP, 12 MB."""

WRONG_RESULT = 0.1
"""A graph further than this from PyTorch computes something else, and its time would mean nothing."""

OPERATOR_ROUNDS = 15
"""At most so many for the operators alone: every one of a few hundred runs twice in each."""

PAUSE = 0.003
"""Seconds of rest before each timed run: thread pools keep spinning for a while after theirs, on our cores."""

_NAMES = {"tflite": "TFLite", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch eager"}


@dataclass(frozen=True)
class Entry:
    """A graph to be timed, and what is known of it beforehand."""

    id: str
    graph: Graph
    variant: str
    artifact: Artifact | None  # None for PyTorch and ONNX, which are no part of the bundle
    parameters: int
    macs: int


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
        checkpoint: that it was converted from; None for the one that comes with the task.
        reference: `package.module:function` of another team's network (conversion/external.py), in its place.
        runs, warmup: counted and uncounted rounds.
        threads: of every runtime and of the matrix product.
        size: (width, height) of the artifacts to time; None for all.
        operators: time the operators of each artifact too, each one alone.
        out: JSON file to write.

    Returns: the document of `schema.json`.

    Raises UserError for a bundle that is damaged or was made from another checkpoint, GateFailed where a graph
    computes something else than PyTorch does.
    """
    if runs < 1 or warmup < 0 or threads < 1:
        raise UserError(
            f"got {runs} runs, {warmup} warm-ups, {threads} threads; expected at least 1, 0 and 1"
        )
    bundle = read_bundle(folder)
    artifacts = _artifacts(bundle, size)
    network = _network(bundle, checkpoint, reference)
    inputs = {(artifact.width, artifact.height): _golden(bundle, artifact) for artifact in artifacts}
    console = Console(stderr=True)
    created, load_before = datetime.now(UTC), _load()
    if load_before > 1.0:
        console.print(
            f"[yellow]the machine is busy (load average {load_before:.1f}): trust the ratios, not the times[/]"
        )
    with tempfile.TemporaryDirectory(prefix="afterlens-bench-") as scratch:
        with console.status("exporting to ONNX"):
            entries = _entries(bundle, artifacts, network, Path(scratch), threads)
        with console.status("loading the graphs"):
            runners = {entry.id: open_graph(entry.graph) for entry in entries}
            errors = _feed_and_compare(inputs, entries, runners)
        # No refresh thread: it would wake up in the middle of somebody's time.
        with progress_bar(console=console, auto_refresh=False) as progress:
            bar = progress.add_task("start-up and memory", total=len(entries))
            figures = {}
            for entry in entries:
                figures[entry.id] = probe(entry.graph)
                progress.update(bar, advance=1, refresh=True)
            bar = progress.add_task("rounds", total=warmup + runs)
            samples = interleave(
                {name: runner.run for name, runner in runners.items()} | {_MATMUL: _matmul(threads)},
                warmup,
                runs,
                lambda: progress.update(bar, advance=1, refresh=True),
            )
            profiles = {}
            if operators:
                bar = progress.add_task("operators", total=len(artifacts))
                for entry in entries:
                    if entry.artifact is not None:
                        profiles[entry.id] = profile_operators(
                            entry.graph.path,
                            matmul=(_matmul(threads), 2 * MATMUL_SIZE**3),
                            threads=threads,
                            rounds=min(runs, OPERATOR_ROUNDS),
                        )
                        progress.update(bar, advance=1, refresh=True)
    document = _document(entries, runners, figures, errors, samples, warmup, threads)
    for result in document["results"]:
        if result["id"] in profiles:
            result["operators"] = profiles[result["id"]]
    document["created"] = created.isoformat(timespec="seconds")
    document["conditions"] = {"interleaved": True, "load_average": [load_before, _load()]}
    document["input"] = _input_text(bundle)
    check(document, "the benchmark")
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def interleave(
    calls: Mapping[str, Callable[[], object]],
    warmup: int,
    runs: int,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Run every call once a round and return the milliseconds of the counted rounds, by name.

    The order shifts by one each round, so that no call always follows the same other one.
    """
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(warmup + runs):
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            milliseconds = _timed(calls[name])
            if round_number >= warmup:
                samples[name].append(milliseconds)
        after_round()
    return samples


def statistics(samples: Sequence[float]) -> dict[str, float]:
    """Percentiles (linear between neighbours), mean and minimum of times in ms, under the names of the schema."""
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": float(np.mean(samples)),
        "min_ms": min(samples),
    }


def ratio(samples: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """How many times as long as the baseline: percentiles of the ratios within each round."""
    p50, p10, p90 = np.percentile(np.divide(samples, baseline), (50, 10, 90)).tolist()
    return {"p50": p50, "p10": p10, "p90": p90}


_MATMUL = "matmul"


@dataclass(frozen=True)
class _Network:
    """What the bundle was converted from."""

    deployable: Callable[[int, int], Deployable]  # height, width
    path: Path  # as in `Graph`
    reference: str | None


def _network(bundle: Bundle, checkpoint: Path | None, reference: str | None) -> _Network:
    if reference is not None:
        if checkpoint is not None:
            raise UserError(f"got checkpoint {checkpoint} and reference {reference}, expected one of them")
        found = references(bundle.contract, reference)
        return _Network(lambda height, width: found[height, width], Path(reference), reference)
    refuse_unnamed(bundle.contract, TASKS)
    task = find_task(bundle.contract.task)
    checkpoint = checkpoint or task.pretrained
    _require_same_checkpoint(bundle, checkpoint)
    weights = load_network(task, checkpoint)[0]
    return _Network(lambda height, width: task.deployable(weights, height, width), checkpoint, None)


def _require_same_checkpoint(bundle: Bundle, checkpoint: Path) -> None:
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such checkpoint; give the one that the bundle was converted from")
    expected, got = bundle.contract.provenance["checkpoint_sha256"], digest(checkpoint)[0]
    if got != expected:
        raise UserError(
            f"{checkpoint}: its sha256 begins with {got[:12]}, the bundle was converted from {expected[:12]}...; "
            "give that checkpoint, or convert again"
        )


def _artifacts(bundle: Bundle, size: tuple[int, int] | None) -> list[Artifact]:
    """The TFLite artifacts to time, whole ones; the smallest size first."""
    tflite = [artifact for artifact in bundle.contract.artifacts if artifact.format == "tflite"]
    chosen = [artifact for artifact in tflite if size is None or (artifact.width, artifact.height) == size]
    if not chosen:
        sizes = sorted({f"{artifact.width}x{artifact.height}" for artifact in tflite})
        wanted = "" if size is None else f" of {size[0]}x{size[1]}"
        raise UserError(f"{bundle.folder}: no TFLite artifact{wanted}, it has {', '.join(sizes) or 'none'}")
    for artifact in chosen:
        if fault := integrity_fault(bundle.folder, artifact):
            raise UserError(f"{fault}; convert again")
    return sorted(
        chosen, key=lambda artifact: (artifact.width * artifact.height, artifact.variant != "float32")
    )


def _entries(
    bundle: Bundle, artifacts: list[Artifact], network: _Network, scratch: Path, threads: int
) -> list[Entry]:
    """The artifacts and, once for every size, the same network in PyTorch and ONNX Runtime."""
    from afterlens.conversion.tflite.onnx_export import export_onnx

    entries: list[Entry] = []

    def add(runtime: str, path: Path, variant: str, like: Artifact, artifact: Artifact | None) -> None:
        graph = Graph(
            runtime,
            path,
            deployable.task,
            like.height,
            like.width,
            tuple(port.name for port in deployable.inputs),
            deployable.outputs[0].name,
            threads,
            network.reference if runtime == "pytorch" else None,
        )
        name = f"{_NAMES[runtime]} {variant} {like.width}x{like.height}"
        entries.append(Entry(name, graph, variant, artifact, like.parameters, like.macs))

    for width, height in dict.fromkeys((artifact.width, artifact.height) for artifact in artifacts):
        alike = [artifact for artifact in artifacts if (artifact.width, artifact.height) == (width, height)]
        deployable = network.deployable(height, width)
        for artifact in alike:
            add("tflite", bundle.path(artifact), artifact.variant, artifact, artifact)
        onnx = scratch / f"{width}x{height}.onnx"
        export_onnx(deployable, onnx)
        add("onnxruntime", onnx, "float32", alike[0], None)
        add("pytorch", network.path, "float32", alike[0], None)
    return entries


def _feed_and_compare(
    inputs: Mapping[tuple[int, int], Mapping[str, Pixels]],
    entries: Sequence[Entry],
    runners: Mapping[str, Runner],
) -> dict[str, float]:
    """Give every runner the photos of its size; largest difference of its first output from PyTorch's, by id."""
    errors: dict[str, float] = {}
    reference: dict[tuple[int, int], Pixels] = {}
    for entry in sorted(entries, key=lambda entry: entry.graph.runtime != "pytorch"):
        runner, size = runners[entry.id], (entry.graph.width, entry.graph.height)
        runner.feed(*(inputs[size][name] for name in entry.graph.inputs))
        picture = np.array(runner.picture(runner.run()), np.float32)
        expected = reference.setdefault(size, picture)
        if picture.shape != expected.shape:
            raise GateFailed(f"{entry.id}: gives {picture.shape}, PyTorch gives {expected.shape}")
        errors[entry.id] = float(np.abs(picture - expected).max())
        if not errors[entry.id] <= WRONG_RESULT:  # NaN too
            raise GateFailed(
                f"{entry.id}: differs from PyTorch by {errors[entry.id]:.3f} of [0, 1]; a wrong graph is not timed"
            )
    return errors


def _golden(bundle: Bundle, artifact: Artifact) -> dict[str, Pixels]:
    """The bundle's input photos of the artifact's size, (1, 3, H, W), by the input's name."""
    photos: dict[str, Pixels] = {}
    for golden in bundle.contract.golden:
        if golden.role == "input" and (golden.width, golden.height) == (artifact.width, artifact.height):
            if fault := integrity_fault(bundle.folder, golden):
                raise UserError(f"{fault}; convert again")
            rgb = read_photo(bundle.path(golden)).rgb
            photos[golden.tensor] = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])
    for spec in artifact.inputs:
        if spec.name not in photos:
            size = f"{artifact.width}x{artifact.height}"
            raise UserError(f"{bundle.folder}: no golden input of {size} for {spec.name!r}; convert again")
    return photos


def _input_text(bundle: Bundle) -> str:
    names = [golden.file for golden in bundle.contract.golden if golden.role == "input"]
    return f"the bundle's golden input of the size ({', '.join(names)})"


def _matmul(threads: int) -> Callable[[], object]:
    """A float32 matrix product by NumPy's BLAS (on AMD faster than PyTorch's) with so many threads."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    left, right = (rng.random((MATMUL_SIZE, MATMUL_SIZE), np.float32) for _ in range(2))
    product = np.empty((MATMUL_SIZE, MATMUL_SIZE), np.float32)
    threadpool_limits(threads, user_api="blas")  # stays for the process, as PyTorch's setting does
    return lambda: np.matmul(left, right, out=product)


def _timed(call: Callable[[], object]) -> float:
    time.sleep(PAUSE)
    with _no_collection():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running inside somebody's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _document(
    entries: list[Entry],
    runners: dict[str, Runner],
    figures: dict[str, Figures],
    errors: dict[str, float],
    samples: dict[str, list[float]],
    warmup: int,
    threads: int,
) -> dict[str, Any]:
    flop = 2 * MATMUL_SIZE**3
    matmul = flop / float(np.median(samples[_MATMUL])) / 1e6
    machine = {
        "matmul_gflops": matmul,
        "matmul_gflops_best": flop / min(samples[_MATMUL]) / 1e6,
        "matmul_size": MATMUL_SIZE,
        "threads": threads,
        "library": f"NumPy {np.__version__}",
        "samples_ms": samples[_MATMUL],
    }
    results = []
    for entry in entries:
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
        "device": _device(),
        "machine": machine,
        "results": results,
        "ratios": _ratios(entries, samples),
    }


def _ratios(entries: list[Entry], samples: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Every graph against the first of its size, TFLite float32 where the bundle has it."""
    ratios = []
    baselines: dict[tuple[int, int], str] = {}
    for entry in entries:
        baseline = baselines.setdefault((entry.graph.width, entry.graph.height), entry.id)
        if entry.id != baseline:
            against = ratio(samples[entry.id], samples[baseline])
            ratios.append({"result": entry.id, "baseline": baseline, **against})
    return ratios


def _device() -> dict[str, Any]:
    return {
        "name": f"{platform.machine()} host",
        "os": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    elif platform.system() == "Darwin":
        name = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        if name.stdout.strip():
            return name.stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _load() -> float:
    return round(os.getloadavg()[0], 2)
