"""Start-up time and memory of one runtime, measured in a process that runs nothing else.

figures = probe(Graph("tflite", Path("reflection_256x256_float32.tflite"), ...))
figures.init_ms, figures.first_ms, figures.idle_rss_bytes, figures.peak_rss_bytes
"""

import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afterlens.benchmarks.runners import Graph, open_graph
from afterlens.training.media.errors import UserError

_MODULES = {
    "tflite": ("ai_edge_litert.interpreter",),
    "onnxruntime": ("onnxruntime",),
    "pytorch": (
        "torch",
        "afterlens.training.tasks",
        "afterlens.training.trained",
        "afterlens.conversion.external",
    ),
}


@dataclass(frozen=True)
class Figures:
    """Measurements from a fresh process; schema.json explains the fields of the same names."""

    init_ms: float
    first_ms: float
    idle_rss_bytes: int
    peak_rss_bytes: int


def probe(graph: Graph) -> Figures:
    """Load and run `graph` in a process of its own. Raises UserError with the last line of that process if it fails."""
    root = Path(__file__).parents[2]  # holds the package afterlens
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        # -P: a folder `afterlens` in the current directory is not ours.
        [
            sys.executable,
            "-P",
            "-m",
            "afterlens.benchmarks.probe",
            json.dumps(dataclasses.asdict(graph), default=str),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        raise UserError(f"{graph.path}: could not be measured with {graph.runtime}: {last}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def measure(graph: Graph) -> Figures:
    """Load `graph` here and run it three times; importing its runtime does not count as start-up."""
    for module in _MODULES[graph.runtime]:
        importlib.import_module(module)
    rng = np.random.default_rng(0)
    images = [rng.random((1, 3, graph.height, graph.width), np.float32) for _ in graph.inputs]
    idle = _memory("VmRSS")
    start = time.perf_counter()
    runner = open_graph(graph)
    loaded = time.perf_counter()
    runner.feed(*images)
    ready = time.perf_counter()
    runner.run()
    first = time.perf_counter()
    for _ in range(2):
        runner.run()
    return Figures((loaded - start) * 1e3, (first - ready) * 1e3, idle, _memory("VmHWM"))


def _memory(field: str) -> int:
    """Resident memory in bytes, now (VmRSS) or at its highest (VmHWM).

    Linux's getrusage is no substitute: its maximum starts with that of the parent process.
    """
    status = Path("/proc/self/status")
    if not status.exists():  # macOS only knows the maximum, in bytes, of this process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    try:
        measured = measure(Graph(**{**fields, "path": Path(fields["path"])}))
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(dataclasses.asdict(measured)))
