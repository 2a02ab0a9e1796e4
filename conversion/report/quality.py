"""The part of a report on quality: the table of all files, PSNR and SSIM against ground truth, and what quality costs."""

from collections.abc import Mapping, Sequence

from afterlens.conversion.bundle.contract import Artifact
from afterlens.conversion.bundle.labels import megabytes
from afterlens.conversion.bundle.proof import Proof, ProvenArtifact, Quality
from afterlens.conversion.bundle.variants import FORMATS, label, stored
from afterlens.conversion.report.pareto import HEIGHT, WIDTH, Point, draw, svg
from afterlens.conversion.report.templates import FAIL, Cell, Picture, Table, drawing, state_cell
from afterlens.conversion.report.verdict import Verdict

Milliseconds = Mapping[str, tuple[float, str]]
"""Median time and runtime by file, all from one run."""


def overview(
    artifacts: Sequence[Artifact],
    proof: Proof | None,
    verdict: Verdict,
    times: Milliseconds,
    phones: Mapping[str, Mapping[str, float]],
) -> Table:
    """All files of a bundle, a line each, by picture size, then by file size: did it pass, what does it cost and gain.

    Args:
        phones: median times by file, for each phone.
    """
    proved = {} if proof is None else {entry.file: entry for entry in proof.artifacts}
    evaluated = any(entry.quality is not None for entry in proved.values())
    columns = [
        *("file", "verdict", "size>", "vs PyTorch dB>"),
        *(("vs ground truth dB>", "loss dB>") if evaluated else ()),
        *((("host ms>" if phones else "ms>"),) if times else ()),
        *(f"{name} ms>" for name in phones),
    ]
    rows = []
    formats = list(FORMATS)
    ordered = sorted(artifacts, key=lambda a: (a.width * a.height, formats.index(a.format), -a.bytes))
    for artifact in ordered:
        entry = proved.get(artifact.file)
        quality = None if entry is None else entry.quality
        name = f"{FORMATS[artifact.format]} {label(artifact.format, artifact.variant)}"
        row: list[str | Cell] = [
            Cell(name, f"{artifact.width}x{artifact.height}"),
            _state(artifact, proof, verdict),
            megabytes(artifact.bytes),
            "–" if entry is None or entry.psnr is None else f"{entry.psnr:.1f}",
        ]
        if evaluated:
            row.append("–" if quality is None else f"{quality.psnr:.2f}")
            row.append(_loss_cell(quality))
        if times:
            row.append(f"{times[artifact.file][0]:.1f}" if artifact.file in times else "–")
        row += [f"{found[artifact.file]:.1f}" if artifact.file in found else "–" for found in phones.values()]
        rows.append(row)
    return Table(columns, rows)


def quality_table(proof: Proof) -> tuple[str, Table] | None:
    """A note and the table of PSNR and SSIM against ground truth; None if nothing was compared with it."""
    evaluated = _evaluated(proof)
    if not evaluated:
        return None
    rows = [
        (
            Cell(entry.file, stored(entry.format, entry.variant), code=True),
            Cell(f"{quality.psnr:.2f}", _index(quality.ssim)),
            Cell(f"{quality.reference_psnr:.2f}", _index(quality.reference_ssim)),
            _loss(quality),
            "–" if quality.budget is None else f"{quality.budget:g}",
            _worst_cell(quality),
            state_cell(quality.passed, entry.provenance),
        )
        for entry, quality in evaluated
    ]
    columns = (*("file", "PSNR dB, SSIM>", "PyTorch's>", "loss dB>", "budget dB>", "loses most on", "gate"),)
    return _note(evaluated), Table(columns, rows)


def plots(proof: Proof, times: Milliseconds) -> tuple[str, list[tuple[str, list[Picture]]]] | None:
    """A note, and for each picture size, smallest first, a plot of quality over bytes, and over time if timed."""
    evaluated = [entry for entry in proof.artifacts if entry.quality is not None]
    shown = evaluated or [entry for entry in proof.artifacts if entry.psnr is not None]
    if not shown:
        return None
    sizes = sorted({(entry.width * entry.height, entry.width, entry.height) for entry in shown})
    pictures = [
        (
            f"{width}x{height}",
            _plots([entry for entry in shown if (entry.width, entry.height) == (width, height)], times),
        )
        for _, width, height in sizes
    ]
    worth = (
        "PSNR against the ground truth, mean over the pictures"
        if evaluated
        else "PSNR against PyTorch, worst picture (nothing was compared with ground truth)"
    )
    runtimes = sorted({times[entry.file][1] for entry in shown if entry.file in times})
    timed = f" Times are measured-host, of {' and '.join(runtimes)}." if runtimes else ""
    note = f"Up and to the left is better; the line joins the files that no other file beats. {worth}.{timed}"
    return note, pictures


def _plots(entries: Sequence[ProvenArtifact], times: Milliseconds) -> list[Picture]:
    """Bytes and time of the variants of one picture size."""
    size = f"{entries[0].width}x{entries[0].height}"
    qualities = [entry.quality for entry in entries if entry.quality is not None]
    level = ("PyTorch float32", qualities[0].reference_psnr) if qualities else None
    costs = (
        (f"Size of the file, {size}", "MB", {entry.file: entry.bytes / 1e6 for entry in entries}),
        (f"Time on this host, {size}", "ms", {file: cost for file, (cost, _) in times.items()}),
    )
    pictures = []
    for title, unit, cost in costs:
        points = [
            Point(
                label(entry.format, entry.variant),
                max(cost[entry.file], 1e-9),
                entry.psnr or 0.0 if entry.quality is None else entry.quality.psnr,
                FORMATS[entry.format],
            )
            for entry in entries
            if entry.file in cost
        ]
        if not points:
            continue
        words = ", ".join(f"{p.format} {p.name} {p.x:.3g} {unit} {p.y:.2f} dB" for p in points)
        x_title = "MB" if unit == "MB" else "ms, median, measured-host"
        figure = draw(title, points, x_title=x_title, y_title="PSNR dB", level=level)
        pictures.append(drawing(svg(figure), f"{title}: {words}", WIDTH, HEIGHT))
    return pictures


def _evaluated(proof: Proof) -> list[tuple[ProvenArtifact, Quality]]:
    return [(entry, entry.quality) for entry in proof.artifacts if entry.quality is not None]


def _note(evaluated: Sequence[tuple[ProvenArtifact, Quality]]) -> str:
    pairs = max(len(quality.rows) for _, quality in evaluated)
    inputs = [quality.input_psnr for _, quality in evaluated if quality.input_psnr is not None]
    note = (
        f"Against the ground truth of {pairs} picture{'s' if pairs != 1 else ''}, means over them. The loss is "
        "PyTorch's PSNR minus the file's; the budget is the largest loss allowed."
    )
    return note + (f" The unprocessed inputs have {min(inputs):.2f} dB." if inputs else "")


def _index(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _loss(quality: Quality) -> str:
    return f"{round(quality.drop, 3) + 0.0:.3f}"  # no minus before zero


def _loss_cell(quality: Quality | None) -> str | Cell:
    if quality is None:
        return "–"
    return _loss(quality) if quality.budget is None else Cell(_loss(quality), f"of {quality.budget:g}")


def _worst_cell(quality: Quality) -> str | Cell:
    worst, tile = quality.worst, quality.worst.tile
    return Cell(f"{worst.image}: {worst.drop:.2f} dB", f"x {tile.x}, y {tile.y}: {tile.drop:.2f} dB")


def _state(artifact: Artifact, proof: Proof | None, verdict: Verdict) -> Cell:
    if artifact.file in verdict.changed:
        return Cell(f"changed since the {'conversion' if proof is None else 'proof'}", "", FAIL)
    return state_cell(None if proof is None else artifact.file in verdict.passed)
