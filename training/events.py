"""Scalars and pictures for TensorBoard.

PyTorch's SummaryWriter would import all of TensorFlow where that is installed (seconds, and noise on stderr), and
write from a thread that prints a traceback when the disk is full. The format is simple enough to do without:
a file of protocol buffers, each with its length and checksum.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

from afterlens.training.media.errors import UserError


class EventFile:
    """One event file under ``folder``, where TensorBoard joins all that it finds.

    Args:
        first_step: TensorBoard forgets what earlier files say about this step and later ones: a run that was
            killed and resumed does them again.

    Raises:
        UserError: here and in ``add_...`` if the file can't be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(
            Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START))
        )

    def add_scalars(self, step: int, values: dict[str, float]) -> None:
        """One number a tag, such as "loss/pixel"."""
        self._add(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])

    def add_picture(self, step: int, tag: str, picture: Tensor) -> None:
        """``picture``: ``(3, H, W)`` RGB [0, 1]."""
        pixels = np.rint(picture.permute(1, 2, 0).numpy() * 255.0).astype(np.uint8)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, format="PNG")
        height, width = pixels.shape[:2]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.getvalue())
        self._add(step, [Summary.Value(tag=tag, image=image)])

    def close(self) -> None:
        """Everything is on disk already."""
        self._file.close()

    def _add(self, step: int, values: list[Summary.Value]) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        whole, data = self._file.tell(), record.getvalue()
        try:
            if self._file.write(data) < len(data):  # what fitted on the disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.truncate(self.path, whole)
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
