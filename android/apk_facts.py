"""What is in an APK: size, methods, alignment: `python -m android.apk_facts build/android/afterlens.apk`."""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOAD = 1  # the type of an ELF segment that is mapped into memory


@dataclass(frozen=True)
class Facts:
    """Read from the file itself."""

    size: int
    """Bytes."""
    methods: int
    """That the bytecode defines or calls."""
    zip_alignment: int
    """Bytes: the largest power of two, up to 64 KB, that the places of all native libraries in the APK are multiples of."""
    page: int
    """Bytes: the largest page of a phone that can map all native libraries, by their segments."""

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"{self.size / 1e6:.1f} MB, {self.methods} methods, native libraries at multiples of "
            f"{self.zip_alignment // 1024} KB with segments for pages of {self.page // 1024} KB"
        )


def facts(path: Path) -> Facts:
    """Raises zipfile.BadZipFile for what is no APK."""
    with zipfile.ZipFile(path) as apk:
        methods = sum(
            struct.unpack_from("<I", apk.read(name), 88)[0]
            for name in apk.namelist()
            if name.endswith(".dex")
        )
        libraries = [entry for entry in apk.infolist() if entry.filename.endswith(".so")]
        places = [data_offset(path, entry) for entry in libraries]
        pages = [align for entry in libraries for align in segment_alignments(apk.read(entry))]
    return Facts(path.stat().st_size, methods, min(place & -place for place in places), min(pages))


def data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: its local header may be longer than the one in the directory."""
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<2H", stream.read(4))
    return int(entry.header_offset + 30 + name + extra)


def segment_alignments(library: bytes) -> Iterator[int]:
    """Of the segments of a 64-bit little-endian ELF file that are loaded."""
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<2H", library, 54)
    for header in range(table, table + size * count, size):
        if struct.unpack_from("<I", library, header)[0] == LOAD:
            yield struct.unpack_from("<Q", library, header + 48)[0]


if __name__ == "__main__":
    print(facts(Path(sys.argv[1])).line)
