"""List the risks of a bundle on phones."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson, BundlePath
from afterlens.output import library_output_on_stderr, show
from afterlens.samples import CALIBRATION, DEGRADED

if TYPE_CHECKING:
    from rich.console import Group


def lint(
    bundle: BundlePath,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photo", metavar="PHOTO", help="Real photos to run on; several times; default: bundled ones."
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY",
            help="Gate: fallback, dynamic, rank, layout, range or precision; several times.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens lint build/reflection --fail-on range

    Name what phones' GPUs and Neural Engines may refuse, and how close float16 comes to overflowing.

    The rules and their public sources are in docs/lint.md. Findings are risks: nothing runs on a phone. Exit code 1
    if a category of --fail-on has an error or a warning.
    """
    from afterlens.conversion.lint.lint import lint as run
    from afterlens.conversion.lint.lint import require
    from afterlens.training.media.images import find_photos

    with library_output_on_stderr():
        chosen = find_photos(photos or [*CALIBRATION, *sorted(DEGRADED.glob("*.jpg"))])
        result = run(bundle, chosen, fail_on=fail_on or ())
    show(result, as_json, lambda: findings(result))
    require(result)


def findings(report: Mapping[str, Any], shown: int = 10) -> "Group":
    """The report for people: findings, and the tensors that come nearest to the end of float16."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from afterlens.conversion.lint.ranges import LARGEST

    view = Table(title=Text(f"Risks in {report['task']} {report['version']}"))
    for column in ("severity", "rule", "file", "what", "first at", "layer"):
        view.add_column(column, overflow="fold")
    view.add_column("places", justify="right")
    for finding in report["findings"]:
        place = finding["places"][0]
        cells = (finding["severity"], finding["rule"], finding["file"], finding["message"])
        view.add_row(
            *map(Text, cells), Text(_tail(place["tensor"])), Text(place["layer"]), str(finding["count"])
        )
    parts: list[Any] = [view if report["findings"] else Text("No rule fired.")]
    for measured in report["ranges"]:
        size = f"{measured['width']}x{measured['height']}"
        if measured["not_measured"]:
            parts.append(Text(f"{size}: ranges not measured: {measured['not_measured']}"))
            continue
        highest = Table(
            title=Text(f"{size}: largest values, {measured['file']} on {len(measured['pictures'])} pictures")
        )
        for column in ("tensor", "operator", "layer", "picture"):
            highest.add_column(column, overflow="fold")
        for column in ("max |x|", "times below 65504", "subnormal"):
            highest.add_column(column, justify="right")
        rows = sorted(measured["tensors"], key=lambda tensor: -tensor["max_abs"])
        for tensor in rows[:shown]:
            cells = tuple(tensor[key] for key in ("tensor", "operator", "layer", "picture"))
            margin = "–" if tensor["margin"] is None else f"{tensor['margin']:.0f}"
            numbers = (f"{tensor['max_abs']:.4g}", margin, f"{tensor['subnormal_share']:.2%}")
            highest.add_row(*map(Text, cells), *numbers)
        parts.append(highest)
        sums = [tensor for tensor in measured["tensors"] if tensor["largest_sum"]]
        if sums:
            top = max(sums, key=lambda tensor: tensor["largest_sum"])
            parts.append(
                Text(
                    f"{size}: largest sum behind a mean: {top['largest_sum']:.4g}, "
                    f"{LARGEST / top['largest_sum']:.1f} times below 65504 ({top['tensor']}, {top['layer']})"
                )
            )
    parts.append(
        Text(
            "Findings are risks from public sources (docs/lint.md); ranges are of our executor. Nothing ran on a phone."
        )
    )
    return Group(*parts)


def _tail(name: str, length: int = 40) -> str:
    """The end of a name; TFLite's are made of all operators that were fused, joined by semicolons."""
    last = name.rsplit(";", maxsplit=1)[-1]
    return last if len(last) <= length else "…" + last[1 - length :]
