"""Compare two bundles, benchmarks or proofs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show

if TYPE_CHECKING:
    from rich.console import Group


def compare(
    base: Annotated[
        Path, typer.Argument(metavar="BASE", help="A bundle, or a JSON of `afterlens bench` or `verify`.")
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same, after the change.")],
    timings: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--bench", metavar="BASE.json NEW.json", help="`afterlens bench` of both bundles."),
    ] = None,
    max_psnr_drop: Annotated[
        float, typer.Option(metavar="DB", help="Against the ground truth, mean over the pictures.")
    ] = 0.05,
    max_ssim_drop: Annotated[
        float, typer.Option(metavar="INDEX", help="Against the ground truth, mean over the pictures.")
    ] = 0.002,
    max_fidelity_drop: Annotated[
        float, typer.Option(metavar="DB", help="Against PyTorch, worst picture.")
    ] = 3.0,
    max_size_growth: Annotated[str, typer.Option(metavar="PERCENT", help="Of each file.")] = "1%",
    max_slowdown: Annotated[
        str,
        typer.Option(metavar="PERCENT", help="Of the time, counted in matrix products of the same machine."),
    ] = "10%",
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Artifacts may disappear, inputs and outputs may change.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Table for a pull request.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens compare build/reflection build/reflection

    Compare two bundles, benchmarks or proofs: quality, size, time, operators, inputs and outputs.

    Exit code 1, and a line that names the first regression, if something is worse than allowed. Times are compared as
    multiples of a matrix product, with an interval for their noise: see docs/compare.md.
    """
    from afterlens.benchmarks.compare import Limits, require, share
    from afterlens.benchmarks.compare import compare as run
    from afterlens.benchmarks.compare_text import write_markdown

    with library_output_on_stderr():
        growth, slowdown = share(max_size_growth), share(max_slowdown)
        limits = Limits(
            max_psnr_drop, max_ssim_drop, max_fidelity_drop, growth, slowdown, allow_breaking=allow_breaking
        )
        result = run(base, new, bench=timings, limits=limits)
        if markdown is not None:
            write_markdown(result, markdown)
    show(result, as_json, lambda: differences(result))
    require(result)


_COLOURS = {"worse": "red", "unclear": "yellow", "same": "", "better": "green"}


def differences(result: Mapping[str, Any]) -> "Group":
    """The result of `compare` for people at a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from afterlens.benchmarks.compare_text import NAMES, details_of, in_words, measures_of

    measures = measures_of(result)
    view = Table(title=Text(f"{result['base']['name']} -> {result['new']['name']}"))
    view.add_column("artifact")
    for measure in measures:
        view.add_column(NAMES[measure])
    for artifact in result["artifacts"]:
        found = {change["measure"]: change for change in artifact["changes"]}
        cells = [Text(artifact["id"])]
        for measure in measures:
            change = found.get(measure)
            word = "" if change is None or change["verdict"] == "same" else f" {change['verdict']}"
            colour = "" if change is None else _COLOURS[change["verdict"]]
            cells.append(Text("–" if change is None else in_words(change) + word, style=colour))
        view.add_row(*cells)
    return Group(view, *(Text(f"{label}: {text}") for label, text in details_of(result)))
