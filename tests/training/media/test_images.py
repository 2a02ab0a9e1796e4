"""Photos in and out: pixel values against independent decoders, and every kind of bad file."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import MAX_PIXELS, atomic_path, find_photos, read_photo, write_png
from tests.training.media.files import cmyk_profile_only_k, grey_profile, png_bytes, png_chunk

ORIENTATION, DATE_TIME, MAKE, EXIF_IFD, GPS_IFD = 0x0112, 0x0132, 0x010F, 0x8769, 0x8825


def pattern(height: int = 24, width: int = 40, channels: int = 3, dtype: type = np.uint8) -> NDArray[Any]:
    """Noise over the whole range of the type: any mix-up of channels, axes or scales shows."""
    random, peak = np.random.default_rng(5), np.iinfo(dtype).max
    values: NDArray[Any] = random.integers(0, peak, (height, width, channels), dtype, endpoint=True)
    return values


def assert_pixels(got: NDArray[np.float32], expected: NDArray[np.floating], tolerance: float = 1e-6) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    difference = np.abs(got.astype(np.float64) - expected)
    assert difference.max() <= tolerance, f"max {difference.max():.3g}, mean {difference.mean():.3g}"


# --- decoding ------------------------------------------------------------------------------------------------


def test_a_jpeg_equals_opencvs_decoding(photo_path: Path) -> None:
    expected = cv2.imread(str(photo_path))[:, :, ::-1] / 255
    assert_pixels(read_photo(photo_path).rgb, expected, tolerance=2.01 / 255)  # two JPEG decoders


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp", ".jp2"])
def test_lossless_8_bit_formats_are_exact(tmp_path: Path, suffix: str) -> None:
    pixels = pattern()
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True)
    assert_pixels(read_photo(tmp_path / f"a{suffix}").rgb, pixels / 255)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_keeps_its_precision(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = pattern(channels=channels, dtype=np.uint16)
    order = [2, 1, 0, 3][:channels]
    assert cv2.imwrite(str(tmp_path / f"deep{suffix}"), pixels[:, :, order])
    assert_pixels(read_photo(tmp_path / f"deep{suffix}").rgb, pixels[:, :, :3] / 65535)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiffs_of_another_writer(
    tmp_path: Path, byteorder: Literal["<", ">"], compression: str | None
) -> None:
    pixels = pattern(dtype=np.uint16)
    file = tmp_path / "deep.tif"
    tifffile.imwrite(file, pixels, byteorder=byteorder, photometric="rgb", compression=compression)
    assert_pixels(read_photo(file).rgb, pixels / 65535)


def test_tiffs_stored_plane_by_plane(tmp_path: Path) -> None:
    pixels = pattern()
    planes = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert_pixels(read_photo(tmp_path / "a.tif").rgb, pixels / 255)
    deep = planes.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", planarconfig="separate")
    assert_refused(tmp_path / "deep.tif", "plane by plane")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_tiff_whose_white_is_zero(tmp_path: Path, dtype: type) -> None:
    grey = pattern(channels=1, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", grey[:, :, 0], photometric="miniswhite")
    assert_pixels(read_photo(tmp_path / "a.tif").rgb, 1 - np.repeat(grey, 3, axis=2) / np.iinfo(dtype).max)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_keeps_its_precision(tmp_path: Path, suffix: str) -> None:
    grey = pattern(channels=1, dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / f"grey{suffix}"), grey)
    assert_pixels(read_photo(tmp_path / f"grey{suffix}").rgb, np.repeat(grey, 3, axis=2) / 65535)


def test_16_bit_grey_with_alpha_keeps_its_precision(tmp_path: Path) -> None:
    grey_alpha = pattern(channels=2, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(grey_alpha.astype(">u2"), depth=16, colour_type=4))
    assert_pixels(read_photo(tmp_path / "a.png").rgb, np.repeat(grey_alpha[:, :, :1], 3, axis=2) / 65535)


def test_grey_and_bilevel_become_rgb(tmp_path: Path) -> None:
    grey = pattern(channels=1)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert_pixels(read_photo(tmp_path / "grey.png").rgb, np.repeat(grey[:, :, None], 3, axis=2) / 255)
    Image.fromarray(grey > 127).save(tmp_path / "bilevel.png")
    expected = np.repeat(grey[:, :, None] > 127, 3, axis=2).astype(float)
    assert_pixels(read_photo(tmp_path / "bilevel.png").rgb, expected)


def test_cmyk_without_profile_is_converted_by_the_plain_formula(tmp_path: Path) -> None:
    cmyk = pattern(channels=4)
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "print.tif")
    ink = 1 - cmyk / 255
    assert_pixels(read_photo(tmp_path / "print.tif").rgb, ink[:, :, :3] * ink[:, :, 3:], tolerance=1.01 / 255)


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path, photo_path: Path) -> None:
    original = Image.open(photo_path)
    original.convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    opencv = cv2.imread(str(tmp_path / "print.jpg"))[:, :, ::-1] / 255
    got = read_photo(tmp_path / "print.jpg").rgb
    assert np.abs(got - np.asarray(original) / 255).mean() < 0.01
    assert np.abs(got - opencv).mean() < 0.01


def test_a_cmyk_profile_is_honoured_and_dropped(tmp_path: Path) -> None:
    cmyk = np.zeros((1, 3, 4), np.uint8)
    cmyk[0, 1] = 255, 0, 0, 0  # cyan, which this profile (only K counts) prints as white
    cmyk[0, 2] = 0, 0, 0, 255
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "print.tif", icc_profile=cmyk_profile_only_k())
    photo = read_photo(tmp_path / "print.tif")
    expected = np.array([[[1.0] * 3, [1.0] * 3, [0.0] * 3]])
    assert_pixels(photo.rgb, expected, tolerance=3 / 255)
    assert photo.icc is None


def test_a_grey_profile_is_honoured_and_dropped(tmp_path: Path) -> None:
    grey = np.arange(0, 256, 5, dtype=np.uint8)[None]
    Image.fromarray(grey).save(tmp_path / "linear.png", icc_profile=grey_profile(gamma=1.0))
    photo = read_photo(tmp_path / "linear.png")
    linear = grey / 255
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert_pixels(photo.rgb, np.repeat(srgb[:, :, None], 3, axis=2), tolerance=2 / 255)
    assert photo.icc is None


def test_a_broken_profile_costs_nothing_but_the_profile(tmp_path: Path) -> None:
    cmyk = pattern(channels=4)
    profile = cmyk_profile_only_k()[:200]
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "print.tif", icc_profile=profile)
    ink = 1 - cmyk / 255
    assert_pixels(read_photo(tmp_path / "print.tif").rgb, ink[:, :, :3] * ink[:, :, 3:], tolerance=1.01 / 255)


def test_alpha_is_dropped_and_the_stored_colours_stay(tmp_path: Path) -> None:
    rgba = pattern(channels=4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert_pixels(read_photo(tmp_path / "a.png").rgb, rgba[:, :, :3] / 255)


def test_a_palette_with_transparency_shows_its_colours(tmp_path: Path) -> None:
    indices = pattern(channels=1)[:, :, 0] % 4
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30], [200, 100, 50]], np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png", transparency=bytes([255, 0, 128, 255]))
    assert_pixels(read_photo(tmp_path / "a.png").rgb, colours[indices] / 255)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("red", "lime", "blue")]
    file = tmp_path / f"moving{suffix}"
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert getattr(Image.open(file), "n_frames", 1) == 3
    assert_pixels(read_photo(file).rgb, np.broadcast_to([1.0, 0.0, 0.0], (12, 20, 3)))


def test_the_smallest_photo(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    assert_pixels(read_photo(tmp_path / "dot.png").rgb, np.array([[[10, 20, 30]]]) / 255)


# --- metadata ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8-bit PNG", "16-bit PNG", "8-bit TIFF", "16-bit TIFF"])
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = pattern()
    file = tmp_path / "turned"
    Image.fromarray(pixels).save(file, format="PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file))) / 255
    deep = pixels.astype(np.uint16) * 257
    if kind == "16-bit PNG":
        png = png_bytes(deep.astype(">u2"), depth=16, colour_type=2)
        file.write_bytes(png[:33] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + png[33:])
    if kind.endswith("TIFF"):
        tags = [(ORIENTATION, "H", 1, orientation, True)]
        tifffile.imwrite(file, deep if kind == "16-bit TIFF" else pixels, photometric="rgb", extratags=tags)
    assert Image.open(file).getexif()[ORIENTATION] == orientation
    assert_pixels(read_photo(file).rgb, expected)


def test_exif_survives_upright_and_without_thumbnail(tmp_path: Path, photo_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE], exif[DATE_TIME] = 6, "Maker", "2024:05:06 07:08:09"
    exif[0x0201], exif[0x0202] = 12345, 678  # where the old file's thumbnail was
    exif.get_ifd(EXIF_IFD).update({0x829A: 0.01, 0xA002: 768, 0xA003: 432})  # exposure time, width, height
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (48.0, 12.0, 30.0)})
    Image.open(photo_path).save(tmp_path / "turned.jpg", exif=exif)
    photo = read_photo(tmp_path / "turned.jpg")
    write_png(tmp_path / "out.png", photo.rgb, photo.exif, photo.icc)
    kept = Image.open(tmp_path / "out.png").getexif()
    assert (kept[ORIENTATION], kept[MAKE], kept[DATE_TIME]) == (1, "Maker", "2024:05:06 07:08:09")
    assert 0x0201 not in kept
    assert kept.get_ifd(EXIF_IFD)[0x829A] == pytest.approx(0.01)
    assert (kept.get_ifd(EXIF_IFD)[0xA002], kept.get_ifd(EXIF_IFD)[0xA003]) == (432, 768)
    assert kept.get_ifd(GPS_IFD)[2] == (48.0, 12.0, 30.0)
    assert read_photo(tmp_path / "out.png").rgb.shape == (768, 432, 3)  # turned once, not twice


def test_tiff_structure_does_not_leak_into_the_new_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pattern(), photometric="rgb", description="scan", metadata=None)
    photo = read_photo(tmp_path / "a.tif")
    write_png(tmp_path / "a.png", photo.rgb, photo.exif)
    tags = set(Image.open(tmp_path / "a.png").getexif())
    assert 0x010E in tags  # ImageDescription
    assert not tags & {0x0100, 0x0101, 0x0111, 0x0117}  # width, height, strips


def test_an_rgb_profile_is_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", icc_profile=profile)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.icc == profile
    write_png(tmp_path / "a.png", photo.rgb, icc=photo.icc)
    assert Image.open(tmp_path / "a.png").info["icc_profile"] == profile


def test_a_photo_without_metadata_stays_without(tmp_path: Path) -> None:
    Image.fromarray(pattern()).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert (photo.exif, photo.icc) == (None, None)
    write_png(tmp_path / "b.png", photo.rgb, photo.exif, photo.icc)
    assert "exif" not in Image.open(tmp_path / "b.png").info


# --- bad files -----------------------------------------------------------------------------------------------


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    for name, data, reason in [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"this is not a picture\n" * 50, "not an image"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        ("phone.jpg", b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
        ("signature.png", b"\x89PNG\r\n\x1a\n", "not an image"),
    ]:
        (tmp_path / name).write_bytes(data)
        assert_refused(tmp_path / name, reason)
    assert_refused(tmp_path / "absent.jpg", "no such file")
    assert_refused(tmp_path / ("n" * 300), "cannot be read: File name too long")
    assert_refused(tmp_path, "got a folder")
    assert_refused(Path("/dev/null"), "a device")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "deep.png", "a.tif", "deep.tif", "a.webp", "a.bmp", "a.gif"]
)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name.startswith("deep"):
        cv2.imwrite(str(file), pattern(64, 64, dtype=np.uint16))
    else:
        Image.fromarray(pattern(64, 64)).save(file)
    read_photo(file)
    whole = file.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        assert_refused(file, "damaged or incomplete|not an image")


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # pytest shows what afterlens.training.media.images silences
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".gif"])
def test_damaged_bytes_give_a_picture_or_one_clear_line(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "afterlens.training.media.images.MAX_PIXELS", 1_000_000
    )  # damage may ask for a huge, black picture
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 3, "Maker"
    file = tmp_path / f"a{suffix}"
    Image.fromarray(pattern(16, 16)).save(file, exif=exif)
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = whole.copy()
        damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
        file.write_bytes(damaged.tobytes())
        try:
            rgb = read_photo(file).rgb
        except UserError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error)
        else:
            assert rgb.ndim == 3
            assert np.isfinite(rgb).all()


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "bomb.png").write_bytes(bomb)
    assert_refused(tmp_path / "bomb.png", "200 million")


def test_samples_without_a_known_range_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "float.tif", np.random.default_rng(0).random((8, 8), np.float32) * 1000)
    assert_refused(tmp_path / "float.tif", "8- or 16-bit RGB")


def assert_refused(file: Path, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read_photo(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


# --- finding -------------------------------------------------------------------------------------------------


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_folders_are_searched_and_sorted(tmp_path: Path) -> None:
    touch(
        *(
            tmp_path / name
            for name in ("b.JPG", "a.png", "sub/c.tiff", "notes.txt", "._a.png", ".cache/d.png")
        )
    )
    found = find_photos([tmp_path])
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["a.png", "b.JPG", "sub/c.tiff"]


def test_files_keep_their_order_and_any_suffix_and_come_once(tmp_path: Path) -> None:
    touch(tmp_path / "z.photo", tmp_path / "a.png")
    paths = [tmp_path / "z.photo", tmp_path / "a.png", tmp_path]
    assert find_photos(paths) == [tmp_path / "z.photo", tmp_path / "a.png"]


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "texts/notes.txt")
    with pytest.raises(UserError, match=r"texts: no photos in this folder"):
        find_photos([tmp_path / "texts"])
    with pytest.raises(UserError, match=r"absent: no such file or folder"):
        find_photos([tmp_path / "absent"])


# --- writing -------------------------------------------------------------------------------------------------


def test_pngs_are_rounded_and_clipped(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.0, 7.0]], np.float32)
    write_png(tmp_path / "a.png", np.repeat(values[:, :, None], 3, axis=2))
    assert cv2.imread(str(tmp_path / "a.png"))[0, :, 1].tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_a_tall_picture_is_written_whole(tmp_path: Path) -> None:
    pixels = pattern(700, 3)  # several bands
    write_png(tmp_path / "a.png", pixels / 255.0)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1], pixels)


def test_what_is_not_a_picture_is_not_written(tmp_path: Path) -> None:
    for wrong in (np.zeros((3, 4, 5)), np.zeros((4, 5)), np.full((4, 5, 3), np.nan), np.zeros((0, 5, 3))):
        with pytest.raises(ValueError, match="NaN|expected"):
            write_png(tmp_path / "a.png", wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise failure
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out.txt", "old")]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "bundle.d"
    for content in ("first", "second"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
        assert [file.name for file in target.iterdir()] == [content]
        assert [file.name for file in target.parent.iterdir()] == ["bundle.d"]
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [file.name for file in target.parent.rglob("*")] == ["bundle.d", "second"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    black = np.zeros((2, 2, 3))
    for path in (
        tmp_path / "file" / "out.png",
        tmp_path / "folder",
        Path("/dev/null"),
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(UserError) as caught:
            write_png(path, black)
        assert str(path) in str(caught.value)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    script = f"""
import resource, signal, sys
from pathlib import Path
import numpy as np
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import write_png
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_png(Path({str(tmp_path / "out.png")!r}), np.random.default_rng(0).random((100, 100, 3)))
except UserError as error:
    sys.exit(str(error))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert result.stderr.strip() == f"cannot write {tmp_path / 'out.png'}: File too large"
    assert list(tmp_path.iterdir()) == []
