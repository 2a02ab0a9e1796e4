"""The two sides of a comparison, read: bundles, documents of `afterlens bench`, or proofs.

side = read_side(Path("build/base"), bench=None)
for key, item in side.items.items():
print(key, item.bytes)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afterlens.benchmarks.document import read_document
from afterlens.conversion.bundle.contract import TensorSpec, integrity_fault, read_bundle
from afterlens.conversion.bundle.proof import PROOF_FILE, Proof, ProvenArtifact, proof_of, read_proof
from afterlens.conversion.bundle.strict_json import read_json
from afterlens.conversion.bundle.variants import FORMATS
from afterlens.training.media.errors import UserError

MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, order=True)
class Key:
    """Which artifact of one side is which of the other."""

    width: int
    height: int
    format: str
    variant: str

    def __str__(self) -> str:
        return f"{FORMATS[self.format]} {plain(self.variant)} {self.width}x{self.height}"


@dataclass(frozen=True)
class Item:
    """What one side knows of an artifact."""

    bytes: int | None
    proven: ProvenArtifact | None = None
    timed: Mapping[str, Any] | None = None  # a result of the side's benchmark
    path: Path | None = None  # of a bundle's file, whole
    ports: tuple[tuple[str, TensorSpec], ...] | None = None  # ("input" | "output", what the contract says)


@dataclass(frozen=True)
class Side:
    """One of the two, read."""

    name: str
    kind: str  # "bundle", "benchmark" or "proof"
    task: str
    items: dict[Key, Item]
    proof: Proof | None = None
    benchmark: Mapping[str, Any] | None = None


def read_side(path: Path, bench: Path | None) -> Side:
    """Read a bundle folder, with the benchmark of its files if there is one, or a file of `afterlens bench` or `verify`.

    Raises UserError for what cannot be read, is damaged, or does not belong together.
    """
    if path.is_dir():
        return _bundle_side(path, bench)
    if bench is not None:
        raise UserError(
            f"{path}: benchmarks beside it are for a bundle folder; give two bundles, or two files"
        )
    document = read_json(path, max_bytes=MAX_FILE_BYTES, remedy=_EXPECTED)
    if not isinstance(document, dict) or not {"results", "gates"} & document.keys():
        raise UserError(f"{path}: neither results nor gates in it; {_EXPECTED}")
    return _proof_side(path) if "gates" in document else _benchmark_side(path)


_EXPECTED = f"expected a bundle folder, a JSON of `afterlens bench`, or a {PROOF_FILE}"


def _bundle_side(folder: Path, bench: Path | None) -> Side:
    bundle = read_bundle(folder)
    for artifact in bundle.contract.artifacts:
        if fault := integrity_fault(folder, artifact):
            raise UserError(f"{fault}; convert again")
    proof = proof_of(bundle)
    proven = {} if proof is None else {entry.file: entry for entry in proof.artifacts}
    benchmark = None if bench is None else read_document(bench)
    timed = {} if benchmark is None else _timed(benchmark, str(bench))
    items: dict[Key, Item] = {}
    for artifact in bundle.contract.artifacts:
        key = Key(artifact.width, artifact.height, artifact.format, artifact.variant)
        if key in items:
            raise UserError(f"{folder}: two artifacts are {key}; convert again")
        result = timed.get(key)
        if result is not None and result["artifact"]["sha256"] != artifact.sha256:
            raise UserError(
                f"{bench}: {key} is another file than {bundle.path(artifact)}; run `afterlens bench` again"
            )
        ports = (
            *(("input", port) for port in artifact.inputs),
            *(("output", port) for port in artifact.outputs),
        )
        items[key] = Item(artifact.bytes, proven.get(artifact.file), result, bundle.path(artifact), ports)
    if benchmark is not None and not items.keys() & timed.keys():
        raise UserError(f"{bench}: has no artifact of {folder}; run `afterlens bench` on that bundle")
    return Side(plain(folder.resolve().name), "bundle", bundle.contract.task, items, proof, benchmark)


def _benchmark_side(path: Path) -> Side:
    document = read_document(path)
    timed = _timed(document, str(path))
    tasks = sorted({plain(result["artifact"]["task"]) for result in document["results"]})
    items = {key: Item(result["artifact"]["bytes"], timed=result) for key, result in timed.items()}
    return Side(plain(path.name), "benchmark", ", ".join(tasks), items, benchmark=document)


def _proof_side(path: Path) -> Side:
    proof = read_proof(path)
    items = {}
    for entry in proof.artifacts:
        key = Key(entry.width, entry.height, entry.format, entry.variant)
        if key in items:
            raise UserError(f"{path}: two artifacts are {key}; run `afterlens verify` again")
        items[key] = Item(entry.bytes, entry)
    return Side(plain(path.name), "proof", plain(proof.task), items, proof)


def _timed(document: Mapping[str, Any], name: str) -> dict[Key, Mapping[str, Any]]:
    """The results of converted files, not those of PyTorch and ONNX Runtime."""
    found: dict[Key, Mapping[str, Any]] = {}
    for result in document["results"]:
        artifact = result["artifact"]
        if artifact["file"] is None or result["runtime"]["name"] not in FORMATS:
            continue
        key = Key(artifact["width"], artifact["height"], result["runtime"]["name"], artifact["variant"])
        if key in found:
            raise UserError(f"{name}: two results are of {key}; expected one compute unit a document")
        found[key] = result
    return found


def plain(text: str) -> str:
    """Words of a stranger's file, of one line and without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
