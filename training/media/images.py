"""Reading, finding and writing photos. A file becomes a float array, or one clear line about what is wrong with it.

photo = read_photo(Path("window.jpg"))          # photo.rgb is (H, W, 3) float32, [0, 1]
write_png(Path("clean.png"), photo.rgb, photo.exif, photo.icc)
"""

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from afterlens.training.media.errors import UserError
from afterlens.training.media.partial import partial_path, remove, remove_stale
from afterlens.training.media.png import png_fault

# Pillow warns at 89 million pixels, too few for today's cameras. MAX_PIXELS takes its place, as an error.
Image.MAX_IMAGE_PIXELS = None
# Damaged metadata is dropped silently; Pillow's warnings about it do not name the file.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
MAX_PIXELS = 200_000_000

# An explicit list, because Pillow would otherwise start Ghostscript for an EPS file named .jpg.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
# TGA has no signature: any bytes might be one, so the file's name has to say so.
TGA = ".tga"
# HEIC cannot be decoded, but is looked for: a photo that is left out of a folder must be named.
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .mpo .png .apng .tif .tiff .webp .bmp .gif .jp2 .j2k .ppm .pgm .avif .tga .heic .heif".split()
)
_STDERR = threading.Lock()  # held by the thread that has silenced it

# Tags that describe the shot. The others describe the old file (strips, thumbnail, orientation) and would be wrong in
# the new one.
_KEPT_EXIF = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations whose rows are the upright picture's columns


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright, with the metadata that its restored version keeps."""

    rgb: NDArray[np.float32]  # (H, W, 3), [0, 1], encoded as in the file (sRGB, or what `icc` says)
    exif: bytes | None = None  # orientation tag reset to 1, thumbnail dropped
    icc: bytes | None = None  # an RGB profile, else None


def read_photo(path: Path) -> Photo:
    """Decode one photo.

    Grey, palette and CMYK files become RGB (through their ICC profile where they have one), 16-bit PNG and
    TIFF keep their precision, alpha is dropped (the stored colours are kept), the EXIF orientation is
    applied, and of an animation the first frame is taken.

    Raises UserError, naming the file, for anything that is not a whole photo of at most MAX_PIXELS pixels.
    """
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.is_file():
            raise UserError(f"{path}: expected an image file, got a folder or a device")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise UserError(f"{path}: the file is empty (0 bytes)")
    try:
        formats = (*FORMATS, "TGA") if path.suffix.lower() == TGA else FORMATS
        image = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:  # decoders raise almost any exception on damaged bytes
        raise UserError(f"{path}: {_why_not_opened(data)}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} million pixels, "
            f"more than the {MAX_PIXELS // 1_000_000} million that can be processed; scale it down first"
        )
    try:
        if image.format == "PNG" and (fault := png_fault(data)):
            raise UserError(f"the image is damaged or incomplete ({fault})")
        with _quiet_decoders():
            image.load()
            rgb, icc = _pixels(image, data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise UserError(f"{path}: the image is damaged or incomplete ({error.err})") from error
        raise UserError(f"{path}: {too_large(height, width)}") from error
    except Exception as error:
        if not _fits(height, width):  # some decoders call that damage
            raise UserError(f"{path}: {too_large(height, width)}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: the image is damaged or incomplete ({reason})") from error
    exif, orientation = _exif(image)
    rgb = _upright(rgb, orientation)
    return Photo(rgb, exif, icc)


def too_large(height: int, width: int) -> str:
    """What to say of a picture that memory is too small for."""
    return (
        f"{width}x{height} pixels do not fit into this machine's memory; free some, or scale the picture down, "
        f"for example to {max(1, width // 2)}x{max(1, height // 2)}, which takes a quarter"
    )


def _fits(height: int, width: int) -> bool:
    """Whether there is memory for a picture in float32 and as its decoder holds it."""
    try:
        np.empty((height, width, 16), np.uint8)
    except MemoryError:
        return False
    return True


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Keep what libtiff and libpng print about a file off stderr: the one line about it is ours."""
    with _STDERR:
        try:
            kept = os.dup(2)
        except OSError:  # no stderr
            yield
            return
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """List photos: files are taken as they are, folders are searched recursively by suffix.

    Arguments keep their order, and files within a folder are sorted; a file named twice is listed once. Hidden files
    (such as macOS's `._photo.jpg`) are ignored. Raises UserError for a missing path or a folder without photos.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        if not exists:
            raise UserError(f"{path}: no such file or folder")
        inside = sorted(file for file in path.rglob("*") if _is_photo(file, path)) if is_folder else [path]
        if not inside:
            raise UserError(f"{path}: no photos in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        found.update(dict.fromkeys(inside))
    return list(found)


def write_png(
    path: Path,
    rgb: NDArray[np.floating],
    exif: bytes | None = None,
    icc: bytes | None = None,
    complete: Callable[[Path], None] | None = None,
) -> None:
    """Write an (H, W, 3) float image in [0, 1] (values outside are clipped) as an 8-bit PNG, atomically.

    ``complete`` may change the file, such as sign it, before it gets its name.

    Raises UserError where the file cannot be written, ValueError for a wrong shape or NaN.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"got an image of shape {rgb.shape}, expected (H, W, 3)")
    pixels = np.empty(rgb.shape, np.uint8)
    for top in range(0, len(rgb), 256):  # in bands: a float copy of a 50-megapixel photo takes 600 MB
        band = rgb[top : top + 256]
        if np.isnan(band).any():
            raise ValueError(f"NaN in the image to be written to {path}")
        pixels[top : top + 256] = np.rint(np.clip(band, 0.0, 1.0) * 255.0)
    with atomic_path(path) as temporary:
        # exif=b"" and not None, with which Pillow would write what the image carries
        Image.fromarray(pixels).save(temporary, format="PNG", exif=exif or b"", icc_profile=icc)
        if complete is not None:
            complete(temporary)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for the body to write a file or folder at; rename it onto `path` at the end.

    So `path` is either complete or unchanged. Missing parent folders are created; an existing file is replaced by a file,
    a folder by a folder. If the body raises (Ctrl-C included), what it wrote is removed, and what a killed process
    left in the folder is removed by the next one. OSError, such as a full disk, becomes UserError.
    """
    if not path.name:
        raise UserError(f"{str(path)!r}: expected the name of a file or folder to write")
    temporary = partial_path(path)
    remove_stale(path.parent)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: expected a file or folder to write, got a device")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        _replace(temporary, path)
    except OSError as error:
        culprit = error.filename if str(error.filename) not in ("None", str(temporary), str(path)) else None
        reason = f"{error.strerror or error} ({culprit})" if culprit else error.strerror or error
        raise UserError(f"cannot write {path}: {reason}") from error
    finally:
        remove(temporary)


def _is_photo(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()


def _why_not_opened(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC photos are not supported; export it as JPEG or PNG"
    return (
        f"not an image that can be decoded (expected a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file)"
    )


def _pixels(image: Image.Image, data: bytes) -> tuple[NDArray[np.float32], bytes | None]:
    """The (H, W, 3) float32 values in [0, 1] of a loaded image, not yet upright, and its RGB profile if any."""
    icc: bytes | None = image.info.get("icc_profile") or None
    space = icc[16:20] if icc else b""
    if _is_deep_colour(image, data):
        # Pillow reads 16-bit colour as 8-bit, so OpenCV decodes it. Pillow has decoded the file before, because OpenCV
        # returns half of a damaged image without an error. Both apply the orientation of a TIFF, neither that of a PNG.
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3:
            raise UserError("16-bit colour in a layout that cannot be decoded; save it as a plain RGB file")
        return _to_float(bgr[:, :, 2::-1], 65535), icc if space == b"RGB " else None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        grey = _to_float(np.asarray(image), 65535)
        if image.format == "TIFF" and _tiff_tag(image, 262) == 0:  # WhiteIsZero, which Pillow does not invert
            grey = 1.0 - grey
        return np.repeat(grey[:, :, None], 3, axis=2), None
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise UserError(f"colour mode {image.mode} is not supported; save it as 8- or 16-bit RGB")
    if icc and (image.mode, space) in (("CMYK", b"CMYK"), ("L", b"GRAY")):
        converted = _to_srgb(image, icc)
        return _to_float(np.asarray(converted or image.convert("RGB")), 255), None
    if image.mode != "RGB":
        # Through RGBA, because a palette with transparency would otherwise blend with black.
        image = (
            image.convert("RGBA").convert("RGB")
            if image.mode in ("P", "PA", "RGBa")
            else image.convert("RGB")
        )
    return _to_float(np.asarray(image), 255), icc if space == b"RGB " else None


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Whether the file has several 16-bit channels, which Pillow would reduce to 8 bits."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "PNG":
        return data[24] == 16  # bit depth in the IHDR chunk, always the first
    if image.format == "TIFF":
        if 16 not in np.atleast_1d(_tiff_tag(image, 258)):  # BitsPerSample
            return False
        if _tiff_tag(image, 284) == 2:  # PlanarConfiguration; both decoders misread this one
            raise UserError(
                "16-bit colour stored plane by plane is not supported; save it interleaved (chunky)"
            )
        return True
    return False


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return image.tag_v2.get(tag)  # type: ignore[attr-defined]


def _to_float(values: NDArray[np.number], peak: int) -> NDArray[np.float32]:
    return np.divide(values, np.float32(peak), dtype=np.float32)


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """The image converted by its own profile, or None where the profile is broken."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb = ImageCms.createProfile("sRGB")
        # Without this flag, shadows of linear profiles are 7 levels off.
        return ImageCms.profileToProfile(
            image, profile, srgb, outputMode="RGB", flags=ImageCms.Flags.HIGHRESPRECALC
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def _exif(image: Image.Image) -> tuple[bytes | None, int]:
    """The kept tags as EXIF bytes for an upright picture, and the orientation (1-8) of the file."""
    try:
        old = image.getexif()
        orientation = int(old.get(ExifTags.Base.Orientation, 1))
        new = Image.Exif()
        for tag in _KEPT_EXIF:
            if tag in old:
                new[tag] = old[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if values := dict(old.get_ifd(ifd)):
                new[ifd] = values
        if not len(new):
            return None, orientation
        new[ExifTags.Base.Orientation] = 1
        if orientation in _SIDEWAYS and ExifTags.IFD.Exif in new:
            width, height = image.size
            new[ExifTags.IFD.Exif] |= {
                ExifTags.Base.ExifImageWidth: height,
                ExifTags.Base.ExifImageHeight: width,
            }
        return new.tobytes(), orientation
    except Exception:  # damaged metadata raises almost any exception; the picture is still good
        return None, 1


def _upright(rgb: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Apply an EXIF orientation, 1 to 8 (others are invalid and mean 1)."""
    if orientation in _SIDEWAYS:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _sync(written: Path) -> None:
    """Flush a file to disk, so that a power cut after the rename does not leave an empty one."""
    if written.is_file():
        with written.open("rb") as file:
            os.fsync(file.fileno())


def _replace(new: Path, path: Path) -> None:
    """Rename `new` onto `path`; a folder that is not empty cannot be replaced, so it is moved aside first."""
    if not (new.is_dir() and path.is_dir()):
        new.replace(path)
        return
    aside = path.with_name(new.name + ".old")
    path.rename(aside)
    try:
        new.rename(path)
    except OSError:
        aside.rename(path)
        raise
    remove(aside)


def fit(photo: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Centre crop of a photo (H, W, 3) to the aspect ratio of (height, width), scaled to (height, width, 3)."""
    rows, columns = photo.shape[:2]
    scale = min(rows / height, columns / width)
    part_rows, part_columns = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (rows - part_rows) // 2, (columns - part_columns) // 2
    part = photo[top : top + part_rows, left : left + part_columns]
    # Area averaging does not ring, so the result stays in [0, 1]; it cannot enlarge.
    method = cv2.INTER_AREA if scale > 1.0 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), np.float32)
