"""The checksums of a PNG file: decoders skip that of the last image data, and would return wrong rows.

fault = png_fault(data)          # "chunk IDAT at byte 4711 has a wrong checksum", or None
"""

import zlib

_HEADER = 8  # bytes of the signature


def png_fault(data: bytes) -> str | None:
    """What is wrong with the critical chunks (upper-case names) of a PNG file, or None. Others hold no pixels."""
    position = _HEADER
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            return f"ends within chunk {kind.decode('ascii', 'replace')}"
        if kind[:1].isupper() and zlib.crc32(data[position + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return f"chunk {kind.decode('ascii', 'replace')} at byte {position} has a wrong checksum"
        if kind == b"IEND":
            return None
        position = end + 4
    return "has no end (IEND chunk)"
