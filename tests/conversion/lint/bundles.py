"""Bundles made of the files in a folder, and what lint finds in them by rule."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    Contract,
    TensorSpec,
    digest,
    read_bundle,
    write_contract,
)
from afterlens.conversion.lint.gpu import gpu_hits
from afterlens.conversion.lint.graph import Graph
from afterlens.conversion.lint.neural_engine import neural_engine_hits

SIDE = 64


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


def by_rule(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["rule"]: finding for finding in report["findings"]}


def rules_of(graph: Graph, coreml: bool = False) -> dict[str, int]:
    hits = (neural_engine_hits if coreml else gpu_hits)(graph)
    return {rule: len(list(group)) for rule, group in itertools.groupby(sorted(hit.rule for hit in hits))}
