"""Restore photos at their own size, with the network itself or with one of its mobile artifacts.

    restore(task, [Path("window.jpg")], Path("clean.png"))
    restore(task, [Path("photos/")], Path("clean/"), runtime="tflite", bundle=Path("build/reflection"))

PyTorch restores the whole photo at once. An artifact has one fixed size, so the photo is scaled to fit into it (up or
down, keeping its aspect ratio), rotated by 90 degrees where that fits better, and padded with its own mirror image. The
change that the network made is then scaled back to the photo's size and added to the photo. This keeps all of the
photo's detail, but also those parts of a reflection that are finer than the artifact's pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import Artifact, Bundle, integrity_fault, read_bundle
from afterlens.conversion.bundle.variants import precision_rank
from afterlens.conversion.restore.credentials import sign
from afterlens.training.media.containers import is_video
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, read_photo, too_large, write_png
from afterlens.training.media.progress import progress_bar
from afterlens.training.task import Task

Runtime = Literal["torch", "tflite", "coreml"]
Image = NDArray[np.float32]  # (H, W, 3) RGB, [0, 1]
Engine = Callable[[Image], Image]  # a photo of any size -> the restored photo, same size
Run = Callable[..., dict[str, Image]]  # an opened artifact: its input pictures -> its outputs by name


def restore(
    task: Task,
    inputs: Sequence[Path],
    out: Path,
    *,
    runtime: Runtime = "torch",
    checkpoint: Path | None = None,
    bundle: Path | None = None,
    strength: float | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Restore the photos in `inputs` (files and folders) and write them as PNG.

    Args:
        task: the task whose network is used.
        out: a `.png` file for one input file, else a folder for PNGs under the inputs' stems.
        runtime: "torch", or "tflite" / "coreml" to run the artifacts of `bundle`, Core ML by our own executor.
        checkpoint: for "torch"; None for the bundled one.
        bundle: for the other two, a folder written by `afterlens convert`.
        strength: how readily the network changes a photo, from 0 (never) to 1, for "torch" and tasks that can; None: as the
            weights have it.
        engine: restores one photo; None makes it of the arguments before. Its UserError is given the photo's name.

    Returns: `{"task", "runtime", "images": [{"input", "output", "width", "height"}], "failed": [{"input", "reason"}]}`.
        If one of several files cannot be restored, a warning names it and "failed" lists it; the others are still
        written.

    Raises UserError, before anything is written, for unusable arguments, two inputs with the same stem, an output that
    would replace an input, or a single input that cannot be restored.
    """
    inputs, failed = _present(inputs)
    jobs = plan(inputs, out)
    if strength is not None:
        _refuse_strength(task, runtime, strength)
    if engine is None and runtime == "torch":
        engine = _torch_engine(task, checkpoint, strength)
    elif engine is None:
        engine = _artifact_engine(task, bundle, runtime)
    images: list[dict[str, Any]] = []
    with progress_bar() as progress:
        for missing in failed:
            progress.console.print(
                f"skipped {missing['reason']}", style="yellow", markup=False, soft_wrap=True
            )
        bar = progress.add_task(f"restore {task.name}", total=len(jobs))
        for source, target in jobs:
            progress.update(bar, description=f"restore {source.name}")
            try:
                width, height = _restore_file(engine, source, target, task)
            except UserError as error:
                if len(jobs) == 1 and not failed:
                    raise
                failed.append({"input": str(source), "reason": str(error)})
                progress.console.print(f"skipped {error}", style="yellow", markup=False, soft_wrap=True)
            else:
                images.append({"input": str(source), "output": str(target), "width": width, "height": height})
            progress.advance(bar)
    return {"task": task.name, "runtime": runtime, "images": images, "failed": failed}


def _present(inputs: Sequence[Path]) -> tuple[list[Path], list[dict[str, str]]]:
    """Those of several inputs that are there, and why the others are not. UserError if there is none at all."""
    present: list[Path] = []
    failed: list[dict[str, str]] = []
    for path in inputs:
        try:
            find_photos([path])
        except UserError as error:
            if len(inputs) == 1:
                raise
            failed.append({"input": str(path), "reason": str(error)})
        else:
            present.append(path)
    if inputs and not present:
        raise UserError(failed[0]["reason"])
    return present, failed


def _restore_file(engine: Engine, source: Path, target: Path, task: Task) -> tuple[int, int]:
    """Returns width and height; changed faces are signed as such.

    A separate function, so that a photo's arrays are freed before the next is read.
    """
    if is_video(source):  # before gigabytes of it are read
        raise UserError(
            f"{source}: is a video, expected a photo: this task restores single photos, not clips"
        )
    photo = read_photo(source)
    try:
        restored = engine(photo.rgb)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    noted = partial(sign, source=source, agent=f"afterlens {task.name}") if task.faces else None
    write_png(target, restored, photo.exif, photo.icc, noted)
    height, width = photo.rgb.shape[:2]
    return width, height


def plan(inputs: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Which photo is written where: (input, output) pairs. Raises UserError as `restore` does."""
    photos = find_photos(inputs)
    if len(inputs) == 1 and not inputs[0].is_dir() and not out.is_dir():
        if out.suffix.lower() != ".png":
            raise UserError(f"{out}: one input file is written as PNG, expected a name that ends in .png")
        jobs = [(photos[0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: expected a folder for the results, got a file")
        if out.suffix.lower() == ".png":
            raise UserError(
                f"{out}: expected a folder for the results of several inputs or a folder, got a .png file"
            )
        jobs = [(photo, out / f"{photo.stem}.png") for photo in photos]
    sources: dict[Path, Path] = {}
    for photo, target in jobs:
        if target in sources:
            raise UserError(
                f"{sources[target]} and {photo} would both be written to {target}; restore them separately"
            )
        sources[target] = photo
    originals = {os.path.realpath(photo) for photo in photos}
    for photo, target in jobs:
        if os.path.realpath(target) in originals:  # unlike Path.resolve, it bears links that lead in a circle
            raise UserError(
                f"{target}: is an input and would be overwritten by the result of {photo}; give another output"
            )
    return jobs


def _refuse_strength(task: Task, runtime: Runtime, strength: float) -> None:
    if not 0.0 <= strength <= 1.0:
        raise UserError(f"--strength: got {strength}, expected a number from 0 (change nothing) to 1")
    if task.set_strength is None:
        raise UserError(f"--strength: {task.name} has no such dial; leave it out")
    if runtime != "torch":
        raise UserError(
            f"--strength: converted files have that of their weights; leave out --runtime {runtime}"
        )


def _torch_engine(task: Task, checkpoint: Path | None, strength: float | None) -> Engine:
    from afterlens.training.trained import load_network

    network, _ = load_network(task, checkpoint or task.pretrained)
    if strength is not None and task.set_strength is not None:
        task.set_strength(network, strength)
    restorer = task.restorer(network).eval()

    def run(rgb: Image) -> Image:
        restored: Image = by_torch(restorer, rgb)[0]
        return restored

    return run


def by_torch(module: Callable[..., Any], picture: Image, *more: Any) -> tuple[Any, ...]:
    """Run a module on a picture (H, W, 3) and its other arguments: its first output, (H, W, 3), and all others."""
    import torch

    try:
        with torch.inference_mode():
            restored, *others = module(torch.from_numpy(picture).permute(2, 0, 1)[None], *more)
    except RuntimeError as error:  # PyTorch has no exception of its own for this
        if "allocate memory" not in str(error):
            raise
        raise UserError(too_large(*picture.shape[:2])) from error
    return restored[0].permute(1, 2, 0).numpy(), *others


@dataclass(frozen=True)
class Fit:
    """How a photo is fitted into an artifact: rotated by 90 degrees or not, then scaled, then padded."""

    artifact: Artifact
    turned: bool
    scale: float  # artifact pixels per photo pixel


def _artifact_engine(task: Task, folder: Path | None, runtime: Runtime) -> Engine:
    choose = open_runtime(task, folder, runtime)

    def run(rgb: Image) -> Image:
        return restore_by_artifact(rgb, *choose(*rgb.shape[:2]))

    return run


def open_runtime(task: Task, folder: Path | None, runtime: Runtime) -> Callable[[int, int], tuple[Fit, Run]]:
    """A function that finds the artifact for a height and width, how a photo fits into it, and how to run it.

    Raises UserError if `folder` is not a bundle of the task, or has no intact artifact for the runtime.
    """
    from afterlens.conversion.bundle.runtimes import open_artifact

    if folder is None:
        raise UserError(
            f"--runtime {runtime} runs a converted artifact: make one with "
            f"`afterlens convert {task.name} -o BUNDLE` and add --bundle BUNDLE"
        )
    bundle = read_bundle(folder)
    if bundle.contract.task != task.name:
        raise UserError(f"{folder}: is a bundle of task {bundle.contract.task!r}, expected {task.name!r}")
    artifacts = _usable(bundle, runtime)
    opened: dict[str, Run] = {}

    def choose(height: int, width: int) -> tuple[Fit, Run]:
        fit = choose_artifact(artifacts, height, width)
        if fit.artifact.file not in opened:
            opened[fit.artifact.file] = open_artifact(bundle, fit.artifact)
        return fit, opened[fit.artifact.file]

    return choose


def _usable(bundle: Bundle, runtime: Runtime) -> list[Artifact]:
    """The runtime's artifacts, one a size, the most precise variant of each."""
    by_size: dict[tuple[int, int], Artifact] = {}
    of_runtime = [artifact for artifact in bundle.contract.artifacts if artifact.format == runtime]
    for artifact in sorted(of_runtime, key=lambda a: precision_rank(a.format, a.variant)):
        by_size.setdefault((artifact.width, artifact.height), artifact)
    if not by_size:
        raise UserError(f"{bundle.folder}: holds no {runtime} artifact; convert again")
    for artifact in by_size.values():
        if fault := integrity_fault(bundle.folder, artifact):
            raise UserError(f"{fault}; convert again")
    return list(by_size.values())


def choose_artifact(artifacts: Sequence[Artifact], height: int, width: int) -> Fit:
    """The smallest artifact that holds the photo without shrinking it, else the one that shrinks it least."""
    fits = [
        Fit(artifact, turned, min(artifact.height / h, artifact.width / w))
        for artifact in artifacts
        for turned, h, w in ((False, height, width), (True, width, height))
    ]

    def merit(fit: Fit) -> tuple[float, int, float, bool]:
        area = fit.artifact.width * fit.artifact.height
        return min(1.0, fit.scale), -area, fit.scale, not fit.turned

    return max(fits, key=merit)


def restore_by_artifact(rgb: Image, fit: Fit, run: Run, *others: Image) -> Image:
    """Restore a photo of any size with an artifact of fixed size; see the top of this file.

    `others` are pictures of the same size for the artifact's other inputs; they are fitted in the same way.
    """
    artifact = fit.artifact
    pictures = [np.rot90(picture) if fit.turned else picture for picture in (rgb, *others)]
    height, width = pictures[0].shape[:2]
    inner_height = max(1, min(artifact.height, round(height * fit.scale)))
    inner_width = max(1, min(artifact.width, round(width * fit.scale)))
    small = [_resize(picture, inner_height, inner_width) for picture in pictures]
    if artifact.inputs[0].dtype == "uint8":  # or the rounding would count as a change
        small = [np.rint(picture * 255.0) / np.float32(255.0) for picture in small]
    above, left = (artifact.height - inner_height) // 2, (artifact.width - inner_width) // 2
    below, right = artifact.height - inner_height - above, artifact.width - inner_width - left
    sides = ((above, below), (left, right), (0, 0))
    filled = [np.ascontiguousarray(np.pad(picture, sides, mode="symmetric")) for picture in small]
    restored = run(*filled)[artifact.outputs[0].name]
    change = restored[above : above + inner_height, left : left + inner_width] - small[0]
    change = _resize(change, height, width)
    result = np.rot90(change, -1) + rgb if fit.turned else change + rgb
    np.clip(result, 0.0, 1.0, out=result)
    return result


def _resize(image: Image, height: int, width: int) -> Image:
    """Mean over areas to shrink (no aliasing), linear to enlarge (no overshoot)."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Any = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)
    return np.asarray(resized, np.float32).reshape(height, width, 3)
