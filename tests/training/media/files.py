"""Picture files made by hand, from the formats' specifications."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

# --- files made by hand, from the formats' specifications ----------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bytes(samples: NDArray[Any], depth: int, colour_type: int) -> bytes:
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def icc_profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile: 128 bytes of header, a table of tags, the tags."""
    header = io.BytesIO(bytes(128))
    for offset, value in [
        (8, b"\x02\x40\0\0"),
        (12, device + space + connection),
        (36, b"acsp"),
        (68, struct.pack(">3i", 63190, 65536, 54061)),  # D50 as s15Fixed16
    ]:
        header.seek(offset)
        header.write(value)
    position = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", position + len(body), len(data))
        body += padded
    profile = header.getvalue() + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


WHITE_POINT = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
DESCRIPTION = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return icc_profile(
        b"mntr", b"GRAY", b"XYZ ", {b"desc": DESCRIPTION, b"wtpt": WHITE_POINT, b"kTRC": curve}
    )


def cmyk_profile_only_k() -> bytes:
    """A press on which only the black ink prints: a 2x2x2x2 table of Lab, white where K = 0, else black."""
    ramp: Callable[[int], bytes] = lambda channels: bytes(range(256)) * channels  # noqa: E731
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    colours = b"".join(
        bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16)
    )  # K varies fastest
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp(4) + colours + ramp(3)
    return icc_profile(
        b"prtr", b"CMYK", b"Lab ", {b"desc": DESCRIPTION, b"wtpt": WHITE_POINT, b"A2B0": table}
    )
