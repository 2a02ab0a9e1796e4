"""A report for somebody who decides on a release: verdict, pictures, quality, cost and limits, in one HTML file.

report([Path("build/bundle")], timings=[read_document(Path("bench.json"))], photos=[...], out=Path("report.html"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import Bundle, integrity_fault, read_bundle
from afterlens.conversion.bundle.labels import megabytes
from afterlens.conversion.bundle.proof import Proof, proof_of
from afterlens.conversion.bundle.variants import FORMATS, label
from afterlens.conversion.report.details import port_table, proof_table, provenance, size_table
from afterlens.conversion.report.heatmaps import SHOWN_DROP, heat_maps
from afterlens.conversion.report.quality import overview, plots, quality_table
from afterlens.conversion.report.templates import photo, render
from afterlens.conversion.report.times import milliseconds_of, phone_milliseconds_of, quickest, times_of
from afterlens.conversion.report.verdict import Verdict, overall, verdict_of
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path


@dataclass(frozen=True)
class Comparison:
    """A photo before and after, and the layer that was removed, if it is known; image files of any size."""

    title: str
    before: Path
    after: Path
    layer: Path | None = None


@dataclass(frozen=True)
class _Chapter:
    """All that is known of one bundle."""

    bundle: Bundle
    proof: Proof | None
    verdict: Verdict
    timings: Sequence[Mapping[str, Any]]  # benchmark documents with results of this bundle


def report(
    bundles: Sequence[Path],
    *,
    timings: Sequence[Mapping[str, Any]] = (),
    photos: Sequence[Comparison] = (),
    out: Path,
) -> Path:
    """Write the report on `bundles` to the HTML file `out`.

    Args:
        bundles: folders of `afterlens convert`, verified or not: the report says which.
        timings: documents of `afterlens bench` (see benchmarks/schema.json), of these bundles' artifacts.
        photos: shown first. Each bundle's golden photo, with the layer, is shown as well.
        out: replaced if it exists.

    Returns: `out`.

    Raises:
        UserError: a bundle, its proof or a photo cannot be read, a passed proof or a timing is of other artifacts
            than the bundle's, or the file cannot be written.
    """
    if not bundles:
        raise UserError("a report needs at least one bundle")
    opened = [read_bundle(folder) for folder in bundles]
    chapters = []
    for bundle in opened:
        proof = proof_of(bundle)
        chapters.append(_Chapter(bundle, proof, verdict_of(bundle, proof), _timings_of(bundle, timings)))
    used = {id(document) for chapter in chapters for document in chapter.timings}
    if any(id(document) not in used for document in timings):
        raise UserError("a benchmark is of other artifacts than the bundles'; run `afterlens bench` again")
    context = {
        "title": ", ".join(bundle.contract.title for bundle in opened),
        "heading": " · ".join(bundle.contract.title for bundle in opened),
        "date": f"{datetime.now(UTC):%d %B %Y}".lstrip("0"),
        "overall": overall([chapter.verdict for chapter in chapters]),
        "photos": [_panes(comparison) for comparison in photos],
        "chapters": [_sections(chapter) for chapter in chapters],
        "limits": _limits(chapters),
    }
    with atomic_path(out) as temporary:
        # replace: file names need not be valid text
        temporary.write_bytes(render(context).encode("utf-8", "replace"))
    return out


def _timings_of(bundle: Bundle, timings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The documents in which an artifact of this bundle was timed."""
    known = {artifact.sha256 for artifact in bundle.contract.artifacts}
    return [
        document
        for document in timings
        if any(result["artifact"]["sha256"] in known for result in document["results"])
    ]


def _panes(comparison: Comparison) -> Mapping[str, Any]:
    panes = [(comparison.before, "input"), (comparison.after, "restored")]
    if comparison.layer is not None:
        panes.append((comparison.layer, "layer: what was removed (mid-grey: nothing)"))
    pictures = [photo(path, f"{comparison.title}, {words}", words) for path, words in panes]
    return {"title": comparison.title, "pictures": pictures}


def _sections(chapter: _Chapter) -> Mapping[str, Any]:
    """What the template shows of one bundle."""
    contract, proof = chapter.bundle.contract, chapter.proof
    hashes = {artifact.sha256: artifact.file for artifact in contract.artifacts}
    times = milliseconds_of(chapter.timings, hashes)
    return {
        "title": contract.title,
        "task": contract.task,
        "version": contract.version,
        "verdict": chapter.verdict,
        "tiles": _tiles(chapter),
        "golden": _golden(chapter.bundle),
        "overview": overview(
            contract.artifacts, proof, chapter.verdict, times, phone_milliseconds_of(chapter.timings, hashes)
        ),
        "plots": None if proof is None else plots(proof, times),
        "heat_maps": [] if proof is None else heat_maps(chapter.bundle.folder, proof),
        "shown_drop": f"{SHOWN_DROP:g}",
        "quality": None if proof is None else quality_table(proof),
        "proof": None if proof is None else proof_table(proof, chapter.verdict.changed),
        "sizes": size_table(contract.artifacts),
        "times": [times_of(contract.task, document) for document in chapter.timings],
        "ports": port_table(contract.artifacts),
        **provenance(contract),
    }


def _tiles(chapter: _Chapter) -> list[tuple[str, str]]:
    """A few large numbers with what they are."""
    artifacts = chapter.bundle.contract.artifacts
    smallest = min(artifacts, key=lambda artifact: artifact.width * artifact.height)
    lightest = min(artifacts, key=lambda artifact: artifact.bytes)
    name = f"{FORMATS[lightest.format]} {label(lightest.format, lightest.variant)}"
    tiles = [
        (megabytes(lightest.bytes), f"smallest file: {name}"),
        (f"{smallest.parameters / 1e6:.2f} M", "parameters"),
        (f"{smallest.macs / 1e9:.2f}", f"GMACs at {smallest.width}x{smallest.height}, inferred"),
    ]
    found = (quickest(document, chapter.bundle.contract.task) for document in chapter.timings)
    return tiles + [tile for tile in found if tile is not None]


def _golden(bundle: Bundle) -> Mapping[str, Any] | None:
    """The bundle's largest golden photo: input, first output, and second output if there is one."""
    pngs = [golden for golden in bundle.contract.golden if golden.encoding == "png"]
    if not pngs:
        return None
    largest = max((golden.width * golden.height, golden.width, golden.height) for golden in pngs)
    # By the size of the graph, with which the names begin: a second output may be smaller than that.
    graph = f"golden/{largest[1]}x{largest[2]}_"
    shown = {golden.tensor: golden for golden in pngs if golden.file.startswith(graph)}
    artifact = bundle.contract.artifacts[0]
    names = [port.name for port in (*artifact.inputs[:1], *artifact.outputs[:2])]
    if any(name not in shown for name in names[:2]):
        return None
    for name in names:
        if name in shown and (fault := integrity_fault(bundle.folder, shown[name])):
            raise UserError(f"{fault}; convert again")
    title = f"Golden photo at {largest[1]}x{largest[2]}: what the files should compute (PyTorch, float32)"
    return _panes(Comparison(title, *(bundle.path(shown[name]) for name in names if name in shown)))


def _limits(chapters: Sequence[_Chapter]) -> list[str]:
    """What was not measured."""
    provenances = {document["provenance"] for chapter in chapters for document in chapter.timings}
    artifacts = [artifact for chapter in chapters for artifact in chapter.bundle.contract.artifacts]
    run = {
        entry.format
        for chapter in chapters
        if chapter.proof is not None
        for entry in chapter.proof.artifacts
        if entry.max_error is not None
    }
    formats = {artifact.format for artifact in artifacts}
    points = []
    if "measured-device" not in provenances:
        points.append("No phone and no Mac took part. Host timings do not predict phone latency.")
    if "coreml" in run:
        points.append(
            "Core ML packages were executed as saved, by this project's own interpreter with float16 storage. That "
            "covers converter, weights and graph. It does not cover Apple's kernels, the Neural Engine's rounding, or "
            "which operations Core ML places there."
        )
    elif "coreml" in formats:
        points.append("The Core ML packages were not executed at all.")
    if "tflite" in run:
        points.append(
            "TFLite files were executed on the CPU (XNNPACK). The GPU delegate and vendor NPUs were not run; they "
            "compute in float16 and may leave operations to the CPU."
        )
    elif "tflite" in formats:
        points.append("The results of the TFLite files were not compared with PyTorch's on real photos.")
    if provenances:
        points.append("Memory (peak RSS) is that of a whole process, the runtime's own share included.")
    else:
        points.append("No times were measured: run afterlens bench and give its file to the report.")
    return points
