"""Triplets out of photos of real people: a trained swap makes the first of what is to become the target.

    report = triplets_from_photos(TASK, Path("people"), Path("triplets"))

Nobody can photograph a triplet. So the target is a photo of a person, the first is the same photo with the face of somebody
else on it, made by a swap that was trained before, and the source is another photo of the target's person. That is how the
published method gets real ones; what the network is asked for, the target, is a real photo.

Each person has a folder of their own with their photos and their signed consent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from afterlens.training.data import as_picture
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import CIRCLE, Labels, write_portrait
from afterlens.training.faces.regions import carrier
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos
from afterlens.training.media.progress import progress_bar
from afterlens.training.swap.consent import read_consent
from afterlens.training.swap.enroll import TURNED, degrees_turned, one_face
from afterlens.training.swap.enrolled import Identity, identity_of
from afterlens.training.swap.network import SwapNetwork
from afterlens.training.task import Task
from afterlens.training.trained import load_network

CONSENT = "consent.txt"
"""File in each person's folder: the form of `afterlens enroll --form`, signed."""

_FEWEST = 4  # people: two circles, one of which can be held out
_CIRCLES = 5  # of people who swap with each other, as soon as there are enough

Noted = Callable[[Path, Path], None]  # a picture that was made, and the photo it was made from


@dataclass(frozen=True)
class Photographed:
    """One photo of a person, aligned.

    Attributes:
        identity: the aligned square, its landmarks, and the vector of who it shows.
        turned: degrees from the camera.
    """

    photo: Path
    identity: Identity
    turned: float


def triplets_from_photos(
    task: Task, people: Path, out: Path, *, checkpoint: Path | None = None, noted: Noted | None = None
) -> dict[str, Any]:
    """Writes a triplet for every photo but the source's of every person to ``out``; those that are there are kept.

    PERSON_PICTURE_source.png is the person's photo that looks most at the camera, _target.png another one, and _first.png
    that with another person's face; beside each lies its JSON file.

    Args:
        task: the identity swap.
        people: a folder for each person, with their photos and their signed ``consent.txt``.
        checkpoint: weights of the swap that makes the firsts; None: the bundled ones. Whom they show does not matter.
        noted: told of each first, to sign it. The first has no mark in its pixels: a network that saw it there would learn
            to take it off.

    Returns: ``{"people", "written", "left_out"}``; "left_out" are photos without exactly one usable face, and why.

    Raises UserError where consent is missing, and for fewer than four people with a portrait and another photo.
    """
    network, _ = load_network(task, checkpoint or task.pretrained)
    assert isinstance(network, SwapNetwork)
    found, left_out = _found(people)
    if len(found) < _FEWEST:
        raise UserError(
            f"{people}: {len(found)} people with two usable photos, one of them turned to the camera, "
            f"expected {_FEWEST} or more, a folder each"
        )
    out.mkdir(parents=True, exist_ok=True)
    numbers = circles(len(found))
    portraits = {number: photos[0] for number, photos in zip(numbers, found, strict=True)}
    written = 0
    with progress_bar() as progress:
        bar = progress.add_task("make triplets", total=sum(len(photos) - 1 for photos in found))
        for number, photos in zip(numbers, found, strict=True):
            others = [n for n in numbers if n // CIRCLE == number // CIRCLE and n != number]
            for picture, target in enumerate(photos[1:]):
                progress.advance(bar)
                files = {
                    name: out / f"{number:05d}_{picture}_{name}.png" for name in ("source", "first", "target")
                }
                if files["target"].exists():
                    continue
                worn = others[picture % len(others)]
                first = _with_face(network, target.identity, portraits[worn].identity)
                _write(
                    files["source"], portraits[number].identity.picture, number, portraits[number].identity
                )
                _write(files["first"], first, worn, target.identity)
                if noted is not None:
                    noted(files["first"], target.photo)
                _write(
                    files["target"], target.identity.picture, number, target.identity
                )  # last: it is complete
                written += 1
    return {"people": len(found), "written": written, "left_out": left_out}


def circles(people: int) -> list[int]:
    """A number for each of so many people, of circles that swap within themselves: of two or more, five if possible."""
    size = max(2, min(CIRCLE // 2, people // _CIRCLES))
    last = people // size - 1
    return [min(n // size, last) * CIRCLE + n - min(n // size, last) * size for n in range(people)]


def _found(people: Path) -> tuple[list[list[Photographed]], dict[str, str]]:
    """The usable photos of each person, the portrait first, and why others are left out."""
    if not people.is_dir():
        raise UserError(f"{people}: no such folder; expected a folder for each person in it")
    found, left_out = [], {}
    folders = sorted(
        folder for folder in people.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    for folder in folders:
        read_consent(folder / CONSENT)
    with progress_bar() as progress:
        bar = progress.add_task("find faces", total=len(folders))
        for folder in folders:
            usable = []
            for photo in find_photos([folder]):
                try:
                    rgb, landmarks = one_face(photo)
                except UserError as error:
                    left_out[str(photo)] = str(error).removeprefix(f"{photo}: ")
                    continue
                usable.append(Photographed(photo, identity_of(rgb, landmarks), degrees_turned(landmarks)))
            usable.sort(key=lambda one: one.turned)
            progress.advance(bar)
            if len(usable) < 2 or usable[0].turned > TURNED:
                left_out[str(folder)] = "needs two usable photos, one of them turned to the camera"
                continue
            found.append(usable)
    return found, left_out


def _with_face(network: SwapNetwork, frame: Identity, other: Identity) -> Floats:
    """The aligned square of ``frame`` with the face of ``other``."""
    laid, _ = lay(other.picture, other.landmarks, frame.picture, frame.landmarks)
    with torch.inference_mode():
        result, _mask = network(*(as_picture(one)[None] for one in (frame.picture, laid)), other.vector[None])
    made = result[0].permute(1, 2, 0).numpy().clip(0.0, 1.0)
    where = carrier(frame.landmarks, SIDE)[..., None]
    swapped: Floats = frame.picture + where * (made - frame.picture)
    return swapped


def _write(path: Path, picture: Floats, person: int, where: Identity) -> None:
    landmarks = tuple((float(x), float(y)) for x, y in where.landmarks)
    write_portrait(path, picture, Labels(person=person, landmarks=landmarks))
