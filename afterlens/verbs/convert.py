"""Convert weights to TFLite and Core ML."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson, Checkpoint, Pairs, height_and_width
from afterlens.output import library_output_on_stderr, show, table
from afterlens.pictures import calibration_pictures, recipe_budgets, shown
from afterlens.samples import CALIBRATION


def convert(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="The task (reflection, udc, deblur, beard or swap), or package.module:function of your network "
            "(docs/external.md).",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="BUNDLE", help="New folder for the bundle.")],
    checkpoint: Checkpoint = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            metavar="WIDTHxHEIGHT",
            help="Input size; several times for several; default: the task's own.",
        ),
    ] = None,
    photo: Annotated[
        Path | None,
        typer.Option(
            metavar="PHOTO",
            help="Photo of the golden example, stored with its restoration; default: a bundled one.",
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Comma-separated, such as float16.tflite,int8.mlpackage, or: all. Default: below.",
        ),
    ] = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            help="Clean photos and folders, degraded as in training, to calibrate integer variants on; default: "
            "bundled ones.",
        ),
    ] = None,
    pairs: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256

    Convert weights to TFLite and Core ML, in float and in smaller variants.

    BUNDLE holds the artifacts, model.json (what an app must know of them) and golden/ (an input and the expected
    outputs). Works offline. `afterlens verify` proves the result.

    Variants: float32.tflite, float16.tflite, mixed.tflite, float16.mlpackage, int8.mlpackage and palettized6.mlpackage by
    default; also dynamic_range_quant.tflite, full_integer_quant.tflite, integer_quant_with_int16_act.tflite,
    palettized4.mlpackage and mixed.mlpackage.
    """
    from dataclasses import asdict

    from afterlens.conversion.bundle.contract import read_bundle
    from afterlens.conversion.bundle.variants import VARIANTS
    from afterlens.conversion.convert import convert as run
    from afterlens.conversion.external import is_external
    from afterlens.conversion.network import external, trained
    from afterlens.training.media.errors import GateFailed

    with library_output_on_stderr():
        wanted = list(dict.fromkeys(height_and_width(size) for size in sizes or ()))
        graphs, provenance = (external if is_external(task) else trained)(task, checkpoint, wanted)
        examples = calibration_pictures(task, pairs, calibration)
        default = [v.file_ending for v in VARIANTS if v.is_default and (examples is not None or v.is_float)]
        every = [v.file_ending for v in VARIANTS]
        chosen = every if variants == "all" else variants.split(",") if variants else default
        incomplete: GateFailed | None = None
        try:
            bundle = run(
                graphs,
                out,
                provenance,
                golden_photo=photo or (CALIBRATION[0] if is_external(task) else shown(task)[-1]),
                earlier=() if photo or is_external(task) else shown(task)[-2::-1],
                variants=chosen,
                examples=examples,
                mixed_budget=recipe_budgets(task)["mixed"]
                / 3,  # a third: `verify` evaluates on other pictures
            )
        except GateFailed as error:  # the bundle is there, without some of its files
            incomplete, bundle = error, read_bundle(out)
    rows = [
        (artifact.file, artifact.format, f"{artifact.bytes / 1e6:.2f}", f"{artifact.macs / 1e9:.2f}")
        for artifact in bundle.contract.artifacts
    ]
    show(
        {"bundle": str(out), **asdict(bundle.contract)},
        as_json,
        lambda: table(("artifact", "format", "MB", "GMACs"), rows),
    )
    if incomplete is not None:
        raise incomplete
