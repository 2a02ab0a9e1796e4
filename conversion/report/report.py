"""A report that a stranger can read: pictures, proof, sizes, times and limits of one or more bundles, in one HTML file.

    report([Path("build/bundle")], timings=[read_document(Path("bench.json"))], photos=[...], out=Path("report.html"))

What stands in a bundle or a benchmark document is text of strangers to this page, and is escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import Artifact, Bundle, integrity_fault, read_bundle
from afterlens.conversion.bundle.labels import FORMATS, label, megabytes, threads
from afterlens.conversion.bundle.proof import Found, proof_of
from afterlens.conversion.report.page import Html, join, page, picture, table, tag, verdict, with_note
from afterlens.conversion.report.quality import pareto_section, quality_section
from afterlens.conversion.report.times import timing_section
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

_SOURCES = (
    "Where a number comes from is said beside it: measured-host, the real runtime on this host; reference-execution, a "
    "Core ML package in our own executor; measured-device, a phone (none yet); inferred, computed from the files and "
    "not run."
)
_EXECUTORS = {"conversion.mil": "our Core ML executor"}


@dataclass(frozen=True)
class Comparison:
    """A photo before and after, and the layer that was taken out where it is known; image files of any size."""

    title: str
    before: Path
    after: Path
    layer: Path | None = None


@dataclass(frozen=True)
class _Chapter:
    """All that is said of one bundle."""

    bundle: Bundle
    proof: Found | None
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
        bundles: folders of `afterlens convert`, proven or not: what was not verified is said to be so.
        timings: documents of `afterlens bench` (see benchmarks/schema.json), of these bundles' artifacts.
        photos: shown first. Each bundle's golden photo, with the layer, is shown besides.
        out: replaced if it exists.

    Returns: `out`.

    Raises UserError where a bundle, its proof or a photo cannot be read, a proof or a timing is of other
    artifacts than the bundle's, or the file cannot be written.
    """
    if not bundles:
        raise UserError("a report needs at least one bundle")
    opened = [read_bundle(folder) for folder in bundles]
    chapters = [_Chapter(bundle, proof_of(bundle), _timings_of(bundle, timings)) for bundle in opened]
    used = {id(document) for chapter in chapters for document in chapter.timings}
    if any(id(document) not in used for document in timings):
        raise UserError("a benchmark is of other artifacts than the bundles'; run `afterlens bench` again")
    titles = [chapter.bundle.contract.title for chapter in chapters]
    body = join(
        [
            _head(titles, chapters),
            _photos(photos) if photos else "",
            *(
                _chapter(chapter, "The converted files" if len(chapters) == 1 else title)
                for chapter, title in zip(chapters, titles, strict=True)
            ),
            _limits(chapters),
        ]
    )
    with atomic_path(out) as temporary:
        # replace: file names need not be valid text
        temporary.write_bytes(page(f"afterlens: {', '.join(titles)}", body).encode("utf-8", "replace"))
    return out


def _timings_of(bundle: Bundle, timings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The documents in which an artifact of this bundle was timed."""
    known = {artifact.sha256 for artifact in bundle.contract.artifacts}
    return [
        document
        for document in timings
        if any(result["artifact"]["sha256"] in known for result in document["results"])
    ]


def _head(titles: Sequence[str], chapters: Sequence[_Chapter]) -> Html:
    lead = (
        "Mobile models converted from a trained checkpoint, checked against PyTorch on real photos, and timed. "
        "Every number on this page was measured by a command that anybody can run again; what was not measured is "
        "said at the end."
    )
    date = f"{datetime.now(UTC):%d %B %Y}".lstrip("0")
    return tag(
        "header",
        tag("p", f"afterlens report, {date}", class_="eyebrow"),
        tag("h1", " · ".join(titles)),
        tag("p", lead, class_="lead"),
        tag("p", _SOURCES, class_="note"),
        _tiles(chapters[0]) if len(chapters) == 1 else "",
    )


def _tiles(chapter: _Chapter) -> Html:
    artifacts = chapter.bundle.contract.artifacts
    smallest = min(artifacts, key=lambda artifact: artifact.width * artifact.height)
    passed = None if chapter.proof is None else chapter.proof.passed
    proven = "no file was compared with PyTorch"
    if chapter.proof is not None:
        count = sum(entry.passed for entry in chapter.proof.artifacts)
        proven = f"{count} of {len(artifacts)} files match PyTorch"
    tiles = [
        (verdict(passed), proven),
        (megabytes(min(a.bytes for a in artifacts)), "smallest file"),
        (f"{smallest.parameters / 1e6:.2f} M", "parameters"),
        (f"{smallest.macs / 1e9:.2f}", f"GMACs at {_size(smallest)}, inferred"),
    ]
    for document in chapter.timings:
        own = [result for result in document["results"] if result["artifact"]["file"] is not None]
        quickest = min(own, key=lambda result: result["timing"]["p50_ms"])
        size = f"{quickest['artifact']['width']}x{quickest['artifact']['height']}"
        where = "on this host" if document["provenance"] == "measured-host" else document["device"]["name"]
        tiles.append(
            (f"{quickest['timing']['p50_ms']:.0f} ms", f"TFLite at {size} {where}, {threads(quickest)}")
        )
    return tag(
        "div",
        join(
            tag("div", tag("b", value), tag("span", words, class_="label"), class_="tile")
            for value, words in tiles
        ),
        class_="tiles",
    )


def _photos(photos: Sequence[Comparison]) -> Html:
    note = (
        "The result as it comes out, at the photo's own size; shown here as JPEG, at most 1280 pixels wide."
    )
    return tag(
        "section",
        tag("h2", "Before and after"),
        tag("p", note, class_="note"),
        join(_comparison(photo) for photo in photos),
    )


def _comparison(photo: Comparison) -> Html:
    panes = [(photo.before, "input"), (photo.after, "restored")]
    if photo.layer is not None:
        panes.append((photo.layer, "layer: what was taken out (mid-grey = nothing)"))
    figures = (
        tag("figure", picture(path, f"{photo.title}, {words}"), tag("figcaption", words))
        for path, words in panes
    )
    return join([tag("h3", photo.title), tag("div", join(figures), class_="triple", data_compare="")])


def _golden(bundle: Bundle) -> Comparison | None:
    """The bundle's largest golden photo: input, first output, and second output if there is one."""
    pngs = [golden for golden in bundle.contract.golden if golden.encoding == "png"]
    if not pngs:
        return None
    largest = max((golden.width * golden.height, golden.width, golden.height) for golden in pngs)
    # By the size of the graph, which the names begin with: a second output may be smaller than that.
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
    return Comparison(title, *(bundle.path(shown[name]) for name in names if name in shown))


def _chapter(chapter: _Chapter, heading: str) -> Html:
    contract = chapter.bundle.contract
    golden = _golden(chapter.bundle)
    return tag(
        "section",
        tag("h2", heading),
        tag("p", f"Task {contract.task}, version {contract.version}.", class_="note"),
        "" if golden is None else _comparison(golden),
        _proof_section(chapter),
        "" if chapter.proof is None else quality_section(chapter.bundle.folder, chapter.proof),
        "" if chapter.proof is None else pareto_section(chapter.proof, _milliseconds(chapter)),
        _sizes(contract.artifacts),
        join(timing_section(contract.task, document) for document in chapter.timings),
        _contract_section(contract.artifacts),
        _provenance(chapter),
    )


def _proof_section(chapter: _Chapter) -> Html:
    proof = chapter.proof
    if proof is None:
        said = "There is no proof of this bundle: run `afterlens verify` on it before you ship it."
        return join([tag("h3", "Proof"), tag("p", verdict(None), " ", said)])
    variants = {entry.variant for entry in proof.artifacts}
    limits = [
        f"largest error at most {limit:g} ({v})" for v, limit in proof.max_error.items() if v in variants
    ]
    limits += [f"PSNR at least {limit:g} dB ({v})" for v, limit in proof.min_psnr.items() if v in variants]
    limits.append(f"files in float at most {proof.max_levels} of 255 levels apart after rounding to 8 bits")
    photos = f"{len(proof.photos)} photo{'s' if len(proof.photos) != 1 else ''}"
    others = f" (and on: {', '.join(proof.others)})" if proof.others else ""
    note = (
        f"Each file was run on {photos}{others}, and compared with PyTorch in float32 on the same input. "
        "Shown is the worst picture; the full range is 1. "
        f"Gates: {'; '.join(limits)}."
    )
    rows = [
        (
            tag("code", entry.file),
            with_note(_EXECUTORS.get(entry.runtime or "", entry.runtime or "–"), entry.provenance),
            _error(entry.max_error),
            _error(entry.mean_error),
            "–" if entry.psnr is None else f"{entry.psnr:.1f}",
            "–" if entry.levels is None else str(entry.levels),
            verdict(entry.passed),
        )
        for entry in proof.artifacts
    ]
    columns = ("file", "executed by", "max error>", "mean error>", "PSNR dB>", "levels>", "gate")
    listed = tag("div", tag("ul", join(tag("li", line) for line in proof.failures)), class_="failures")
    return join(
        [
            tag("h3", "Proof ", verdict(proof.passed)),
            tag("p", note, class_="note"),
            listed if proof.failures else "",
            table(columns, rows),
        ]
    )


def _error(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def _sizes(artifacts: Sequence[Artifact]) -> Html:
    rows = [
        (
            tag("code", artifact.file),
            FORMATS[artifact.format],
            label(artifact.format, artifact.variant),
            _size(artifact),
            megabytes(artifact.bytes),
            f"{artifact.parameters:,}",
            f"{artifact.macs / 1e9:.2f}",
            artifact.minimum_runtime,
        )
        for artifact in artifacts
    ]
    columns = ("file", "format", "variant", "size px>", "bytes>", "parameters>", "GMACs>", "runs from")
    note = (
        "GMACs: multiply-accumulates of convolutions and matrix products; element-wise operations are not counted. "
        "Parameters and GMACs are inferred from the network."
    )
    return join([tag("h3", "Sizes"), tag("p", note, class_="note"), table(columns, rows)])


def _contract_section(artifacts: Sequence[Artifact]) -> Html:
    """Inputs and outputs, those of equal artifacts named once."""
    rows = []
    seen: dict[tuple[object, ...], None] = {}
    for artifact in artifacts:
        for role, ports in (("input", artifact.inputs), ("output", artifact.outputs)):
            for port in ports:
                row = (
                    f"{FORMATS[artifact.format]} {_size(artifact)}",
                    role,
                    port.name,
                    " × ".join(str(side) for side in port.shape),
                    port.layout,
                    port.dtype,
                    f"{port.range[0]:g} to {port.range[1]:g}",
                    port.colour_space,
                    port.meaning,
                )
                seen[row] = None
    rows = [(row[0], row[1], tag("code", row[2]), *row[3:]) for row in seen]
    columns = ("files", "", "name", "shape>", "layout", "type", "range>", "colour", "meaning")
    note = "Bind by name; order is not defined. model.json of the bundle says the same to an app."
    return join([tag("h3", "Inputs and outputs"), tag("p", note, class_="note"), table(columns, rows)])


def _provenance(chapter: _Chapter) -> Html:
    provenance = dict(chapter.bundle.contract.provenance)
    checkpoint, licence = provenance.pop("checkpoint_sha256"), provenance.pop("data_licence")
    tools, recipe = provenance.pop("tools"), provenance.pop("recipe")
    pairs: list[tuple[str, object]] = [
        ("checkpoint sha256", tag("span", checkpoint, class_="hash")),
        ("training data", licence),
        *((key.replace("_", " "), _plain(value)) for key, value in provenance.items()),
        ("tools", ", ".join(f"{name} {version}" for name, version in tools.items())),
    ]
    sums = "\n".join(f"{artifact.sha256}  {artifact.file}" for artifact in chapter.bundle.contract.artifacts)
    return join(
        [
            tag("h3", "Provenance"),
            tag("dl", join(join([tag("dt", key), tag("dd", value)]) for key, value in pairs)),
            tag("details", tag("summary", "sha256 of the files"), tag("pre", sums)),
            tag(
                "details",
                tag("summary", "recipe"),
                tag("pre", json.dumps(recipe, indent=2, ensure_ascii=False)),
            ),
        ]
    )


def _milliseconds(chapter: _Chapter) -> dict[str, float]:
    """Median time by file, as the first benchmark of a host has it: those of two runs do not compare."""
    hashes = {artifact.sha256: artifact.file for artifact in chapter.bundle.contract.artifacts}
    for document in chapter.timings:
        if document["provenance"] == "measured-host":
            return {
                hashes[result["artifact"]["sha256"]]: result["timing"]["p50_ms"]
                for result in document["results"]
                if result["artifact"]["sha256"] in hashes
            }
    return {}


def _limits(chapters: Sequence[_Chapter]) -> Html:
    provenances = {document["provenance"] for chapter in chapters for document in chapter.timings}
    executed = {
        artifact.format
        for chapter in chapters
        for artifact in chapter.bundle.contract.artifacts
        if chapter.proof
        and any(e.file == artifact.file and e.max_error is not None for e in chapter.proof.artifacts)
    }
    formats = {artifact.format for chapter in chapters for artifact in chapter.bundle.contract.artifacts}
    points = []
    if "measured-device" not in provenances:
        points.append(
            "No phone and no Mac took part. Times, where given, are of the host that is named beside them; they say "
            "which runtime is quicker there, not how long a phone takes."
        )
    if "coreml" in executed:
        points.append(
            "Core ML packages were executed as saved, by this project's own interpreter of their operations with "
            "float16 storage. That covers converter, weights and graph. It does not cover Apple's kernels, the Neural "
            "Engine's rounding, or which operations Core ML places there."
        )
    elif "coreml" in formats:
        points.append("The Core ML packages were not executed at all.")
    if "tflite" in executed:
        points.append(
            "TFLite files were executed on the CPU (XNNPACK). The GPU delegate and vendor NPUs were not run; they "
            "compute in float16 and may leave operations to the CPU."
        )
    elif "tflite" in formats:
        points.append("The results of the TFLite files were not compared with PyTorch's on real photos.")
    if provenances:
        points.append("Memory (peak RSS) is that of a whole process, the runtime's own share included.")
    else:
        points.append("No times were measured: run `afterlens bench` and give its file to the report.")
    return tag(
        "section",
        tag("h2", "What was not measured"),
        tag("div", tag("ul", join(tag("li", point) for point in points)), class_="limits"),
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _size(artifact: Artifact) -> str:
    return f"{artifact.width}x{artifact.height}"
