"""Restores the frames of a clip with a task whose network also takes the previous frame, on any runtime.

    engine = frame_engine(task, "tflite", None, Path("build/bundle"))
    sharp = engine(frame, new_scene=True)          # (H, W, 3) float32 RGB [0, 1] in and out

At the start of a scene there is no previous frame, and the current one takes its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.restore.clip import FrameEngine
from afterlens.conversion.restore.photo import Image, Runtime, by_torch, open_runtime, restore_by_artifact
from afterlens.training.media.errors import UserError
from afterlens.training.task import Task


def frame_engine(task: Task, runtime: Runtime, checkpoint: Path | None, bundle: Path | None) -> FrameEngine:
    """An engine for one clip.

    Args:
        task: one with a `stream`.
        runtime: "torch", or "tflite" / "coreml" to run the artifacts of `bundle`, Core ML by our own executor.
        checkpoint: for "torch"; None is the bundled one.
        bundle: for the other two, a folder of `afterlens convert`; its artifacts take the task's two inputs.
    """
    return _torch_engine(task, checkpoint) if runtime == "torch" else _artifact_engine(task, bundle, runtime)


def _torch_engine(task: Task, checkpoint: Path | None) -> FrameEngine:
    """The network's own form for streams: what it has made of a frame is handed on to the next one."""
    from afterlens.training.trained import load_network

    network, _ = load_network(task, checkpoint or task.pretrained)
    assert task.stream is not None
    stream = task.stream(network).eval()
    state: Any = None

    def run(frame: Image, new_scene: bool) -> Image:
        nonlocal state
        restored: Image
        restored, state = by_torch(stream, np.ascontiguousarray(frame), None if new_scene else state)
        return restored

    return run


def _artifact_engine(task: Task, folder: Path | None, runtime: Runtime) -> FrameEngine:
    choose = open_runtime(task, folder, runtime)
    last: Image | None = None

    def run(current: Image, new_scene: bool) -> Image:
        nonlocal last
        previous = current if new_scene or last is None else last
        last = current
        fit, artifact = choose(*current.shape[:2])
        names = [spec.name for spec in fit.artifact.inputs]
        if sorted(names) != sorted(task.ports):
            raise UserError(
                f"{fit.artifact.file}: has inputs {', '.join(names)}, expected {' and '.join(task.ports)}; "
                "convert again"
            )

        def by_name(*frames: Image) -> dict[str, Image]:
            pictures = dict(zip(task.ports, frames, strict=True))
            return artifact(*(pictures[name] for name in names))  # in the contract's order

        return restore_by_artifact(current, fit, by_name, previous)

    return run
