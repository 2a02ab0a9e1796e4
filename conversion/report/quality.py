"""The part of a report on quality: PSNR and SSIM against ground truth, heat-maps, and what quality costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from afterlens.conversion.bundle.labels import FORMATS, label, stored
from afterlens.conversion.bundle.proof import Found, Proven, Quality
from afterlens.conversion.report.page import Html, join, picture, table, tag, verdict, with_note
from afterlens.conversion.report.pareto import Point, plot
from afterlens.training.media.errors import UserError

SHOWN_DROP = 0.05
"""dB on the worst picture; heat-maps of less are black."""


def quality_section(folder: Path, proof: Found) -> Html:
    """PSNR and SSIM against ground truth, and where each variant loses most; empty where nothing was judged.

    Raises UserError where a heat-map of the bundle `folder` is a link or no picture.
    """
    judged = [(entry, entry.quality) for entry in proof.artifacts if entry.quality is not None]
    if not judged:
        return Html("")
    rows = [
        (
            with_note(tag("code", entry.file), stored(entry.format, entry.variant)),
            with_note(f"{quality.psnr:.2f}", _index(quality.ssim)),
            with_note(f"{quality.reference_psnr:.2f}", _index(quality.reference_ssim)),
            f"{round(quality.drop, 3) + 0.0:.3f}",  # no minus before zero
            "–" if quality.budget is None else f"{quality.budget:g}",
            _worst_cell(quality),
            with_note(verdict(quality.passed), entry.provenance),
        )
        for entry, quality in judged
    ]
    columns = (*("file", "PSNR dB, SSIM>", "PyTorch's>", "drop dB>", "budget dB>", "loses most on", "gate"),)
    pairs = max(len(quality.rows) for _, quality in judged)
    inputs = [quality.input_psnr for _, quality in judged if quality.input_psnr is not None]
    note = (
        f"Against the ground truth of {pairs} picture{'s' if pairs != 1 else ''}, means over them. The drop is "
        "PyTorch's PSNR less the file's; the budget is the largest drop allowed."
    )
    note += f" The pictures as they came have {min(inputs):.2f} dB." if inputs else ""
    return join(
        [
            tag("h3", "Quality"),
            tag("p", note, class_="note"),
            table(columns, rows),
            _heatmaps(folder, judged),
        ]
    )


def _index(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _worst_words(quality: Quality) -> str:
    worst = quality.worst
    if worst is None:
        return "–"
    tile = worst.tile
    place = f" ({tile.drop:.2f} dB at x {tile.x}, y {tile.y})" if tile is not None else ""
    return f"{worst.image}: {worst.drop:.2f} dB{place}"


def _worst_cell(quality: Quality) -> object:
    worst = quality.worst
    if worst is None:
        return "–"
    words = f"{worst.image}: {worst.drop:.2f} dB"
    tile = worst.tile
    return words if tile is None else with_note(words, f"x {tile.x}, y {tile.y}: {tile.drop:.2f} dB")


def _heatmaps(folder: Path, judged: Sequence[tuple[Proven, Quality]]) -> Html:
    """The worst picture of each variant, of the size that loses most."""
    chosen: dict[tuple[str, str], tuple[Proven, Quality, Path]] = {}
    for entry, quality in judged:
        path = _heatmap(folder, quality)
        key = (entry.format, entry.variant)
        if path is not None and (key not in chosen or quality.drop > chosen[key][1].drop):
            chosen[key] = (entry, quality, path)
    if not chosen:
        return Html("")
    figures = []
    for entry, quality, path in chosen.values():
        title = f"{FORMATS[entry.format]} {label(entry.format, entry.variant)}, {entry.width}x{entry.height}"
        words = f"{title}: {_worst_words(quality)}"
        figures.append(tag("figure", picture(path, f"Heat-map, {words}"), tag("figcaption", words)))
    note = (
        "Where each variant differs from PyTorch, on the picture that it loses most on: black where it does not, over "
        f"red and yellow to white. Variants that lose less there than {SHOWN_DROP:g} dB are left out."
    )
    return join(
        [tag("h4", "Heat-maps"), tag("p", note, class_="note"), tag("div", join(figures), class_="triple")]
    )


def _heatmap(folder: Path, quality: Quality) -> Path | None:
    """The picture's file, None where there is none worth showing. Its name was checked when the proof was read."""
    if quality.worst is None or quality.worst.heatmap is None or quality.worst.drop < SHOWN_DROP:
        return None
    path = folder / quality.worst.heatmap
    if path.is_symlink() or path.parent.is_symlink():
        raise UserError(f"{path}: is a link; a bundle holds its own files only, do not use this one")
    return path if path.is_file() else None


def pareto_section(proof: Found, milliseconds: Mapping[str, float]) -> Html:
    """What each variant costs, in bytes and in time, and what its pictures are worth.

    Args:
        milliseconds: of the files that were timed, all in one run.
    """
    judged = [entry for entry in proof.artifacts if entry.quality is not None]
    shown = judged or [entry for entry in proof.artifacts if entry.psnr is not None]
    sizes = sorted({(entry.width * entry.height, entry.width, entry.height) for entry in shown})
    plots = [
        figure
        for _, width, height in sizes
        for figure in _pareto(
            milliseconds, [entry for entry in shown if (entry.width, entry.height) == (width, height)]
        )
    ]
    if not plots:
        return Html("")
    worth = (
        "PSNR against the ground truth, mean over the pictures"
        if judged
        else "PSNR against PyTorch, worst picture (nothing was judged against ground truth)"
    )
    note = (
        f"Up and to the left is better; the line joins the files that no other one beats. {worth}. Sizes are those "
        "of the files; times, of TFLite only, are measured-host: our executor of Core ML packages says "
        "nothing of their speed."
    )
    return join(
        [
            tag("h3", "Cost and quality"),
            tag("p", note, class_="note"),
            tag("div", join(plots), class_="plots"),
        ]
    )


def _pareto(milliseconds: Mapping[str, float], entries: Sequence[Proven]) -> list[Html]:
    """Size and time of the variants of one picture size."""
    size = f"{entries[0].width}x{entries[0].height}"
    qualities = [entry.quality for entry in entries if entry.quality is not None]
    level = ("PyTorch float32", qualities[0].reference_psnr) if qualities else None

    def points(costs: Mapping[str, float]) -> list[Point]:
        return [
            Point(
                label(entry.format, entry.variant),
                max(costs[entry.file], 1e-9),
                entry.psnr or 0.0 if entry.quality is None else entry.quality.psnr,
                FORMATS[entry.format],
            )
            for entry in entries
            if entry.file in costs
        ]

    figures = []
    sizes = {entry.file: entry.bytes / 1e6 for entry in entries}
    for title, x_title, costs in (
        (f"Size of the file, {size}", "MB", sizes),
        (f"Time on this host, {size}", "ms, median, measured-host", milliseconds),
    ):
        if found := points(costs):
            figures.append(plot(title, found, x_title=x_title, y_title="PSNR dB", level=level))
    return figures
