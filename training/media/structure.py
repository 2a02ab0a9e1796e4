"""Damage in the middle of a Matroska, AVI or MPEG-TS file: readers skip what they cannot parse, and frames with it.

refuse_broken(Path("walk.mkv"))

The elements of the first two state their own length, one after the other. Where the next one is none, bytes are lost.
The packets of MPEG-TS are of one length and numbered by track. Damage within a frame is not seen here: decoders report
that.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError

# Element IDs of RFC 9559. What is opened rather than skipped: segment, cluster, block group.
_SEGMENT, _CLUSTER, _GROUP = 0x18538067, 0x1F43B675, 0xA0
_BLOCKS = (0xA1, 0xA3)  # their first byte is the track, which is never 0
_SKIPPED = frozenset(
    (
        *(
            0x114D9B74,
            0x1549A966,
            0x1654AE6B,
            0x1C53BB6B,
            0x1254C367,
            0x1941A469,
            0x1043A770,
        ),  # in the segment
        *(0xE7, 0xA7, 0xAB, 0xAF, 0x5854),  # in a cluster
        *(0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x8E, 0xC8, 0x75A1, 0x75A2),  # in a block group
        *(0xEC, 0xBF),  # padding and checksums, anywhere
    )
)
_UNKNOWN = -1  # the size of an element that ends where the next one begins


def refuse_broken(path: Path) -> None:
    """Raises UserError, with the place, for a Matroska, WebM, AVI or MPEG-TS file whose parts do not follow each other."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4)
            if head == b"\x1a\x45\xdf\xa3":
                place = _broken_matroska(file, size)
            elif head == b"RIFF":
                place = _broken_avi(file, size)
            elif head[:1] == b"\x47":
                place = _broken_transport_stream(file)
            else:
                return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if place is not None:
        raise UserError(
            f"{path}: damaged at byte {place} of {size}: frames are lost; repair or re-encode it first"
        )


def _broken_matroska(file: IO[bytes], size: int) -> int | None:
    file.seek(4)
    header, _ = _number(file)
    position = file.tell() + max(0, header)
    file.seek(position)
    if _identifier(file) != _SEGMENT:
        return None  # no Matroska file at all, which the decoder says
    length, _ = _number(file)
    end = size if length == _UNKNOWN else min(size, file.tell() + length)
    position = file.tell()
    while position < end:
        file.seek(position)
        kind = _identifier(file)
        length, _ = _number(file)
        content = file.tell()
        if kind in (_CLUSTER, _GROUP):
            position = content
        elif length < 0 or not (kind in _BLOCKS or kind in _SKIPPED) or content + length > end:
            return position
        elif kind in _BLOCKS and file.read(1) in (b"", b"\0"):
            return content
        else:
            position = content + length
    return None


def _identifier(file: IO[bytes]) -> int:
    """An element ID of 1 to 4 bytes, with its marker; 0 for none."""
    first = file.read(1)
    if not first or first[0] < 0x10:
        return 0
    return int.from_bytes(first + file.read(8 - first[0].bit_length()), "big")


def _number(file: IO[bytes]) -> tuple[int, int]:
    """A size of 1 to 8 bytes and how many these are; `_UNKNOWN` where it is not stated, -2 where it is none."""
    first = file.read(1)
    if not first or first == b"\0":
        return -2, 1
    count = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(count - 1), "big") & ((1 << 7 * count) - 1)
    return (_UNKNOWN if value == (1 << 7 * count) - 1 else value), count


def _broken_avi(file: IO[bytes], size: int) -> int | None:
    """Walks all chunks of all RIFF parts (large files have several); bytes behind them do not count."""
    start = 0
    while start + 12 <= size:
        file.seek(start)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return None
        end = min(size, start + 8 + int.from_bytes(head[4:], "little"))
        position = start + 12
        while position + 8 <= end:
            file.seek(position)
            chunk = file.read(8)
            kind, length = chunk[:4], int.from_bytes(chunk[4:], "little")
            if not _is_code(kind) or position + 8 + length > end:
                return position
            if kind == b"idx1":
                table = file.read(length)
                for entry in range(0, length - 15, 16):
                    if not _is_code(table[entry : entry + 4]):
                        return position + 8 + entry
            position += 12 if kind == b"LIST" else 8 + length + length % 2
        start = end + end % 2
    return None


_PACKET, _READ = 188, 1 << 16  # bytes of a packet; packets read at once


def _broken_transport_stream(file: IO[bytes]) -> int | None:
    """The first packet of MPEG-TS that is none, whose number does not follow that of its track's last one, or that
    begins a frame in another way than its track's first one.
    """
    before: NDArray[np.uint8] = np.empty((0, _PACKET), np.uint8)  # the last packet of each track
    heads: dict[int, NDArray[np.uint8]] = {}  # how frames begin, by track
    start = 0
    file.seek(0)
    while data := file.read(_PACKET * _READ):
        packets = np.frombuffer(data, np.uint8, len(data) // _PACKET * _PACKET).reshape(-1, _PACKET)
        wrong = packets[:, 0] != 0x47
        joined = np.concatenate([before, packets])
        wrong[np.flatnonzero(_jumps(joined)) - len(before)] = True
        wrong |= _other_heads(packets, heads)
        if wrong.any():
            return start + int(np.argmax(wrong)) * _PACKET
        _, newest = np.unique(_track(joined)[::-1], return_index=True)
        before = joined[len(joined) - 1 - newest]
        start += len(data)
    return None


def _track(packets: NDArray[np.uint8]) -> NDArray[np.int32]:
    return (packets[:, 1].astype(np.int32) & 0x1F) << 8 | packets[:, 2]


def _jumps(packets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which packets come after lost ones of their track: the counter may repeat, or go on by one with a payload."""
    track, control = _track(packets), packets[:, 3]
    order = np.argsort(track, kind="stable")
    same = track[order][1:] == track[order][:-1]
    step = (control[order][1:] - control[order][:-1]) & 15
    follows = (step == 0) | ((step == 1) & (control[order][1:] & 0x10 > 0))
    announced = (control & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)
    found = np.zeros(len(packets), np.bool_)
    found[order[1:]] = same & ~follows
    return found & ~announced & (track != 0x1FFF)  # the last are filling, and not numbered


def _other_heads(packets: NDArray[np.uint8], heads: dict[int, NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Which packets say that a frame begins in them, but do not hold the code that frames of their track begin with."""
    wrong = np.zeros(len(packets), np.bool_)
    starts = np.flatnonzero((packets[:, 1] & 0x40 > 0) & (packets[:, 3] & 0x10 > 0))
    first = 4 + np.where(packets[starts, 3] & 0x20 > 0, packets[starts, 4].astype(np.int64) + 1, 0)
    starts, first = starts[first <= _PACKET - 4], first[first <= _PACKET - 4]
    codes = packets[starts[:, None], first[:, None] + np.arange(4)]
    tracks = _track(packets[starts])
    for track in np.unique(tracks):
        of_track = tracks == track
        head = heads.setdefault(int(track), codes[of_track][0])
        if head[:3].tolist() == [0, 0, 1]:  # others are tables
            wrong[starts[of_track]] = (codes[of_track] != head).any(1)
    return wrong


def _is_code(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)
