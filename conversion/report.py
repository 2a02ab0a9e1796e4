"""A report that a stranger can read: pictures, proof, sizes, times and limits of one or more bundles, in one HTML file.

    report([Path("build/bundle")], timings=[read_document(Path("bench.json"))], photos=[...], out=Path("report.html"))

What stands in a bundle or a benchmark document is text of strangers to this page, and is escaped.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conversion.contract import Artifact, Bundle, integrity_fault, read_bundle
from conversion.page import Html, join, page, picture, table, tag, verdict
from training.errors import UserError
from training.images import atomic_path

PROOF_FILE = "proof.json"

_FORMATS = {"tflite": "TFLite", "coreml": "Core ML"}
_RUNTIMES = {
    "tflite": "TFLite",
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch eager",
    "coreml": "Core ML",
}
_EXECUTORS = {"conversion.mil": "our executor of Core ML programs"}


@dataclass(frozen=True)
class Comparison:
    """A photo before and after, and the layer that was taken out where it is known; image files of any size."""

    title: str
    before: Path
    after: Path
    artefact: Path | None = None


@dataclass(frozen=True)
class _ProofEntry:
    """One file of proof.json: the worst over all its pictures and outputs. None: it could not be run."""

    file: str
    variant: str
    runtime: str | None
    max_error: float | None
    mean_error: float | None  # mean over a picture, of the worst picture
    psnr: float | None
    levels: int | None  # largest difference after rounding to 8 bits
    passed: bool


@dataclass(frozen=True)
class _Proof:
    """proof.json, as far as a report shows it."""

    passed: bool
    failures: list[str]
    max_error: dict[str, float]  # gates by variant
    min_psnr: dict[str, float]
    max_levels: int
    photos: int
    others: list[str]  # names of the pictures beside the photos
    entries: list[_ProofEntry]


@dataclass(frozen=True)
class _Chapter:
    """All that is said of one bundle."""

    bundle: Bundle
    proof: _Proof | None
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
        photos: shown first. Each bundle's golden photo, with the artefact layer, is shown besides.
        out: replaced if it exists.

    Returns: `out`.

    Raises UserError where a bundle, its proof or a photo cannot be read, a proof or a timing is of other
    artifacts than the bundle's, or the file cannot be written.
    """
    if not bundles:
        raise UserError("a report needs at least one bundle")
    opened = [read_bundle(folder) for folder in bundles]
    chapters = [_Chapter(bundle, _proof(bundle), _timings_of(bundle, timings)) for bundle in opened]
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


def _proof(bundle: Bundle) -> _Proof | None:
    """What proof.json says, None where the bundle was not verified. UserError where it is of other files."""
    path = bundle.folder / PROOF_FILE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entries = [_proof_entry(entry) for entry in document["artifacts"]]
        photos = {str(photo["name"]) for photo in document["photos"]}
        hashes = {str(entry["file"]): str(entry["sha256"]) for entry in document["artifacts"]}
        proof = _Proof(
            document["passed"] is True,
            [str(line) for line in document["failures"]],
            {str(variant): float(limit) for variant, limit in document["gates"]["max_error"].items()},
            {str(variant): float(limit) for variant, limit in document["gates"]["min_psnr_db"].items()},
            int(document["gates"]["max_levels"]),
            len(document["photos"]),
            sorted({str(row["image"]) for entry in document["artifacts"] for row in entry["rows"]} - photos),
            entries,
        )
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: cannot be read as a proof ({reason}); run `afterlens verify` again"
        ) from error
    for artifact in bundle.contract.artifacts:
        if proof.passed and hashes.get(artifact.file) != artifact.sha256:
            raise UserError(
                f"{path}: does not cover {artifact.file} as it is now; run `afterlens verify` again"
            )
    return proof


def _proof_entry(entry: Mapping[str, Any]) -> _ProofEntry:
    rows = entry["rows"]
    levels = [int(row["levels"]) for row in rows if row["levels"] is not None]
    return _ProofEntry(
        str(entry["file"]),
        str(entry["variant"]),
        None if entry["runtime"] is None else str(entry["runtime"]),
        None if entry["max_error"] is None else float(entry["max_error"]),
        max((float(row["mean_error"]) for row in rows), default=None),
        None if entry["psnr"] is None else float(entry["psnr"]),
        max(levels, default=None),
        entry["passed"] is True,
    )


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
        _tiles(chapters[0]) if len(chapters) == 1 else "",
    )


def _tiles(chapter: _Chapter) -> Html:
    artifacts = chapter.bundle.contract.artifacts
    smallest = min(artifacts, key=lambda artifact: artifact.width * artifact.height)
    passed = None if chapter.proof is None else chapter.proof.passed
    proven = "no file was compared with PyTorch"
    if chapter.proof is not None:
        count = sum(entry.passed for entry in chapter.proof.entries)
        proven = f"{count} of {len(artifacts)} files match PyTorch"
    tiles = [
        (verdict(passed), proven),
        (_megabytes(min(a.bytes for a in artifacts)), "smallest file"),
        (f"{smallest.parameters / 1e6:.2f} M", "parameters"),
        (f"{smallest.macs / 1e9:.2f}", f"GMACs at {_size(smallest)}"),
    ]
    for document in chapter.timings:
        own = [result for result in document["results"] if result["artifact"]["file"] is not None]
        quickest = min(own, key=lambda result: result["timing"]["p50_ms"])
        size = f"{quickest['artifact']['width']}x{quickest['artifact']['height']}"
        where = "on this host" if document["provenance"] == "measured-host" else document["device"]["name"]
        tiles.append(
            (f"{quickest['timing']['p50_ms']:.0f} ms", f"TFLite at {size} {where}, {_threads(quickest)}")
        )
    return tag(
        "div",
        join(
            tag("div", tag("b", value), tag("span", label, class_="label"), class_="tile")
            for value, label in tiles
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
    if photo.artefact is not None:
        panes.append((photo.artefact, "artefact layer: what was taken out (mid-grey = nothing)"))
    figures = (
        tag("figure", picture(path, f"{photo.title}, {label}"), tag("figcaption", label))
        for path, label in panes
    )
    return join([tag("h3", photo.title), tag("div", join(figures), class_="triple", data_compare="")])


def _golden(bundle: Bundle) -> Comparison | None:
    """The bundle's largest golden photo: input, first output, and second output if there is one."""
    pngs = [golden for golden in bundle.contract.golden if golden.encoding == "png"]
    if not pngs:
        return None
    largest = max((golden.width * golden.height, golden.width, golden.height) for golden in pngs)
    shown = {golden.tensor: golden for golden in pngs if (golden.width, golden.height) == largest[1:]}
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
        _sizes(contract.artifacts),
        join(_timing_section(chapter, document) for document in chapter.timings),
        _contract_section(contract.artifacts),
        _provenance(chapter),
    )


def _proof_section(chapter: _Chapter) -> Html:
    proof = chapter.proof
    if proof is None:
        said = "There is no proof of this bundle: run `afterlens verify` on it before you ship it."
        return join([tag("h3", "Proof"), tag("p", verdict(None), " ", said)])
    limits = [f"largest error at most {limit:g} ({variant})" for variant, limit in proof.max_error.items()]
    limits += [f"PSNR at least {limit:g} dB ({variant})" for variant, limit in proof.min_psnr.items()]
    limits.append(f"at most {proof.max_levels} of 255 levels apart after rounding to 8 bits")
    photos = f"{proof.photos} photo{'s' if proof.photos != 1 else ''}"
    others = f" (and on: {', '.join(proof.others)})" if proof.others else ""
    note = (
        f"Each file was run on {photos}{others}, and compared with PyTorch in float32 on the same input. "
        "Shown is the worst picture; the full range is 1. "
        f"Gates: {'; '.join(limits)}."
    )
    rows = [
        (
            tag("code", entry.file),
            entry.variant,
            _EXECUTORS.get(entry.runtime or "", entry.runtime or "–"),
            _error(entry.max_error),
            _error(entry.mean_error),
            "–" if entry.psnr is None else f"{entry.psnr:.1f}",
            "–" if entry.levels is None else str(entry.levels),
            verdict(entry.passed),
        )
        for entry in proof.entries
    ]
    columns = ("file", "variant", "executed by", "max error>", "mean error>", "PSNR dB>", "levels>", "gate")
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
            _FORMATS[artifact.format],
            artifact.variant,
            _size(artifact),
            _megabytes(artifact.bytes),
            f"{artifact.parameters:,}",
            f"{artifact.macs / 1e9:.2f}",
            artifact.minimum_runtime,
        )
        for artifact in artifacts
    ]
    columns = ("file", "format", "variant", "size px>", "bytes>", "parameters>", "GMACs>", "runs from")
    note = "GMACs: multiply-accumulates of convolutions and matrix products; element-wise operations are not counted."
    return join([tag("h3", "Sizes"), tag("p", note, class_="note"), table(columns, rows)])


def _timing_section(chapter: _Chapter, document: Mapping[str, Any]) -> Html:
    device, machine = document["device"], document["machine"]
    results = [r for r in document["results"] if r["artifact"]["task"] == chapter.bundle.contract.task]
    ratios = {ratio["result"]: ratio for ratio in document["ratios"]}
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        groups[f"{result['artifact']['width']}x{result['artifact']['height']}"].append(result)
    where = (
        f"Measured on a host, not on a phone: {device['cpu']}, {device['cores']} cores, {device['os']}"
        if document["provenance"] == "measured-host"
        else f"Measured on {device['name']} ({device['cpu']}, {device['os']})"
    )
    turns = " All graphs took turns in every round, so the ratios hold even where the times waver."
    load = document["conditions"].get("load_average")
    note = where + "." + (turns if document["conditions"]["interleaved"] else "")
    note += f" {_versions(results)}."
    note += f" Load average before and after: {load[0]:g} and {load[1]:g}." if load else ""
    if machine is not None:
        note += (
            f" Yardstick: a {machine['matmul_size']}x{machine['matmul_size']} matrix product reached "
            f"{machine['matmul_gflops']:.0f} GFLOP/s in the same rounds."
        )
    bars = (
        join([tag("h4", f"{size}, median of a run"), _bars(group, ratios)]) for size, group in groups.items()
    )
    columns = (
        "graph",
        "p50 ms>",
        "p90>",
        "p99>",
        "ratio (p10–p90)>",
        "init ms>",
        "peak RSS>",
        "GFLOP/s>",
        "of matmul>",
    )
    return join(
        [
            tag("h3", "Times"),
            tag("p", note, class_="note"),
            join(bars),
            table(columns, [_timing_row(result, ratios.get(result["id"])) for result in results]),
        ]
    )


def _bars(results: Sequence[Mapping[str, Any]], ratios: Mapping[str, Mapping[str, Any]]) -> Html:
    longest = max(result["timing"]["p50_ms"] for result in results)
    rows = []
    for result in results:
        milliseconds = result["timing"]["p50_ms"]
        found = ratios.get(result["id"])
        times = "baseline" if found is None else f"× {found['p50']:.2f}"
        own = result["artifact"]["file"] is not None
        rows.append(
            tag(
                "div",
                tag("span", f"{_RUNTIMES[result['runtime']['name']]} {result['artifact']['variant']}"),
                tag("span", tag("span", style=f"width: {100 * milliseconds / longest:.1f}%"), class_="track"),
                tag("span", f"{milliseconds:.1f} ms · {times}", class_="value"),
                class_="row own" if own else "row",
            )
        )
    return tag("div", join(rows), class_="bars")


def _timing_row(result: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[object, ...]:
    timing = result["timing"]
    return (
        result["id"],
        f"{timing['p50_ms']:.1f}",
        f"{timing['p90_ms']:.1f}",
        f"{timing['p99_ms']:.1f}",
        "1 (baseline)" if found is None else f"{found['p50']:.2f} ({found['p10']:.2f}–{found['p90']:.2f})",
        "–" if timing["init_ms"] is None else f"{timing['init_ms']:.0f}",
        "–" if timing["peak_rss_bytes"] is None else _megabytes(timing["peak_rss_bytes"]),
        f"{result['achieved_gflops']:.0f}",
        "–" if result["share_of_matmul"] is None else f"{result['share_of_matmul']:.0%}",
    )


def _versions(results: Sequence[Mapping[str, Any]]) -> str:
    """What ran, how often and with how many threads."""
    delegates: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        runtime = result["runtime"]
        name = f"{_RUNTIMES[runtime['name']]} {runtime['version']}, {_threads(result)}"
        delegates[name] |= {runtime["delegate"]: None} if runtime["delegate"] else {}
    names = [f"{name} ({' or '.join(found)})" if found else name for name, found in delegates.items()]
    counts = {
        f"{result['timing']['runs']} runs after {result['timing']['warmup']} warm-ups" for result in results
    }
    return f"{'; '.join(names)}; {', '.join(sorted(counts))}"


def _contract_section(artifacts: Sequence[Artifact]) -> Html:
    """Inputs and outputs, those of equal artifacts named once."""
    rows = []
    seen: dict[tuple[object, ...], None] = {}
    for artifact in artifacts:
        for role, ports in (("input", artifact.inputs), ("output", artifact.outputs)):
            for port in ports:
                row = (
                    f"{_FORMATS[artifact.format]} {_size(artifact)}",
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


def _limits(chapters: Sequence[_Chapter]) -> Html:
    provenances = {document["provenance"] for chapter in chapters for document in chapter.timings}
    executed = {
        artifact.format
        for chapter in chapters
        for artifact in chapter.bundle.contract.artifacts
        if chapter.proof
        and any(e.file == artifact.file and e.max_error is not None for e in chapter.proof.entries)
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


def _threads(result: Mapping[str, Any]) -> str:
    threads = result["runtime"]["threads"]
    return "threads not chosen" if threads is None else f"{threads} thread{'s' if threads != 1 else ''}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"
