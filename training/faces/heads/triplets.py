"""Renders triplets for the identity swap: source, first and target, of people who do not exist.

report = write_triplets(Path("heads"), Path("triplets"), people=100, each=4)

Source and target share the identity, first and target all else: pose, expression, hair, clothes, light, backdrop and
noise. The source is a portrait as people give one to be recognised by: nearly frontal, no glasses, no hair over the
face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from afterlens.training.data import cached_photo
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.identity import sample_expression
from afterlens.training.faces.heads.meshes import Floats
from afterlens.training.faces.heads.render import Person, Portrait, Studio
from afterlens.training.faces.heads.scene import Scene, sample_scene
from afterlens.training.faces.heads.swapped import swapped
from afterlens.training.faces.heads.write import labels_of
from afterlens.training.faces.portraits import CIRCLE, write_portrait
from afterlens.training.media.progress import progress_bar

_FRONTAL = 0.4  # share of the usual yaw and pitch that a source has


def write_triplets(
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
    """Writes ``people`` x ``each`` triplets to ``out``; those that are there already are kept.

    NUMBER_PICTURE_first.png shows person NUMBER, _target.png the same portrait with another person's face, and
    _source.png that other person; beside each lies its JSON file (`portraits.Labels`), whose person is the identity shown.
    Arguments as for `write.write_heads`.

    Returns: ``{"written"}``.

    Raises UserError where assets are missing or damaged.
    """
    studio = Studio(read_assets(assets, base))
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    with progress_bar() as progress:
        bar = progress.add_task("render triplets", total=people * each)
        for number in range(first, first + people):
            wearer = studio.person(number)
            for picture in range(each):
                progress.advance(bar)
                stem = f"{number:05d}_{picture}"
                if (out / f"{stem}_target.png").exists():
                    continue
                rng = np.random.default_rng([number, 3, picture])
                source = studio.person(_partner(number, rng))
                _write(out, stem, studio, wearer, source, rng, photos, side)
                written += 1
    return {"written": written}


def _partner(number: int, rng: Generator) -> int:
    """Another person of the same circle."""
    return number // CIRCLE * CIRCLE + (number % CIRCLE + int(rng.integers(1, CIRCLE))) % CIRCLE


def _write(
    out: Path,
    stem: str,
    studio: Studio,
    wearer: Person,
    source: Person,
    rng: Generator,
    photos: Sequence[Path],
    side: int,
) -> None:
    expression, scene = sample_expression(studio.assets, rng), sample_scene(rng)
    photo = cached_photo(photos[rng.integers(len(photos))]).astype(np.float32) / 255.0 if photos else None
    dress = int(rng.integers(2**31))

    def taken(person: Person, like: Portrait | None = None) -> Portrait:
        return studio.portrait(person, expression, scene, np.random.default_rng(dress), side, photo, like)

    first = taken(wearer)
    shown = {
        "source": _recognisable(studio, source, rng, photo, side),
        "first": first,
        "target": taken(swapped(studio, wearer, source), first),
    }
    for name, portrait in shown.items():  # the target last: with it a triplet is complete
        person = wearer if name == "first" else source
        write_portrait(out / f"{stem}_{name}.png", portrait.picture, labels_of(person, portrait))


def _recognisable(
    studio: Studio, person: Person, rng: Generator, photo: Floats | None, side: int
) -> Portrait:
    scene = sample_scene(rng)
    scene = replace(scene, yaw=_FRONTAL * scene.yaw, pitch=_FRONTAL * scene.pitch)
    smile = {"mouthSmileLeft": 0.4, "mouthSmileRight": 0.4} if rng.random() < 0.4 else {}
    expression = {name: weight for name, weight in smile.items() if name in studio.assets.expressions}
    person = replace(person, identity=replace(person.identity, hair=None))
    return studio.portrait(person, expression, plain(scene), rng, side, photo, glasses=False)


def plain(scene: Scene) -> Scene:
    """The scene with an even light and without noise, as where people are asked for their portrait."""
    return replace(scene, ambient=max(scene.ambient, 0.6), noise=0.0)
