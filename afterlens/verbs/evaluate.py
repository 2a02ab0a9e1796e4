"""Measure image quality against ground truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson, Checkpoint, TaskName
from afterlens.output import library_output_on_stderr, show
from afterlens.training.media.errors import GateFailed, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from afterlens.training.task import Task


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
    judge: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For swap: dlib_face_recognition_resnet_model_v1.dat, which says who is shown (docs/swap.md).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens evaluate reflection afterlens/samples/evaluation --synthesize shadow

    Measure PSNR and SSIM against the ground truth, beside those of the untouched input.

    The photos in afterlens/samples are a quick check; a score needs photos of your own. DATA may hold captured pairs
    instead, DATA/input and DATA/target of equal sizes: `afterlens align` aligns them.

    For beard, DATA is portraits of bare faces (`afterlens heads`): beards are drawn on them and removed, and put on. The
    gates are on the mean gain inside of the beards, and on the mean PSNR of faces that were to stay bare.

    For swap, DATA is triplets (`afterlens heads --triplets`). The gate --fail-under is on the mean PSNR around the face.
    """
    from afterlens.benchmarks.evaluation.quality import evaluate as run
    from afterlens.benchmarks.evaluation.quality import require
    from afterlens.training.tasks import find_task

    found = find_task(task)
    weights = checkpoint or found.pretrained
    if judge is not None and found.faces != "identity":
        raise UserError(f"--judge: is for swap; leave it out for {task}")
    if found.faces:
        if synthesize or seed or fit_colours or fit_shift:
            raise UserError(f"--synthesize, --seed and --fit-... are not for {task}; leave them out")
        if found.faces == "identity":
            if fail_under_gain is not None:
                raise UserError(f"--fail-under-gain: is not for {task}; leave it out")
            _evaluate_swaps(found, weights, data, judge, out, fail_under, as_json)
        else:
            _evaluate_beards(found, weights, data, out, fail_under, fail_under_gain, as_json)
        return
    with library_output_on_stderr():
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


def _evaluate_beards(
    task: "Task",
    weights: Path,
    data: Path,
    out: Path | None,
    fail_under: float | None,
    fail_under_gain: float | None,
    as_json: bool,
) -> None:
    from afterlens.benchmarks.evaluation.beards import evaluate_beards

    with library_output_on_stderr():
        result = evaluate_beards(task, weights, data, out=out)
    show(result, as_json, lambda: _beard_scores(result))
    means = {name: result["all"][name]["mean"] for name in ("bare", "gain")}
    if fail_under is not None and not means["bare"] >= fail_under:
        raise GateFailed(f"bare faces are at {means['bare']:.2f} dB, the gate asks for {fail_under:.2f} dB")
    if fail_under_gain is not None and not means["gain"] >= fail_under_gain:
        raise GateFailed(
            f"removing gains {means['gain']:+.2f} dB, the gate asks for {fail_under_gain:+.2f} dB"
        )


def _evaluate_swaps(
    task: "Task",
    weights: Path,
    data: Path,
    judge: Path | None,
    out: Path | None,
    fail_under: float | None,
    as_json: bool,
) -> None:
    from afterlens.benchmarks.evaluation.swaps import dlib_judge, evaluate_swaps

    with library_output_on_stderr():
        recogniser = None if judge is None else dlib_judge(judge)
        result = evaluate_swaps(task, weights, data, judge=recogniser, out=out)
    show(result, as_json, lambda: _swap_scores(result))
    around = result["all"]["around"]
    if fail_under is not None and not around >= fail_under:
        raise GateFailed(f"around the face are {around:.2f} dB, the gate asks for {fail_under:.2f} dB")


def _swap_scores(result: dict[str, Any]) -> "RenderableType":
    from afterlens.output import table

    found, people = result["all"], result["people"]

    def spread(name: str, form: str) -> str:
        values = found[name]
        return f"{values['mean']:{form}} (95th percentile {values['high']:{form}}, worst {values['worst']:{form}})"

    rows = [
        ("distance of result and source", spread("to_source", ".2f")),
        ("of target and source", f"{found['target_to_source']:.2f}"),
        ("of first and source", f"{found['first_to_source']:.2f}"),
        (f"result taken for the source, of {people} people", f"{100 * found['nearest']:.0f} %"),
        ("target taken for the source", f"{100 * found['target_nearest']:.0f} %"),
        ("landmarks from the target's, pixels of 256", spread("pixels", ".2f")),
        ("the first's from the target's", f"{found['floor']:.2f}"),
        ("difference to the target, levels", spread("difference", ".1f")),
        ("of the laid source to the target", f"{found['laid']:.1f}"),
        ("around the face, dB", f"{found['around']:.1f} (worst {found['around_worst']:.1f})"),
    ]
    return table((f"{found['count']} swaps, judge: {result['judge']}", "mean"), rows)


def _beard_scores(result: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    view = Table(title=Text(f"{result['task']} on {result['data']}: mean (5th percentile, worst)"))
    view.add_column("faces")
    columns = (
        "count",
        "removing gains dB",
        "then inside dB",
        "around dB",
        "bare faces dB",
        "class: removed",
        "class: put on",
    )
    for column in columns:
        view.add_column(column, justify="right")
    groups = {"all": result["all"]}
    for by in ("by_class", "by_tone", "by_sex"):
        groups |= result[by]
    for name, group in groups.items():
        spreads = [
            f"{group[key]['mean']:.1f} ({group[key]['low']:.1f}, {group[key]['worst']:.1f})"
            for key in ("gain", "inside", "around", "bare")
        ]
        shares = [f"{100 * group[key]:.0f} %" for key in ("removed", "grown")]
        view.add_row(name, str(group["count"]), *spreads, *shares)
    return view


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
