"""One run a folder: two would write into each other's checkpoints.

with locked(Path("runs/reflection")):
    ...
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterlens.training.media.errors import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if need be, until the end of the block or of the process, however that ends.

    Raises UserError if another process holds it. Where the file system has no locks, nothing is held.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be used as the folder of a run: {error.strerror or error}"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another run is writing here; wait until it ends, or give another folder"
            ) from error
        except OSError:  # not every network file system has locks
            pass
        yield
    finally:
        os.close(handle)
