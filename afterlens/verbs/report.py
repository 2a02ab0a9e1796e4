"""Write the HTML report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError

if TYPE_CHECKING:
    from afterlens.conversion.report.report import Comparison


def report(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE", help="Folders written by `afterlens convert`.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="HTML file to write.")],
    timings: Annotated[
        list[Path] | None,
        typer.Option("--bench", metavar="FILE", help="JSON of `afterlens bench`, or of a phone."),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option("--photo", metavar="BEFORE=AFTER", help="A photo and its restoration; several times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens report build/reflection -o build/report.html

    Write one HTML file with pictures, proof, sizes and times.

    It shows what `afterlens verify` and `afterlens bench` found before, and says what was not done.
    """
    from afterlens.benchmarks.document import read_document
    from afterlens.conversion.report.report import report as run

    with library_output_on_stderr():
        documents = [read_document(path) for path in timings or ()]
        comparisons = [_comparison(photo) for photo in photos or ()]
        written = run(bundles, timings=documents, photos=comparisons, out=out)
    show({"report": str(written)}, as_json, lambda: table(("report",), [(str(written),)]))


def _comparison(text: str) -> "Comparison":
    from afterlens.conversion.report.report import Comparison

    before, separator, after = text.partition("=")
    if not separator:
        raise UserError(f"photo {text!r}: expected BEFORE=AFTER, two image files")
    return Comparison(Path(before).stem.replace("_", " "), Path(before), Path(after))
