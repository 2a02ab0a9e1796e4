"""What restores the frames of a clip: a task's network that sees the frame before, too, on any runtime.

    engine = frame_engine(task, "tflite", None, Path("build/bundle"))
    sharp = engine(frame, new_scene=True)          # (H, W, 3) float32 RGB [0, 1] in and out

At the start of a scene there is no frame before, and the current one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from conversion.restore import Image, Runtime, open_runtime, restore_by_artifact, restore_by_torch
from conversion.restore_clip import FrameEngine
from training.errors import UserError
from training.task import Task

Pair = Callable[[Image, Image], Image]  # current, previous -> restored


def frame_engine(task: Task, runtime: Runtime, checkpoint: Path | None, bundle: Path | None) -> FrameEngine:
    """An engine for one clip.

    Args:
        task: one with `previous_frame`.
        runtime: "torch", or "tflite" / "coreml" to run the artifacts of `bundle`, Core ML by our own executor.
        checkpoint: for "torch"; None is the bundled one.
        bundle: for the other two, a folder of `afterlens convert`; its artifacts have inputs "current" and "previous".
    """
    pair = _torch_pair(task, checkpoint) if runtime == "torch" else _artifact_pair(task, bundle, runtime)
    previous: Image | None = None

    def run(frame: Image, new_scene: bool) -> Image:
        nonlocal previous
        before = frame if new_scene or previous is None else previous
        previous = frame
        return pair(frame, before)

    return run


def _torch_pair(task: Task, checkpoint: Path | None) -> Pair:
    from training.trained import load_network

    network, _ = load_network(task, checkpoint or task.pretrained)
    restorer = task.restorer(network).eval()

    def run(current: Image, previous: Image) -> Image:
        return restore_by_torch(restorer, np.ascontiguousarray(current), np.ascontiguousarray(previous))

    return run


def _artifact_pair(task: Task, folder: Path | None, runtime: Runtime) -> Pair:
    choose = open_runtime(task, folder, runtime)

    def run(current: Image, previous: Image) -> Image:
        fit, artifact = choose(*current.shape[:2])
        names = [spec.name for spec in fit.artifact.inputs]
        if sorted(names) != ["current", "previous"]:
            raise UserError(
                f"{fit.artifact.file}: has inputs {', '.join(names)}, expected current and previous; convert again"
            )

        def by_name(current: Image, previous: Image) -> dict[str, Image]:
            pictures = {"current": current, "previous": previous}
            return artifact(*(pictures[name] for name in names))  # in the contract's order

        return restore_by_artifact(current, fit, by_name, previous)

    return run
