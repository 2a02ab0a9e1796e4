"""Restore photos and clips."""

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afterlens.options import AsJson, Checkpoint, TaskName
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import InputsSkipped, UserError

if TYPE_CHECKING:
    from afterlens.conversion.restore.faces import Paste
    from afterlens.training.task import Task


class Runtime(StrEnum):
    """What runs the network."""

    TORCH = "torch"
    TFLITE = "tflite"
    COREML = "coreml"


def restore(
    task: TaskName,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Photos and folders of photos; for deblur one video file, or a folder of frames.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A .png file for one photo, a video file for a video, else a folder.",
        ),
    ],
    runtime: Annotated[
        Runtime, typer.Option(help="PyTorch, or a converted artifact (Core ML runs on our own executor).")
    ] = Runtime.TORCH,
    checkpoint: Checkpoint = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="The artifacts for tflite and coreml.")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="For reflection, how sure the network must be that something is to be removed: 0 changes nothing, 1 changes "
            "all it can; as the weights have it: 0.5.",
        ),
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option(
            metavar="BEARD",
            help="For beard: none, stubble, moustache, goatee or full; or three numbers from 0 to 1, for the hair above "
            "the lip, on the chin and on the cheeks, such as 1,0.5,0.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

    Restore photos at their own size, as PNG.

    EXIF data and RGB colour profiles are kept, transparency is dropped, and of an animation the first frame is used.
    In a folder the results have the inputs' names. If one of several photos cannot be read, it is named and skipped;
    the others are still written, and the exit code is 1.

    A task whose network also takes the previous frame restores a clip instead: one video file (MP4, MOV, MKV, WebM, AVI,
    MPEG-TS) into a .mp4, .mov, .mkv or .webm, or a folder of frames into a folder of PNGs. Size, frame
    times, sound and subtitles are kept: `afterlens restore deblur clip.mp4 -o sharp.mp4`.

    A task for faces changes all faces of a photo or of a video file:
    `afterlens restore beard me.jpg --wanted full -o beard.png`, `afterlens restore swap me.jpg -o somebody.png`.
    """
    from afterlens.conversion.restore.faces import face_engine
    from afterlens.conversion.restore.photo import restore as run
    from afterlens.training.media.containers import is_video
    from afterlens.training.tasks import find_task

    found = find_task(task)
    if found.faces != "beard" and wanted is not None:
        raise UserError(f"got --wanted {wanted}, which is for beard; leave it out for {task}")
    of_faces = found.faces is not None and len(inputs) == 1 and inputs[0].is_file() and is_video(inputs[0])
    if found.stream or of_faces:
        if strength is not None:
            raise UserError(f"--strength: {task} has no such dial; leave it out")
        _restore_clip(found, inputs, out, runtime, checkpoint, bundle, wanted, as_json)
        return
    with library_output_on_stderr():
        engine = None
        if found.faces:
            engine = face_engine(_paster(found, runtime, checkpoint, bundle, wanted))
        result = run(
            found,
            inputs,
            out,
            runtime=runtime.value,
            checkpoint=checkpoint,
            bundle=bundle,
            strength=strength,
            engine=engine,
        )
    rows = [
        (image["input"], image["output"], f"{image['width']}x{image['height']}") for image in result["images"]
    ]
    show(result, as_json, lambda: table(("photo", "restored", "size"), rows))
    if failed := result["failed"]:
        raise InputsSkipped(
            f"{len(failed)} of {len(failed) + len(rows)} photos could not be restored; they are named above"
        )


def _paster(
    task: "Task", runtime: Runtime, checkpoint: Path | None, bundle: Path | None, wanted: str | None
) -> "Paste":
    from afterlens.conversion.restore.faces import beard_paster, swap_paster
    from afterlens.training.swap.enrolled import read_identity

    if task.faces == "beard":
        return beard_paster(task, runtime.value, checkpoint, bundle, amounts(wanted))
    shown = read_identity(checkpoint or task.pretrained)
    return swap_paster(task, runtime.value, checkpoint, bundle, shown.picture, shown.landmarks)


def amounts(wanted: str | None) -> tuple[float, ...]:
    """The numbers behind the name of a beard, or those that are given. Raises UserError for anything else."""
    from afterlens.training.faces.beards import AMOUNTS

    if wanted in AMOUNTS:
        return AMOUNTS[wanted]
    try:
        numbers = tuple(float(word) for word in (wanted or "").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(0.0 <= number <= 1.0 for number in numbers):
        given = "nothing" if wanted is None else repr(wanted)
        raise UserError(f"--wanted: got {given}, expected {', '.join(AMOUNTS)}, or three numbers from 0 to 1")
    return numbers


def _restore_clip(
    task: "Task",
    inputs: Sequence[Path],
    out: Path,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    wanted: str | None,
    as_json: bool,
) -> None:
    from afterlens.conversion.restore.clip import FrameEngine, restore_clip
    from afterlens.conversion.restore.face_clip import FaceClip
    from afterlens.conversion.restore.frame_engine import frame_engine

    if len(inputs) != 1:
        raise UserError(f"got {len(inputs)} inputs, expected one: a video file or a folder of frames")
    with library_output_on_stderr():
        complete = None
        engine: FrameEngine
        if task.faces:
            engine = faces = FaceClip(_paster(task, runtime, checkpoint, bundle, wanted), task)
            complete = partial(faces.complete, source=inputs[0], out=out)
        else:
            engine = frame_engine(task, runtime.value, checkpoint, bundle)
        restored = restore_clip(engine, inputs[0], out, label=f"restore {task.name}", complete=complete)
    result = {"task": task.name, "runtime": runtime.value, **restored}
    rate = restored["frames_per_second"]
    row = (
        *(restored["input"], restored["output"], f"{restored['width']}x{restored['height']}"),
        f"{restored['frames']}" if rate is None else f"{restored['frames']} at {rate:.2f}/s",
        *(f"{restored['scenes']}", f"{restored['audio']}"),
    )
    show(
        result,
        as_json,
        lambda: table(("clip", "restored", "size", "frames", "scenes", "sound tracks"), [row]),
    )
