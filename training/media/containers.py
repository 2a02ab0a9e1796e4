"""Container formats: whether a file looks like a video, and whether it was cut off.

The demuxers take the end of a file for the end of the clip, so a truncated file would lose frames without an error. The
outermost structure of MP4, Matroska and AVI tells how long the whole file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from afterlens.training.media.errors import UserError


def is_video(path: Path) -> bool:
    """Whether a file starts like a video that `open_clip` may read; False if it cannot be opened."""
    if not path.is_file():  # to open a pipe would wait for ever
        return False
    try:
        with path.open("rb") as file:
            head = file.read(192)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
    return (
        head[4:8] in (b"moov", b"mdat", b"wide")
        or head[:4] == b"\x1a\x45\xdf\xa3"
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == head[188:189] == b"G")
    )


def refuse_truncated(path: Path) -> None:
    """Raises UserError for a file shorter than its outermost structure states, or an MP4 file without an index.

    MPEG-TS states no length and is accepted.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                stated, has_index = _mp4_size(file, size)
                if stated <= size and not has_index:
                    raise UserError(
                        f"{path}: has no index (moov box): the recording was not finished, or is cut off"
                    )
            elif head[:4] == b"\x1a\x45\xdf\xa3":
                stated = _matroska_size(file)
            elif head[:4] == b"RIFF":
                stated = 8 + int.from_bytes(head[4:8], "little")
            else:
                return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stated > size:
        raise UserError(f"{path}: truncated, has {size} bytes of at least {stated}; copy it again")


def _mp4_size(file: IO[bytes], size: int) -> tuple[int, bool]:
    """Where the last box ends, and whether there is a moov box."""
    position, has_index = 0, False
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # to the end of the file
            length = size - position
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in header[4:8]):
            break  # other bytes may follow the last box
        has_index = has_index or header[4:8] == b"moov"
        position += length
    return position, has_index


def _matroska_size(file: IO[bytes]) -> int:
    """Where the segment ends; 0 where that is not stated, as in a live recording."""
    file.seek(4)
    file.seek(_ebml_number(file), 1)  # skips the header
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _ebml_number(file)
    return file.tell() + length if length else 0


def _ebml_number(file: IO[bytes]) -> int:
    """A variable-length integer of 1 to 8 bytes, the first of which gives the length; "unknown" (all ones) is 0."""
    first = file.read(1)
    if not first or first == b"\x00":
        return 0
    count = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(count - 1), "big") & ((1 << 7 * count) - 1)
    return 0 if value == (1 << 7 * count) - 1 else value
