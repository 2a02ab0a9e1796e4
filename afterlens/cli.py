"""The console command: each verb parses its arguments, calls one function of the library and shows the result.

    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

Heavy libraries (PyTorch, TensorFlow, coremltools) are imported inside the verb that needs them, so that
`afterlens --help` answers at once. Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a gate
failed, 2 bad usage or input, 70 a bug of ours, 130 interrupted.
"""

import io
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from afterlens.samples import CALIBRATION, DEGRADED, EVALUATION, FRAMES
from afterlens.training.media.errors import GateFailed, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from afterlens.conversion.bundle.contract import Contract
    from afterlens.conversion.examples import Example
    from afterlens.conversion.report.report import Comparison
    from afterlens.training.deployable import Deployable
    from afterlens.training.task import Task


class _OpensWithExample:
    """Help that opens with a command to paste: the first line of the docstring."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.example, _, kwargs["help"] = cleandoc(kwargs["help"]).partition("\n\n")
        super().__init__(*args, **kwargs)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # Not everybody has activated the environment: name the program as it can be started.
        program = "afterlens"
        if shutil.which(program) is None:
            started = Path(sys.argv[0])
            by_name = started.name == "__main__.py"  # python -m afterlens
            program = (
                f"{shlex.quote(sys.executable)} -m afterlens"
                if by_name
                else shlex.quote(os.path.relpath(started))
            )
        typer.echo(self.example.replace("afterlens ", f"{program} "))
        super().format_help(ctx, formatter)  # type: ignore[misc]


class _Verb(_OpensWithExample, TyperCommand):
    pass


class _Verbs(_OpensWithExample, TyperGroup):
    pass


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

    Train networks that restore photos, convert them to TFLite and Core ML, and prove that the result is right.

    Exit codes: 0 done, 1 a gate failed, 2 bad usage or input.
    """,
)


class Runtime(StrEnum):
    """What runs the network."""

    TORCH = "torch"
    TFLITE = "tflite"
    COREML = "coreml"


TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The system, for example: reflection.")]
BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A folder written by `afterlens convert`.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option("-c", "--checkpoint", metavar="FILE", help="Weights; default: the bundled ones."),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION", help="Another team's network, in place of a checkpoint (docs/external.md)."
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Real pairs: DIR/input and DIR/target, or a folder for each input called like it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.command(cls=_Verb)
def train(
    task: TaskName,
    data: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="Clean photos, folders of them, and clips.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "-s", "--set", metavar="KEY=VALUE", help="Change the recipe; may be given several times."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN exactly.")] = False,
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Weights to start from (fine-tuning).")
    ] = None,
    licence: Annotated[
        str, typer.Option("--data-licence", metavar="TEXT", help="Of the photos; is stored with the weights.")
    ] = "not stated",
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Only write a PNG contact sheet of degraded photos, to look at first."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens train reflection afterlens/samples/calibration -o build/run -s training.steps=2 -s training.validation_photos=1

    Train on clean photos; the task's recipe says how they are degraded. Of a clip, the sharpest frame of every second
    is a photo.

    RUN holds checkpoints, TensorBoard logs and best.safetensors, the weights that the other verbs take. The recipe is
    training/TASK/recipe.toml. Several processes or machines: `accelerate launch -m afterlens train ...`.
    """
    from afterlens.training.checkpoint import load_checkpoint
    from afterlens.training.frames import photos_of
    from afterlens.training.loop import train as run
    from afterlens.training.preview import contact_sheet

    if preview is not None:
        with _library_output_on_stderr(), tempfile.TemporaryDirectory(prefix="afterlens-") as scratch:
            contact_sheet(_task(task), photos_of(data, Path(scratch)), preview, overrides=changes or ())
        _show({"preview": str(preview)}, as_json, lambda: _table(("preview",), [(str(preview),)]))
        return
    if out is None:
        raise UserError("no folder for the run: add -o RUN (or --preview FILE, to look at the samples first)")
    with _library_output_on_stderr():
        weights = run(
            _task(task),
            data,
            out,
            overrides=changes or (),
            resume=resume,
            initial=initial,
            data_licence=licence,
        )
        metadata = load_checkpoint(weights)[1]
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return
    scores = [(name, f"{value:.2f}") for name, value in metadata["metrics"].items()]
    rows = [("weights", str(weights)), ("step", str(metadata["step"])), *scores]
    _show({"weights": str(weights), **metadata}, as_json, lambda: _table(("trained", task), rows))


@app.command(cls=_Verb)
def evaluate(
    task: TaskName,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of pairs, or of clean photos.")],
    checkpoint: Checkpoint = None,
    synthesize: Annotated[
        str | None, typer.Option(metavar="KIND", help="DATA is clean: degrade it so, for example: shadow.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the synthesis.")] = 0,
    fit_colours: Annotated[
        bool,
        typer.Option(
            "--fit-colours", help="Fit gain and offset per channel first: the truth is of another camera."
        ),
    ] = False,
    fit_shift: Annotated[
        bool, typer.Option("--fit-shift", help="Fit a shift of up to 8 pixels first: the camera shook.")
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
    afterlens evaluate reflection afterlens/samples/calibration --synthesize shadow

    Measure PSNR and SSIM against the truth, beside those of the untouched input.
    """
    from afterlens.benchmarks.evaluation.quality import evaluate as run
    from afterlens.benchmarks.evaluation.quality import require, table

    with _library_output_on_stderr():
        found = _task(task)
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
    _show(result, as_json, lambda: table(result))
    require(result, fail_under=fail_under, fail_under_gain=fail_under_gain)


@app.command(cls=_Verb)
def align(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUTS [TARGETS]", help="Two folders with the same file names, or one of pairs."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="New folder for the aligned pairs.")
    ],
    threshold: Annotated[
        float,
        typer.Option(metavar="PX", help="Deviation above which keypoints align, not mutual information."),
    ] = 16.0,
    max_residual: Annotated[
        float, typer.Option(metavar="PX", help="A pair that is still further off is left out.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """
    afterlens align afterlens/samples/captured -o build/aligned

    Lay captured targets onto their inputs, and cut both to what they share.

    OUT holds input/ and target/ (PNG, same names), pairs.csv (deviation, branch and residual of each pair) and
    preview.png (red: input, cyan: target). A pair that cannot be read or aligned is named and left out; the exit code
    is 2 only if no pair is left.
    """
    from afterlens.training.pairs import find_pairs, match_folders
    from afterlens.training.udc.alignment import align_pairs

    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders: expected inputs and targets, or one folder of pairs")
    with _library_output_on_stderr():
        pairs = match_folders(*folders) if len(folders) == 2 else find_pairs(folders[0])
        files = [(pair.name, pair.input, pair.target) for pair in pairs]
        result = align_pairs(files, out, threshold=threshold, max_residual=max_residual)
    rows = [
        (
            pair["pair"],
            *(_figure(pair[key]) for key in ("deviation", "branch", "residual")),
            pair["reason"] or "",
        )
        for pair in result["pairs"]
    ]
    columns = ("pair", "deviation px", "branch", "residual px", "left out because")
    _show(result, as_json, lambda: _table(columns, rows))
    if not result["aligned"]:
        raise UserError(f"none of {len(rows)} pairs could be aligned; {out / 'pairs.csv'} says why")


@app.command(cls=_Verb)
def psf(
    pattern: Annotated[
        Path,
        typer.Argument(metavar="PATTERN", help="Picture of the panel: black blocks light, white passes it."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="NumPy file to write, .npy.")],
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG in logarithmic brightness, five decades.")
    ] = None,
    pitch: Annotated[float, typer.Option(metavar="UM", help="One pixel of PATTERN, on the panel.")] = 1.0,
    focal_length: Annotated[float, typer.Option(metavar="MM", help="Of the lens, not an equivalent.")] = 3.8,
    aperture: Annotated[float, typer.Option(metavar="MM", help="Diameter: focal length / f-number.")] = 1.9,
    sensor_pixel: Annotated[
        float, typer.Option(metavar="UM", help="One pixel of the photos, on the sensor.")
    ] = 1.12,
    wavelengths: Annotated[
        str, typer.Option(metavar="R,G,B", help="Middle of each channel in nm.")
    ] = "610,540,460",
    bandwidth: Annotated[float, typer.Option(metavar="NM", help="Of a channel, at half its height.")] = 50.0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="A side of the result, odd.")] = 257,
    as_json: AsJson = False,
) -> None:
    """
    afterlens psf afterlens/samples/panels/pentile.png -o build/psf.npy --preview build/psf.png

    Compute what a display in front of the camera makes of a point of light.

    PATTERN may be one period of the panel: it is repeated until it fills the aperture; of a larger picture the middle
    is used. FILE holds float32 (3, PIXELS, PIXELS): red, green and blue, each summing to 1.
    """
    from afterlens.training.udc.psf import Optics, simulate

    with _library_output_on_stderr():
        optics = Optics(pitch, focal_length, aperture, sensor_pixel, _three_numbers(wavelengths), bandwidth)
        result = simulate(pattern, optics, size, out, preview)
    files = [("PSF", result["psf"]), *([("preview", result["preview"])] if preview else [])]
    shares = [
        (name, " ".join(f"{share:.3f}" for share in result[key]))
        for name, key in (
            ("light within the window (R, G, B)", "captured"),
            ("of it on the middle pixel", "middle_pixel"),
        )
    ]
    rows = [*files, ("light through the panel", f"{result['transmission']:.3f}"), *shares]
    _show(result, as_json, lambda: _table(("", f"{size}x{size} pixels"), rows))


@app.command(cls=_Verb)
def restore(
    task: TaskName,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Photos, and folders of photos; for a task of clips one clip, or its frames.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A .png file for one photo, a video file for one, else a folder.",
        ),
    ],
    runtime: Annotated[
        Runtime, typer.Option(help="PyTorch, or a converted artifact; Core ML by our own executor.")
    ] = Runtime.TORCH,
    checkpoint: Checkpoint = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Where the artifacts are, for tflite and coreml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

    Restore photos at their own size, as PNG.

    EXIF data and RGB colour profiles are kept, transparency is dropped, of animations the first frame is taken. In a
    folder the results have the inputs' names. Of several photos, one that cannot be read is named and skipped; the
    others are written all the same, and the exit code is 2.

    A task whose network takes the frame before, too, restores a clip instead: one video file (MP4, MOV, MKV, WebM, AVI,
    MPEG-TS) into a .mp4, .mov, .mkv or .webm, or a folder of frames into a folder of PNGs. Size, times of the frames,
    sound and subtitles are kept: `afterlens restore TASK clip.mp4 -o sharp.mp4`.
    """
    from afterlens.conversion.restore.photo import restore as run

    found = _task(task)
    if found.stream:
        _restore_clip(found, inputs, out, runtime, checkpoint, bundle, as_json)
        return
    with _library_output_on_stderr():
        result = run(found, inputs, out, runtime=runtime.value, checkpoint=checkpoint, bundle=bundle)
    rows = [
        (image["input"], image["output"], f"{image['width']}x{image['height']}") for image in result["images"]
    ]
    _show(result, as_json, lambda: _table(("photo", "restored", "size"), rows))
    if failed := result["failed"]:
        raise UserError(
            f"{len(failed)} of {len(failed) + len(rows)} photos could not be restored; they are named above"
        )


@app.command(cls=_Verb)
def convert(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="The system, or package.module:function of your own (docs/external.md)."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="BUNDLE", help="New folder for the bundle.")],
    checkpoint: Checkpoint = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size", metavar="WIDTHxHEIGHT", help="May be given several times; default: the task's."
        ),
    ] = None,
    photo: Annotated[
        Path | None,
        typer.Option(
            metavar="PHOTO", help="Its restoration is stored as the golden example; default: a bundled one."
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
            help="Clean photos and folders, degraded as in training, for the ranges of integer variants; default: "
            "bundled ones.",
        ),
    ] = None,
    pairs: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection

    Convert weights to TFLite and Core ML, in float and in smaller variants.

    BUNDLE holds the artifacts, model.json (what an app must know of them) and golden/ (an input and the expected
    outputs). Needs no network. `afterlens verify` proves the result.

    Variants: float32.tflite, float16.tflite, mixed.tflite and float16.mlpackage by default; also
    dynamic_range_quant.tflite, full_integer_quant.tflite, integer_quant_with_int16_act.tflite, int8.mlpackage,
    palettized6.mlpackage, palettized4.mlpackage and mixed.mlpackage.
    """
    from dataclasses import asdict

    from afterlens.conversion.convert import DEFAULT_VARIANTS, VARIANTS
    from afterlens.conversion.convert import convert as run
    from afterlens.conversion.external import is_external

    with _library_output_on_stderr():
        wanted = list(dict.fromkeys(_height_and_width(size) for size in sizes or ()))
        graphs, provenance = (_external if is_external(task) else _trained)(task, checkpoint, wanted)
        examples = _calibration(task, pairs, calibration)
        default = [name for name in DEFAULT_VARIANTS if examples is not None or name.startswith("float")]
        chosen = VARIANTS if variants == "all" else variants.split(",") if variants else default
        bundle = run(
            graphs,
            out,
            provenance,
            golden_photo=photo or (CALIBRATION[0] if is_external(task) else _shown(task)[-1]),
            earlier=() if photo or is_external(task) else _shown(task)[-2::-1],
            variants=chosen,
            examples=examples,
            mixed_budget=_recipe_budgets(task)["mixed"] / 3,  # the pictures to come are others
        )
    rows = [
        (artifact.file, artifact.format, f"{artifact.bytes / 1e6:.2f}", f"{artifact.macs / 1e9:.2f}")
        for artifact in bundle.contract.artifacts
    ]
    _show(
        {"bundle": str(out), **asdict(bundle.contract)},
        as_json,
        lambda: _table(("artifact", "format", "MB", "GMACs"), rows),
    )


@app.command(cls=_Verb)
def verify(
    bundle: BundlePath,
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTO", help="Real photos to compare on; default: bundled ones."),
    ] = None,
    checkpoint: Checkpoint = None,
    reference: Reference = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            help="Clean photos and folders, degraded as in training, to judge by; never those calibrated on. Default: "
            "bundled ones.",
        ),
    ] = None,
    pairs: Pairs = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT=DB", help="What a variant may lose; default: the recipe's [budgets]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection && afterlens verify build/reflection

    Prove that every artifact computes what PyTorch computes, and that its pictures are as good.

    Writes BUNDLE/proof.json and BUNDLE/heatmaps. Exit code 1, and a line that names artifact, photo and worst place, if
    one is wrong or loses more PSNR against the truth than its budget.
    """
    from afterlens.conversion.bundle.contract import read_bundle
    from afterlens.conversion.bundle.proof import PROOF_FILE
    from afterlens.conversion.tflite.check import refuse_unknown_budget
    from afterlens.conversion.verify.gates import VARIANTS
    from afterlens.conversion.verify.verify import verify as run
    from afterlens.training.media.images import find_photos

    with _library_output_on_stderr():
        contract = read_bundle(bundle).contract
        graphs, weights = _references(contract, checkpoint, reference)
        budgets = _recipe_budgets(contract.task) | _budgets(budget or ())
        refuse_unknown_budget(budgets, VARIANTS)
        judged = _evaluated(contract, graphs, truth, pairs)
        failure = None
        try:
            proof = run(
                bundle,
                graphs,
                find_photos(photos or (FRAMES if _takes_clips(contract.task) else CALIBRATION)),
                checkpoint=weights,
                examples=judged,
                budgets=budgets,
            )
        except GateFailed as error:
            proof, failure = json.loads((bundle / PROOF_FILE).read_text("utf-8")), error
    _show(proof, as_json, lambda: _proof_table(proof))
    if failure:
        raise failure


@app.command(cls=_Verb)
def lint(
    bundle: BundlePath,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photo", metavar="PHOTO", help="Real photos to run; several times; default: bundled ones."
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
    afterlens convert reflection -o build/reflection && afterlens lint build/reflection --fail-on range

    Name what phones' GPUs and Neural Engines may not take, and how near float16 is to overflowing.

    Rules with their public sources: docs/lint.md. Findings are risks: nothing runs on a phone. Exit code 1 where a
    category of --fail-on has an error or a warning.
    """
    from afterlens.conversion.lint.lint import lint as run
    from afterlens.conversion.lint.lint import require, tables
    from afterlens.training.media.images import find_photos

    with _library_output_on_stderr():
        chosen = find_photos(photos or [*CALIBRATION, *sorted(DEGRADED.glob("*.jpg"))])
        result = run(bundle, chosen, fail_on=fail_on or ())
    _show(result, as_json, lambda: tables(result))
    require(result)


@app.command(cls=_Verb)
def bench(
    bundle: BundlePath,
    checkpoint: Checkpoint = None,
    reference: Reference = None,
    runs: Annotated[int, typer.Option(help="Counted rounds.")] = 30,
    warmup: Annotated[int, typer.Option(help="Uncounted rounds before them.")] = 3,
    threads: Annotated[int, typer.Option(help="Of every runtime.")] = 1,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Time the artifacts of this size only.")
    ] = None,
    operators: Annotated[
        bool, typer.Option("--operators", help="Time every operator of the artifacts alone, too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="JSON file to write.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection && afterlens bench build/reflection -o build/bench.json

    Time the TFLite artifacts on this machine, in turns with PyTorch and ONNX Runtime.

    Says nothing of a phone. The JSON follows benchmarks/schema.json.
    """
    from afterlens.benchmarks.bench import bench as run
    from afterlens.benchmarks.bench import tables

    with _library_output_on_stderr():
        wanted = _height_and_width(size)[::-1] if size else None
        document = run(
            bundle,
            checkpoint,
            reference=reference,
            runs=runs,
            warmup=warmup,
            threads=threads,
            size=wanted,
            operators=operators,
            out=out,
        )
    _show(document, as_json, lambda: tables(document))


@app.command(cls=_Verb)
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
    max_ssim_drop: Annotated[float, typer.Option(metavar="INDEX", help="Likewise.")] = 0.002,
    max_fidelity_drop: Annotated[
        float, typer.Option(metavar="DB", help="Against PyTorch, worst picture.")
    ] = 3.0,
    max_size_growth: Annotated[str, typer.Option(metavar="PERCENT", help="Of each file.")] = "1%",
    max_slowdown: Annotated[
        str, typer.Option(metavar="PERCENT", help="Of the time in matrix products of the same machine.")
    ] = "10%",
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Artifacts may go, inputs and outputs may change.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Table for a pull request.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens compare tests/benchmarks/host.json tests/benchmarks/host.json

    Compare two bundles, benchmarks or proofs: quality, size, time, operators, inputs and outputs.

    Exit code 1, and a line that names the first regression, if something is worse than allowed. Times are judged as
    multiples of a matrix product, by an interval that knows how much they waver: see docs/compare.md.
    """
    from afterlens.benchmarks.compare import Limits, require, share
    from afterlens.benchmarks.compare import compare as run
    from afterlens.benchmarks.compare_text import table, write_markdown

    with _library_output_on_stderr():
        growth, slowdown = share(max_size_growth), share(max_slowdown)
        limits = Limits(
            max_psnr_drop, max_ssim_drop, max_fidelity_drop, growth, slowdown, allow_breaking=allow_breaking
        )
        result = run(base, new, bench=timings, limits=limits)
        if markdown is not None:
            write_markdown(result, markdown)
    _show(result, as_json, lambda: table(result))
    require(result)


@app.command(cls=_Verb)
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
        typer.Option("--photo", metavar="BEFORE=AFTER", help="A photo and what became of it; several times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection && afterlens report build/reflection -o build/report.html

    Write one HTML file with pictures, proof, sizes and times.

    Shows what `afterlens verify` and `afterlens bench` found before; what was not done is said to be so.
    """
    from afterlens.benchmarks.document import read_document
    from afterlens.conversion.report.report import report as run

    with _library_output_on_stderr():
        documents = [read_document(path) for path in timings or ()]
        comparisons = [_comparison(photo) for photo in photos or ()]
        written = run(bundles, timings=documents, photos=comparisons, out=out)
    _show({"report": str(written)}, as_json, lambda: _table(("report",), [(str(written),)]))


@app.command(cls=_Verb)
def info(task: TaskName, checkpoint: Checkpoint = None, as_json: AsJson = False) -> None:
    """
    afterlens info reflection

    Show a network's size and cost, and where its weights come from.
    """
    from afterlens.conversion.bundle.contract import digest
    from afterlens.conversion.convert import parameters_and_macs
    from afterlens.training.trained import load_network

    with _library_output_on_stderr():
        found = _task(task)
        weights = checkpoint or found.pretrained
        network, metadata = load_network(found, weights)
        costs = {
            f"{width}x{height}": parameters_and_macs(found.deployable(network, height, width))
            for height, width in found.default_sizes
        }
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gmacs = {size: macs / 1e9 for size, (_, macs) in costs.items()}
    result = {
        "task": found.name,
        "title": found.title,
        "parameters": parameters,
        "gmacs": gmacs,
        "checkpoint": {"file": str(weights), "sha256": digest(weights)[0], **metadata},
    }
    rows = [
        ("parameters", f"{parameters / 1e6:.3f} M"),
        *((f"cost at {size}", f"{cost:.2f} GMACs") for size, cost in gmacs.items()),
        ("weights", str(weights)),
        *((name.replace("_", " "), f"{value:.2f}") for name, value in metadata.get("metrics", {}).items()),
        ("training data", metadata.get("data", {}).get("licence", "not stated")),
    ]
    _show(result, as_json, lambda: _table((found.title, ""), rows))


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    # File names need not be valid text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # So that `kill` cleans up half-written files as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = app(prog_name="afterlens", standalone_mode=False) or 0
    except UserError as error:
        code = _fail(2, str(error))
    except GateFailed as error:
        code = _fail(1, f"gate failed: {error}")
    except (
        typer.TyperException
    ) as error:  # wrong options and arguments; without a message after showing the help
        code = (
            _fail(2, f"{error.format_message()} (see `{_help_of(error)}`)") if error.format_message() else 2
        )
    except Exception as error:
        if os.environ.get("AFTERLENS_DEBUG"):
            raise
        kind = type(error).__name__
        code = _fail(70, f"internal error, please report it: {kind}: {error} (AFTERLENS_DEBUG=1 shows where)")
    if code == 130:
        _fail(130, "interrupted")
    sys.exit(code)


def _fail(code: int, message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'afterlens'} --help"


def _task(name: str) -> "Task":
    from afterlens.training.tasks import find_task

    return find_task(name)


def _restore_clip(
    task: "Task",
    inputs: Sequence[Path],
    out: Path,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    as_json: bool,
) -> None:
    from afterlens.conversion.restore.clip import restore_clip
    from afterlens.conversion.restore.frame_engine import frame_engine

    if len(inputs) != 1:
        raise UserError(f"got {len(inputs)} inputs, expected one: a video file or a folder of frames")
    with _library_output_on_stderr():
        engine = frame_engine(task, runtime.value, checkpoint, bundle)
        restored = restore_clip(engine, inputs[0], out, label=f"restore {task.name}")
    result = {"task": task.name, "runtime": runtime.value, **restored}
    rate = restored["frames_per_second"]
    row = (
        *(restored["input"], restored["output"], f"{restored['width']}x{restored['height']}"),
        f"{restored['frames']}" if rate is None else f"{restored['frames']} at {rate:.2f}/s",
        *(f"{restored['scenes']}", f"{restored['audio']}"),
    )
    _show(
        result,
        as_json,
        lambda: _table(("clip", "restored", "size", "frames", "scenes", "sound tracks"), [row]),
    )


def _recipe(task: "Task") -> Any:
    from afterlens.training.recipe import read_recipe

    return read_recipe(task.recipe_type, task.recipe_path)


def _takes_clips(task: str) -> bool:
    """Whether its network wants the frame before; False for another team's."""
    from afterlens.training.tasks import TASKS

    return task in TASKS and TASKS[task].stream is not None


def _shown(task: str) -> list[Path]:
    """The bundled input that shows what a task of ours does: the last one, with the frames before it."""
    return FRAMES[:2] if _takes_clips(task) else [DEGRADED / f"{task}.jpg"]


def _examples(task: "Task", photos: Sequence[Path], graph: Any, count: int, seed: int) -> "list[Example]":
    """Photos degraded by the task's own synthesis, of the kinds that it is trained on."""
    from afterlens.conversion.examples import degraded_examples

    kinds = [kind for kind, share in _recipe(task).synthesis.kinds.items() if share > 0.0]
    return degraded_examples(photos, task.degrade, kinds, graph, count=count, seed=seed)


def _recipe_budgets(task: str) -> dict[str, float]:
    """What each variant may lose, dB; another team's network has no recipe, and the usual budgets."""
    from dataclasses import asdict

    from afterlens.training.recipe import BudgetRecipe
    from afterlens.training.tasks import TASKS

    return asdict(_recipe(TASKS[task]).budgets if task in TASKS else BudgetRecipe())


def _calibration(
    task: str, pairs: Path | None, photos: Sequence[Path] | None
) -> "Callable[[Deployable, int], list[Example]] | None":
    """Gives so many real pictures for a graph; None for another team's network where none were named."""
    from afterlens.conversion.examples import pair_examples, plain_examples
    from afterlens.conversion.external import is_external
    from afterlens.training.media.images import find_photos

    if pairs is not None:
        if photos:
            raise UserError("got --pairs and --calibration, expected one of them")
        folder = pairs
        return lambda graph, count: pair_examples(folder, graph, count)
    if is_external(task):
        found = find_photos(photos) if photos else []
        return (lambda graph, count: plain_examples(found, graph)) if found else None
    own, clean = _task(task), find_photos(photos or CALIBRATION)
    return lambda graph, count: _examples(own, clean, graph, count, seed=1)


def _evaluated(
    contract: "Contract",
    graphs: Mapping[tuple[int, int], "Deployable"],
    truth: Sequence[Path] | None,
    pairs: Path | None,
) -> dict[tuple[int, int], "list[Example]"]:
    """Pictures whose truth is known, by (height, width), to judge a bundle by."""
    from afterlens.conversion.examples import pair_examples
    from afterlens.training.media.images import find_photos
    from afterlens.training.tasks import TASKS

    if pairs is not None and truth:
        raise UserError("got --pairs and --truth, expected one of them")
    sizes = sorted({(artifact.height, artifact.width) for artifact in contract.artifacts})
    # At the smallest size everything is judged, at the larger ones that the same network still does it.
    if pairs is not None:
        return {size: pair_examples(pairs, graphs[size], None if size == sizes[0] else 2) for size in sizes}
    if contract.task in TASKS:
        clean, task = find_photos(truth or EVALUATION), TASKS[contract.task]
        counts = {size: 6 if size == sizes[0] else 2 for size in sizes}
        return {size: _examples(task, clean, graphs[size], counts[size], seed=2) for size in sizes}
    if truth:
        raise UserError(
            "--truth degrades clean photos as a task of ours does; give real pairs instead: --pairs DIR"
        )
    for artifact in contract.artifacts:
        if not artifact.variant.startswith("float"):
            raise UserError(
                f"{artifact.file}: {artifact.variant} is judged by pictures whose truth is known: add --pairs DIR"
            )
    return {}


def _budgets(changes: Sequence[str]) -> dict[str, float]:
    budgets = {}
    for change in changes:
        variant, _, value = change.partition("=")
        try:
            budgets[variant] = float(value)
        except ValueError:
            raise UserError(f"budget {change!r}: expected VARIANT=DB, for example mixed=0.2") from None
    return budgets


def _trained(
    name: str, checkpoint: Path | None, sizes: Sequence[tuple[int, int]]
) -> tuple[list["Deployable"], dict[str, Any]]:
    """One graph a size of a task's checkpoint, and where it comes from."""
    from afterlens.conversion.bundle.contract import digest
    from afterlens.training.trained import load_network

    task = _task(name)
    weights = checkpoint or task.pretrained
    network, metadata = load_network(task, weights)
    provenance = {
        "checkpoint_sha256": digest(weights)[0],
        "recipe": metadata["recipe"],
        "data_licence": metadata.get("data", {}).get("licence", "not stated"),
    }
    return [task.deployable(network, *size) for size in sizes or task.default_sizes], provenance


def _external(
    name: str, checkpoint: Path | None, sizes: Sequence[tuple[int, int]]
) -> tuple[list["Deployable"], dict[str, Any]]:
    """The same of another team's function; it has its weights from where it wants."""
    from afterlens.conversion.external import load_external
    from afterlens.training.tasks import TASKS

    if checkpoint is not None:
        raise UserError(f"got checkpoint {checkpoint} for {name}, which brings its own weights; leave out -c")
    network = load_external(name)
    found = {deployable.inputs[0].shape[2:]: deployable for deployable in network.deployables}
    task = network.deployables[0].task
    if task in TASKS:
        raise UserError(f"{name}: calls its task {task!r}, which is one of ours; take another name")
    for height, width in sizes:
        if (height, width) not in found:
            sides = ", ".join(f"{own_width}x{own_height}" for own_height, own_width in found)
            raise UserError(
                f"{name}: returns {sides}, not {width}x{height}; the function decides on the sizes"
            )
    return [found[size] for size in sizes or found], network.provenance()


def _references(
    contract: "Contract", checkpoint: Path | None, reference: str | None
) -> tuple[dict[tuple[int, int], "Deployable"], Path | None]:
    """What a bundle should compute, by (height, width), and the checkpoint that it was built from, if any."""
    from afterlens.conversion.external import references, refuse_unnamed
    from afterlens.training.tasks import TASKS
    from afterlens.training.trained import load_network

    if reference is not None:
        if checkpoint is not None:
            raise UserError(f"got checkpoint {checkpoint} and reference {reference}, expected one of them")
        return references(contract, reference), None
    refuse_unnamed(contract, TASKS)
    task = _task(contract.task)
    weights = checkpoint or task.pretrained
    network = load_network(task, weights)[0]
    sizes = {(artifact.height, artifact.width) for artifact in contract.artifacts}
    return {size: task.deployable(network, *size) for size in sizes}, weights


def _show(result: Any, as_json: bool, view: Callable[[], "RenderableType"]) -> None:
    from rich.console import Console

    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        # Without a terminal nothing needs to be cut to fit.
        Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160).print(view())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))  # Text: file names are no markup
    return table


def _figure(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.2f}"


def _proof_table(proof: dict[str, Any]) -> "RenderableType":
    rows = []
    for artifact in proof["artifacts"]:
        measured, quality = artifact["psnr"] is not None, artifact["quality"]
        figures = (f"{artifact['max_error']:.1e}", f"{artifact['psnr']:.1f}") if measured else ("-", "-")
        judged = ("-", "-", "-")
        if quality is not None:
            budget = "-" if quality["budget"] is None else f"{quality['budget']:g}"
            judged = (f"{quality['psnr']:.2f}", f"{quality['drop']:+.3f}", budget)
        rows.append((artifact["file"], "passed" if artifact["passed"] else "FAILED", *figures, *judged))
    columns = (
        *("artifact", f"against PyTorch on {len(proof['images'])} images", "max error", "worst PSNR"),
        *("PSNR to the truth", "lost dB", "budget"),
    )
    return _table(columns, rows)


def _comparison(text: str) -> "Comparison":
    from afterlens.conversion.report.report import Comparison

    before, separator, after = text.partition("=")
    if not separator:
        raise UserError(f"photo {text!r}: expected BEFORE=AFTER, two image files")
    return Comparison(Path(before).stem.replace("_", " "), Path(before), Path(after))


def _three_numbers(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{text!r}: expected three numbers for R,G,B, for example 610,540,460") from None
    return red, green, blue


def _height_and_width(size: str) -> tuple[int, int]:
    width, separator, height = size.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"size {size!r}: expected WIDTHxHEIGHT, for example 1280x720")
    return int(height), int(width)


@contextmanager
def _library_output_on_stderr() -> Iterator[None]:
    """While the work is done, what libraries print (C++ ones too) goes to stderr: stdout is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
