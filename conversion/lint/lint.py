"""Name what phones' accelerators may not take in a bundle's files, and how close its values come to float16's limits.

    report = lint(Path("build/bundle"), [Path("room.jpg")], fail_on=["fallback", "range"])
    for finding in report["findings"]:
        print(finding["severity"], finding["rule"], finding["message"])

There are two kinds of findings. Placement ("inferred") is checked on the saved graphs against public knowledge
(`rules.py`). Ranges ("reference-execution") are measured by running the Core ML package in our own executor. All
findings are risks: nothing runs on a phone. docs/lint.md lists the rules' sources and what they do not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    TensorSpec,
    integrity_fault,
    read_bundle,
)
from afterlens.conversion.bundle.layout import Value, made_up
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.bundle.variants import precision_rank
from afterlens.conversion.lint.constants import constant_hits
from afterlens.conversion.lint.finding import Hit, Place, findings_of, one_line
from afterlens.conversion.lint.gpu import gpu_hits
from afterlens.conversion.lint.graph import Graph, read_graph
from afterlens.conversion.lint.layers import UNKNOWN
from afterlens.conversion.lint.neural_engine import neural_engine_hits
from afterlens.conversion.lint.ranges import Range, measure_ranges, range_hits
from afterlens.conversion.lint.rules import CATEGORIES, RULES
from afterlens.conversion.verify.test_images import extreme_pictures
from afterlens.training.deployable import Port
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import fit, read_photo
from afterlens.training.media.progress import progress_bar

_ORDER = {"error": 0, "warning": 1, "note": 2}


def lint(folder: Path, photos: Sequence[Path], *, fail_on: Sequence[str] = ()) -> dict[str, Any]:
    """Check every artifact of a bundle against the rules, and measure the ranges of its values.

    Args:
        folder: a bundle of `convert`.
        photos: at least one real photo; extreme pictures are made from the first. Cropped and scaled to each size.
        fail_on: names of CATEGORIES whose errors and warnings make `require` fail.

    Returns: the report, for JSON.

    Raises:
        UserError: the folder is not a bundle, a file changed since the conversion, no photos were given, or a
            category is unknown.
    """
    unknown = [category for category in fail_on if category not in CATEGORIES]
    if unknown:
        raise UserError(f"--fail-on {unknown[0]!r}: expected one of {', '.join(CATEGORIES)}")
    if not photos:
        raise UserError("no photos to measure ranges with, expected at least one")
    bundle = read_bundle(folder)
    for artifact in bundle.contract.artifacts:
        fault = integrity_fault(folder, artifact)
        if fault is not None:
            raise UserError(f"{fault}; convert again")
    graphs = _read_graphs(bundle)
    findings: list[dict[str, Any]] = []
    for artifact in bundle.contract.artifacts:
        check = gpu_hits if artifact.format == "tflite" else neural_engine_hits
        graph = graphs[artifact.file]
        hits = [*check(graph), *constant_hits(graph.constants)]
        findings += findings_of(artifact.file, hits, "inferred")
    measured = _measure(bundle, graphs, photos, findings)
    findings.sort(
        key=lambda finding: (_ORDER[finding["severity"]], finding["file"])
    )  # stable: rules in order
    fired = {finding["rule"] for finding in findings}
    return {
        "schema_version": 1,
        "task": bundle.contract.task,
        "version": bundle.contract.version,
        "artifacts": [
            {"file": a.file, "format": a.format, "variant": a.variant, "operators": len(graphs[a.file].nodes)}
            for a in bundle.contract.artifacts
        ],
        "findings": findings,
        "ranges": measured,
        "fail_on": list(fail_on),
        "failed": [
            one_line(finding)
            for finding in findings
            if finding["category"] in fail_on and finding["severity"] != "note"
        ],
        "rules": {rule.name: asdict(rule) for rule in RULES if rule.name in fired},
    }


def require(report: Mapping[str, Any]) -> None:
    """Raise GateFailed, naming the first finding, if a category of `fail_on` has an error or a warning."""
    failed = report["failed"]
    if failed:
        raise GateFailed(failed[0] + (f" (and {len(failed) - 1} more findings)" if len(failed) > 1 else ""))


def _read_graphs(bundle: Bundle) -> dict[str, Graph]:
    """Graphs by file. Core ML first: its weights carry the layer names that TFLite files lack."""
    artifacts = sorted(
        bundle.contract.artifacts, key=lambda a: (a.format != "coreml", precision_rank(a.format, a.variant))
    )
    graphs: dict[str, Graph] = {}
    named: Mapping[str, Any] = {}
    for artifact in artifacts:
        graphs[artifact.file] = read_graph(bundle.path(artifact), named)
        named = named or graphs[artifact.file].weights
    return graphs


# Ranges


def _measure(
    bundle: Bundle, graphs: Mapping[str, Graph], photos: Sequence[Path], findings: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run one Core ML package of each size; add to `findings` and return the ranges."""
    sizes: dict[tuple[int, int], list[Artifact]] = {}
    for artifact in bundle.contract.artifacts:
        sizes.setdefault((artifact.height, artifact.width), []).append(artifact)
    measured = []
    with progress_bar() as progress:
        bar = progress.add_task("lint", total=len(sizes) * (len(photos) + 7))
        for (height, width), artifacts in sorted(sizes.items()):
            # Compression changes values by a few percent, and the limits are far apart: one variant stands for all.
            packages = sorted(
                (a for a in artifacts if a.format == "coreml"),
                key=lambda a: precision_rank(a.format, a.variant),
            )
            reason, ranges, names = "no Core ML package of this size in the bundle", [], []
            if packages:
                pictures = _pictures(packages[0], photos)
                names = list(pictures)

                def tick(name: str, label: str = f"lint {width}x{height}") -> None:
                    progress.update(bar, advance=1, description=f"{label} on {name}")

                path = bundle.path(packages[0])
                try:
                    ranges = measure_ranges(path, graphs[packages[0].file], pictures, tick)
                    reason = ""
                except UserError as error:
                    reason = str(error).removeprefix(f"{path}: ")
            file = packages[0].file if packages else artifacts[0].file
            hits = list(range_hits(ranges))
            if reason:
                hits.append(Hit("fp16-unmeasured", Place("file", file, UNKNOWN, reason)))
            findings += findings_of(file, hits, "inferred" if reason else "reference-execution")
            measured.append(
                {
                    "file": file,
                    "width": width,
                    "height": height,
                    "stands_for": [artifact.file for artifact in artifacts],
                    "not_measured": reason or None,
                    "pictures": names,
                    "provenance": "reference-execution",
                    "tensors": [_range_document(range_) for range_ in ranges],
                }
            )
    return measured


def _pictures(artifact: Artifact, photos: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Inputs by picture: the photos, extreme pictures made from the first one, black and white."""
    levels = {
        str(path): to_levels(fit(read_photo(path).rgb, artifact.height, artifact.width)) for path in photos
    }
    first = next(iter(levels.values()))
    short = {path.name for path in photos}
    named = {
        Path(name).name if len(short) == len(photos) else name: picture for name, picture in levels.items()
    }
    named |= extreme_pictures(first)
    named |= {"black": np.zeros_like(first), "white": np.full_like(first, 255)}
    # As `verify` does: two inputs never get the very same picture.
    return {
        name: {
            spec.name: picture[:: (-1) ** place] if spec.kind == "image" else _numbers(spec, index)
            for place, spec in enumerate(artifact.inputs)
        }
        for index, (name, picture) in enumerate(named.items())
    }


def _numbers(spec: TensorSpec, index: int) -> Value:
    """What an input that is not an image gets, with its batch dimension."""
    return made_up(Port(spec.name, spec.shape, spec.range, kind=spec.kind), index)[None]


def _range_document(range_: Range) -> dict[str, Any]:
    return {
        **asdict(range_),
        "margin": range_.margin,
        "subnormal_share": range_.subnormal_share,
    }
