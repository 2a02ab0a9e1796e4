"""Restore a clip frame by frame: a video file into a video file, a folder of frames into a folder of PNGs.

    restore_clip(engine, Path("walk.mp4"), Path("walk_sharp.mp4"))
    restore_clip(engine, Path("frames/"), Path("frames_sharp/"))

Only the pictures change. Each frame keeps its time, also where intervals vary; the clip keeps its size, pixel aspect
ratio and colour labels; packets of sound and subtitles are copied unchanged. Pictures are stored upright, as players
show them, without a rotation label. The new file appears under its name once it is complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from afterlens.conversion.restore.scenes import SceneDetector
from afterlens.conversion.restore.video_writer import SUFFIXES, VideoWriter
from afterlens.training.media.clips import Clip, FrameFolder, VideoFile, open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, write_png
from afterlens.training.media.progress import progress_bar
from afterlens.training.media.video import open_video

Image = NDArray[np.float32]  # (H, W, 3) RGB, [0, 1]
# A frame, and whether it starts a scene -> the restored frame, same size. Frames come in order. The engine keeps what it
# needs from the previous frame itself, and forgets it at a new scene.
FrameEngine = Callable[[Image, bool], Image]


def restore_clip(
    engine: FrameEngine,
    source: Path,
    out: Path,
    *,
    label: str = "restore",
    complete: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Restore `source` into `out`.

    Args:
        engine: gets float32 (H, W, 3) RGB [0, 1] and returns the same shape; a fresh one for every clip.
        source: a video file, or a folder of frames.
        out: for a video, a file name with one of SUFFIXES; for a folder of frames, a new folder, or that of an earlier
            result: it gets PNGs with the frames' stems.
        label: what the progress bar on stderr calls the work.
        complete: may change each new file, such as sign it, before it gets its name.

    Returns: `{"input", "output", "width", "height", "frames", "scenes", "frames_per_second", "audio", "seconds"}`.
        "frames_per_second" is the clip's own mean rate, None for a folder; "audio" the number of tracks copied;
        "seconds" the time it took.

    Raises UserError for an unusable input, output or combination of both. Then, and after any other exception,
    nothing has been written.
    """
    started = time.monotonic()
    clip = open_clip(source)
    _refuse_output(clip, out)
    restorer = _Restorer(engine)
    with _progress(f"{label} {source.name}", clip.frames) as progress:
        bar = progress.task_ids[0]

        def advance() -> None:
            progress.advance(bar)

        def note(text: str) -> None:
            progress.console.print(f"{source}: {text}", style="yellow", markup=False, soft_wrap=True)

        if isinstance(clip, FrameFolder):
            audio = 0
            _restore_folder(clip, out, restorer, advance, complete)
        else:
            assert isinstance(clip, VideoFile)
            audio = _restore_video(clip, out, restorer, advance, note, complete)
    return {
        "input": str(source),
        "output": str(out),
        "width": clip.width,
        "height": clip.height,
        "frames": restorer.frames,
        "scenes": restorer.scenes,
        "frames_per_second": float(clip.frame_rate) if clip.frame_rate else None,
        "audio": audio,
        "seconds": round(time.monotonic() - started, 3),
    }


class _Restorer:
    """The engine with its scene detector, and the number of frames and scenes so far."""

    def __init__(self, engine: FrameEngine) -> None:
        self._engine = engine
        self._starts_scene = SceneDetector()
        self.frames = 0
        self.scenes = 0

    def __call__(self, rgb: NDArray[np.uint8], exact: Image | None = None) -> Image:
        """(H, W, 3) uint8, and the same as float32 where it has more than 8 bits -> restored float32."""
        new_scene = self._starts_scene(rgb)
        frame = np.divide(rgb, np.float32(255), dtype=np.float32) if exact is None else exact
        restored = self._engine(frame, new_scene)
        if restored.shape != rgb.shape:
            raise ValueError(f"the engine made {restored.shape} of a frame of shape {rgb.shape}")
        if np.isnan(restored).any():
            raise ValueError(f"the engine made NaN of frame {self.frames + 1}")
        self.frames += 1
        self.scenes += new_scene
        return restored


def _refuse_output(clip: Clip, out: Path) -> None:
    if isinstance(clip, FrameFolder):
        if out.suffix.lower() in SUFFIXES:
            raise UserError(
                f"{out}: a folder of frames becomes a folder of frames, expected a folder, got a video name"
            )
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: expected a folder for the frames, got a file")
        stems: dict[str, Path] = {}
        for file in clip.files:
            if file.stem in stems:
                raise UserError(
                    f"{stems[file.stem]} and {file} would both become {file.stem}.png; rename one"
                )
            stems[file.stem] = file
        # The folder is replaced as a whole: that may delete an earlier result, nothing else.
        results = {f"{stem}.png" for stem in stems}
        others = sorted({file.name for file in out.iterdir()} - results) if out.is_dir() else []
        if others or (out.exists() and out.samefile(clip.path)):
            held = others[0] if others else "the input"
            raise UserError(
                f"{out}: expected a new folder for the frames, or one of an earlier result; this one holds {held}"
            )
        return
    if out.is_dir():
        raise UserError(f"{out}: expected a name for the video, got a folder; add a file name")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out}: a video is written as {', '.join(SUFFIXES)}; expected a name that ends so")
    if out.exists() and out.samefile(clip.path):
        raise UserError(f"{out}: is the input and would be overwritten; give another output")


def _progress(description: str, frames: int | None) -> Progress:
    progress = progress_bar()
    progress.add_task(description, total=frames)
    return progress


def _restore_folder(
    clip: FrameFolder,
    out: Path,
    restorer: _Restorer,
    advance: Callable[[], None],
    complete: Callable[[Path], None] | None,
) -> None:
    with atomic_path(out) as temporary:
        temporary.mkdir()
        for file, photo in zip(clip.files, clip.photos(), strict=True):
            rgb = np.rint(photo.rgb * np.float32(255)).astype(np.uint8)
            target = temporary / f"{file.stem}.png"
            write_png(target, restorer(rgb, photo.rgb), photo.exif, photo.icc, complete)
            advance()


def _restore_video(
    clip: VideoFile,
    out: Path,
    restorer: _Restorer,
    advance: Callable[[], None],
    note: Callable[[str], None],
    complete: Callable[[Path], None] | None,
) -> int:
    """Returns the number of audio tracks."""
    with open_video(clip.path) as video, atomic_path(out) as temporary:
        with temporary.open("wb") as file:
            writer = VideoWriter(clip, video, file, out)
            for text in writer.notes:
                note(text)
            for frame in video.frames(writer.copy):
                writer.write(restorer(frame.rgb), frame)
                advance()
            writer.finish()
        if complete is not None:
            complete(temporary)
        return writer.audio
