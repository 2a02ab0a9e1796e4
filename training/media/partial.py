"""Names of files while they are being written, and the removal of those that a killed process left behind.

temporary = partial_path(Path("clean.png"))       # .clean.HOST-PID-RANDOM.partial.png beside it
remove_stale(temporary.parent)
"""

import os
import platform
import re
import shutil
import uuid
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # folders may be shared between machines
_NAME = re.compile(rf"\..*\.{_HOST}-([0-9]+)-[0-9a-f]{{8}}\.partial.*", re.DOTALL)
_LONGEST = 60  # bytes of the own name: the whole must stay below 255


def partial_path(path: Path) -> Path:
    """The temporary name of `path`, in the same folder.

    The suffix stays last, because writers such as numpy.save would append theirs otherwise.
    """
    stem = os.fsdecode(os.fsencode(path.stem)[:_LONGEST])
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST else ""
    return path.with_name(f".{stem}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial{suffix}")


@cache
def remove_stale(folder: Path) -> None:
    """Remove what dead processes of this machine were writing in a folder; once in each process, as it takes time."""
    with suppress(OSError):  # the folder may not exist, or not be readable
        for file in folder.iterdir():
            found = _NAME.fullmatch(file.name)
            if found and not psutil.pid_exists(int(found[1])):
                remove(file)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there and can be removed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
