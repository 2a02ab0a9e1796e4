"""What the page is made of: tables, pictures and coloured words, and the Jinja2 templates that lay them out.

The page is one file without requests to elsewhere. Everything that comes from a bundle or a benchmark is text and gets
escaped: only the style sheet and the script of this folder go into the page as they are.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from afterlens.training.media.images import read_photo

TEMPLATES = Path(__file__).with_name("templates")
MAX_SIDE = 1280
"""Pictures are shown at most this large, in pixels, as JPEG: a report should fit into an e-mail."""

PASS, FAIL, OPEN = "pass", "fail", "not verified"


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than a word."""

    text: str
    note: str = ""  # a small line below the text
    state: str = ""  # PASS, FAIL or OPEN: the text is shown as a coloured word
    code: bool = False  # a file name


@dataclass(frozen=True)
class Table:
    """A table; columns whose heading ends in ">" hold numbers and are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An image that is stored in the page."""

    source: str  # data URI
    description: str
    width: int  # pixels
    height: int
    caption: str


def state_cell(passed: bool | None, note: str = "") -> Cell:
    """A coloured word: pass, fail, or not verified."""
    word = {True: PASS, False: FAIL, None: OPEN}[passed]
    return Cell(word, note, word)


def photo(path: Path, description: str, caption: str) -> Picture:
    """An image file, scaled down to MAX_SIDE. Raises UserError if it is not an image."""
    return jpeg(np.rint(read_photo(path).rgb * 255).astype(np.uint8), description, caption)


def jpeg(rgb: np.ndarray, description: str, caption: str) -> Picture:
    """An image, (H, W, 3) uint8 RGB, scaled down to MAX_SIDE."""
    image = Image.fromarray(rgb)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, subsampling=0)
    return Picture(_data_uri("image/jpeg", buffer.getvalue()), description, *image.size, caption)


def drawing(svg: str, description: str, width: int, height: int) -> Picture:
    """An SVG as an image: browsers run no script in it and load nothing for it."""
    return Picture(_data_uri("image/svg+xml", svg.encode()), description, width, height, "")


def render(context: Mapping[str, Any]) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    # Should escaping ever fail: only this very script may run, and nothing is loaded from anywhere.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("report.html").render(
        context, style=Markup(style), script=Markup(script), script_digest=digest
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
