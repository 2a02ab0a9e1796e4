"""Damage that decoders do not report: a file is read whole, or refused with the place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.training.media.clips import open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.media.structure import _jumps, refuse_broken
from tests.clip_files import picture, write_clip


def damaged(source: Path, at: int, count: int = 64) -> Path:
    data = bytearray(source.read_bytes())
    data[at : at + count] = bytes(count)
    path = source.with_name(f"damaged{source.suffix}")
    path.write_bytes(data)
    return path


def frames(path: Path) -> int | None:
    """How many frames a clip gives; None where it is refused."""
    try:
        return sum(1 for _ in open_clip(path))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return None


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mkv", "libx264"), ("c.webm", "libvpx-vp9"), ("c.avi", "mpeg4")]
)
def test_zeroed_bytes_anywhere_lose_no_frame_in_silence(tmp_path: Path, name: str, codec: str) -> None:
    source = write_clip(
        tmp_path / name, [picture(number) for number in range(24)], codec=codec, audio=name == "c.mkv"
    )
    refuse_broken(source)
    assert frames(source) == 24
    size = source.stat().st_size
    found = {at: frames(damaged(source, at)) for at in range(size // 8, size * 7 // 8, max(1, size // 40))}
    assert set(found.values()) <= {24, None}, found
    assert None in found.values()


def test_the_place_of_the_damage_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "c.mkv")
    cluster = source.read_bytes().index(b"\x1f\x43\xb6\x75")
    with pytest.raises(UserError, match=rf"damaged at byte {cluster} of \d+: frames are lost"):
        open_clip(damaged(source, cluster, 16))


def test_a_packet_that_is_missing_from_a_transport_stream_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "c.ts", [picture(number) for number in range(24)], codec="mpeg2video")
    data = source.read_bytes()
    place = len(data) // 376 * 188
    track = data[place + 1 : place + 3]
    while (data[place + 1] & 0x1F, data[place + 2]) != (track[0] & 0x1F, track[1]) or not data[
        place + 3
    ] & 16:
        place += 188
    head = data.index(b"\0\0\1\xe0", place)  # of a frame, as a packet of its own
    for changed in (
        data[:place] + data[place + 188 :],
        data[:place] + b"\0" + data[place + 1 :],
        data[: head + 2] + b"\0" + data[head + 3 :],
    ):
        source.write_bytes(changed)
        with pytest.raises(UserError, match=r"damaged at byte \d+ of \d+: frames are lost"):
            open_clip(source)


def test_packets_are_numbered_by_track_and_only_where_they_carry_something() -> None:
    """(track, counter, control bits, length of the adaptation field and its flags) of packets in a row."""
    rows = [
        *((256, 3, 0x10, 0, 0), (257, 9, 0x10, 0, 0), (256, 4, 0x10, 0, 0)),  # each by its own numbers
        *((256, 4, 0x10, 0, 0), (256, 4, 0x20, 1, 0)),  # sent twice; a packet without a payload
        (256, 5, 0x20, 1, 0),  # without a payload it must not go on
        (256, 9, 0x30, 1, 0x80),  # a jump that is announced
        (256, 11, 0x10, 0, 0),  # one that is not
        *((0x1FFF, 1, 0x10, 0, 0), (0x1FFF, 7, 0x10, 0, 0)),  # filling
    ]
    packets = np.zeros((len(rows), 188), np.uint8)
    for packet, (track, counter, control, length, flags) in zip(packets, rows, strict=True):
        packet[:6] = 0x47, track >> 8, track & 255, control | counter, length, flags
    assert np.flatnonzero(_jumps(packets)).tolist() == [5, 7]


def test_a_live_recording_without_sizes_is_read(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "c.mkv", options={"live": "1"})
    assert frames(source) == 12


def test_every_checksum_of_a_png_counts(tmp_path: Path, photo_path: Path) -> None:
    """Pillow skips the last one, and returns rows that are wrong."""
    source = tmp_path / "a.png"
    Image.open(photo_path).resize((96, 64)).save(source)
    data = source.read_bytes()
    chunks = []
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], position + 8 + length))
        position += 12 + length
    assert {name for name, _ in chunks} >= {b"IHDR", b"IDAT", b"IEND"}
    for name, checksum in chunks:
        changed = bytearray(data)
        changed[checksum + 1] ^= 0x10
        source.write_bytes(changed)
        if name in (b"IHDR", b"IDAT", b"IEND"):
            with pytest.raises(UserError, match="damaged|not an image"):
                read_photo(source)


def test_tga_is_read_and_other_bytes_are_not_taken_for_it(tmp_path: Path, photo_path: Path) -> None:
    image = Image.open(photo_path).resize((40, 30))
    for name, options in (("plain.tga", {}), ("packed.TGA", {"compression": "tga_rle"})):
        image.save(tmp_path / name, format="TGA", **options)
        assert np.array_equal(np.rint(read_photo(tmp_path / name).rgb * 255), np.asarray(image))
    (tmp_path / "plain.tga").rename(tmp_path / "plain.jpg")
    with pytest.raises(UserError, match="not an image"):
        read_photo(tmp_path / "plain.jpg")


def test_a_folder_lists_what_can_only_be_named(tmp_path: Path, photo_path: Path) -> None:
    for name in ("a.jpg", "b.HEIC", "c.heif", "d.tga", "e.txt", ".f.heic"):
        (tmp_path / name).write_bytes(photo_path.read_bytes())
    assert [path.name for path in find_photos([tmp_path])] == ["a.jpg", "b.HEIC", "c.heif", "d.tga"]


def test_too_little_memory_is_not_called_damage(photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("afterlens.training.media.images._pixels", full)
    with pytest.raises(UserError, match="768x432 pixels do not fit into this machine's memory.*384x216"):
        read_photo(photo_path)


def element(identifier: str, content: bytes) -> bytes:
    return bytes.fromhex(identifier) + bytes([0x80 | len(content)]) + content


MATROSKA = {
    "segment": "114D9B74 1549A966 1654AE6B 1C53BB6B 1254C367 1941A469 1043A770 EC BF",
    "cluster": "E7 A7 AB AF 5854 EC BF",
    "block group": "9B FA FB FD A4 8E C8 75A1 75A2 EC BF",
}
"""The elements of RFC 9559 that hold no frames, by what they stand in: seek head, info, tracks, cues ..."""


@pytest.mark.parametrize(
    ("where", "identifier"), [(w, i) for w, ids in MATROSKA.items() for i in ids.split()]
)
def test_every_element_of_matroska_is_walked_over(tmp_path: Path, where: str, identifier: str) -> None:
    """All of one byte, which would be taken for something else where the walk stops at the wrong place."""
    one = element(identifier, b"\x01")
    group = element("A0", element("A1", b"\x81frame") + (one if where == "block group" else b""))
    cluster = element("1F43B675", group + element("A3", b"\x81frame") + (one if where == "cluster" else b""))
    body = (one if where == "segment" else b"") + cluster
    path = tmp_path / "c.mkv"
    path.write_bytes(element("1A45DFA3", b"\x42\x86\x81\x01") + element("18538067", body))
    refuse_broken(path)
    unknown = element({2: "E8", 4: "5855", 8: "1043A771"}[len(identifier)], b"\x01")
    path.write_bytes(path.read_bytes().replace(one, unknown))
    with pytest.raises(UserError, match="damaged at byte"):
        refuse_broken(path)
