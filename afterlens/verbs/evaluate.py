"""Measure image quality against ground truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson, Checkpoint, TaskName
from afterlens.output import library_output_on_stderr, show

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    task: TaskName,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of pairs, or of clean photos.")],
    checkpoint: Checkpoint = None,
    synthesize: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="DATA is clean photos: degrade them like this, for example: shadow."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthesis.")] = 0,
    fit_colours: Annotated[
        bool,
        typer.Option(
            "--fit-colours",
            help="First fit gain and offset per channel: the ground truth is from another camera.",
        ),
    ] = False,
    fit_shift: Annotated[
        bool, typer.Option("--fit-shift", help="First fit a shift of up to 8 pixels: the camera moved.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="For quality.json and quality.png.")
    ] = None,
    fail_under: Annotated[float | None, typer.Option(metavar="DB", help="Gate: smallest mean PSNR.")] = None,
    fail_under_gain: Annotated[
        float | None, typer.Option(metavar="DB", help="Gate: smallest mean PSNR gain over the input.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens evaluate reflection afterlens/samples/evaluation --synthesize shadow

    Measure PSNR and SSIM against the ground truth, beside those of the untouched input.

    The photos in afterlens/samples are a quick check; a score needs photos of your own. DATA may hold captured pairs
    instead, DATA/input and DATA/target of equal sizes: `afterlens align` aligns them.
    """
    from afterlens.benchmarks.evaluation.quality import evaluate as run
    from afterlens.benchmarks.evaluation.quality import require
    from afterlens.training.tasks import find_task

    with library_output_on_stderr():
        found = find_task(task)
        weights = checkpoint or found.pretrained
        result = run(
            found,
            weights,
            data,
            synthesize=synthesize,
            seed=seed,
            fit_colours=fit_colours,
            fit_shift=fit_shift,
            out=out,
        )
    show(result, as_json, lambda: scores(result))
    require(result, fail_under=fail_under, fail_under_gain=fail_under_gain)


def scores(result: dict[str, Any]) -> "Table":
    """The scores of `evaluate`'s result for people, means in the last row."""
    from rich.table import Table
    from rich.text import Text

    # Text wherever a file name stands: brackets in it are no markup
    kind = f", {result['synthesize']} (seed {result['seed']})" if result["synthesize"] else ""
    fit = ", colours fitted to the ground truth" if result["fit_colours"] else ""
    fit += ", shift fitted to the ground truth" if result["fit_shift"] else ""
    view = Table(title=Text(f"{result['task']} on {result['data']}{kind}{fit}"))
    view.add_column("image")
    columns = ["size", "input dB", "restored dB", "gain dB", "input SSIM", "restored SSIM"]
    if result["mean"]["sharp_psnr"] is not None:
        columns.append("sharp parts to themselves dB")
    for column in columns:
        view.add_column(column, justify="right")
    for image in result["images"]:
        size = f"{image['width']}x{image['height']}"
        view.add_row(Text(image["name"]), size, *_numbers(image)[: len(columns) - 1])
    view.add_section()
    numbers = _numbers(result["mean"])[: len(columns) - 1]
    view.add_row(f"mean of {result['count']}", "", *numbers, style="bold")
    return view


def _numbers(scores: dict[str, Any]) -> list[str]:
    forms = {
        "input_psnr": "{:.2f}",
        "psnr": "{:.2f}",
        "psnr_gain": "{:+.2f}",
        "input_ssim": "{:.4f}",
        "ssim": "{:.4f}",
        "sharp_psnr": "{:.2f}",
    }
    return ["–" if scores[key] is None else form.format(scores[key]) for key, form in forms.items()]
