"""Which graphs are timed: a bundle's TFLite artifacts and, at each size, their network in PyTorch and ONNX Runtime.

source = network(bundle, checkpoint, reference)
graphs = entries(bundle, artifacts(bundle, None), source, scratch, threads=1)
runners = {entry.id: open_graph(entry.graph) for entry in graphs}
errors = feed_and_compare(inputs, graphs, runners)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afterlens.benchmarks.runners import Graph, Pixels, Runner
from afterlens.conversion.bundle.contract import Artifact, Bundle, digest, integrity_fault
from afterlens.conversion.bundle.runtimes import open_model
from afterlens.conversion.bundle.variants import precision_rank
from afterlens.conversion.network import references, weights_file
from afterlens.conversion.tflite.graph import read_tflite
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import read_photo

WRONG_RESULT = 0.1
"""A graph whose result is further than this from PyTorch's computes something else: its time would mean nothing."""

_NAMES = {"tflite": "TFLite", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch eager"}


@dataclass(frozen=True)
class Entry:
    """A graph to be timed, and what is known about it beforehand."""

    id: str
    graph: Graph
    variant: str
    artifact: Artifact | None  # None for PyTorch and ONNX, which are not part of the bundle
    parameters: int
    macs: int


@dataclass(frozen=True)
class Network:
    """What a bundle was converted from."""

    graphs: Mapping[tuple[int, int], Deployable]  # by (height, width)
    path: Path  # as in `Graph`
    reference: str | None


def network(bundle: Bundle, checkpoint: Path | None, reference: str | None) -> Network:
    """Find it by checkpoint (None for the bundled one) or reference. Raises UserError for any other network."""
    if reference is None:
        _require_same_checkpoint(bundle, weights_file(bundle.contract, checkpoint))
    graphs, weights = references(bundle.contract, checkpoint, reference)
    return Network(graphs, weights or Path(reference or ""), reference)


def _require_same_checkpoint(bundle: Bundle, checkpoint: Path) -> None:
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such checkpoint; give the one that the bundle was converted from")
    expected, got = bundle.contract.provenance["checkpoint_sha256"], digest(checkpoint)[0]
    if got != expected:
        raise UserError(
            f"{checkpoint}: its sha256 begins with {got[:12]}, the bundle was converted from {expected[:12]}...; "
            "give that checkpoint, or convert again"
        )


def artifacts(bundle: Bundle, size: tuple[int, int] | None) -> list[Artifact]:
    """The TFLite artifacts to time, whole ones that the runtime here can load; the smallest size first."""
    chosen = whole_artifacts(bundle, size)
    for artifact in chosen:
        # Here the bytes are checked. What is timed is mapped unchecked, and a damaged file would end the process.
        read_tflite(bundle.path(artifact))
        open_model(artifact, bundle.path(artifact))
    return chosen


def whole_artifacts(bundle: Bundle, size: tuple[int, int] | None) -> list[Artifact]:
    """The TFLite artifacts of a size, or of all, whole ones; the smallest size first, the finest variant first."""
    tflite = [artifact for artifact in bundle.contract.artifacts if artifact.format == "tflite"]
    chosen = [artifact for artifact in tflite if size is None or (artifact.width, artifact.height) == size]
    if not chosen:
        sizes = sorted({f"{artifact.width}x{artifact.height}" for artifact in tflite})
        wanted = "" if size is None else f" of {size[0]}x{size[1]}"
        raise UserError(f"{bundle.folder}: no TFLite artifact{wanted}, it has {', '.join(sizes) or 'none'}")
    for artifact in chosen:
        if fault := integrity_fault(bundle.folder, artifact):
            raise UserError(f"{fault}; convert again")
    return sorted(chosen, key=lambda a: (a.width * a.height, precision_rank(a.format, a.variant)))


def entries(
    bundle: Bundle, chosen: list[Artifact], network: Network, scratch: Path, threads: int
) -> list[Entry]:
    """The artifacts and, once for every size, the same network in PyTorch and ONNX Runtime."""
    from afterlens.conversion.tflite.onnx_export import export_onnx

    found: list[Entry] = []

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
        found.append(Entry(name, graph, variant, artifact, like.parameters, like.macs))

    for width, height in dict.fromkeys((artifact.width, artifact.height) for artifact in chosen):
        alike = [artifact for artifact in chosen if (artifact.width, artifact.height) == (width, height)]
        deployable = network.graphs[height, width]
        for artifact in alike:
            add("tflite", bundle.path(artifact), artifact.variant, artifact, artifact)
        onnx = scratch / f"{width}x{height}.onnx"
        export_onnx(deployable, onnx, optimize=False)
        add("onnxruntime", onnx, "float32", alike[0], None)
        add("pytorch", network.path, "float32", alike[0], None)
    return found


def golden_inputs(bundle: Bundle, artifact: Artifact) -> dict[str, Pixels]:
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


def feed_and_compare(
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
