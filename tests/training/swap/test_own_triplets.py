"""Triplets out of photos: who swaps with whom, what each picture shows, consent, and a run that learns from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from afterlens.conversion.restore.credentials import credentials_of
from afterlens.conversion.restore.marks import marks_in
from afterlens.training.faces.portraits import CIRCLE, read_labels
from afterlens.training.faces.regions import face_mask
from afterlens.training.media.images import read_photo, write_png
from afterlens.training.swap import own_triplets
from afterlens.training.swap.consent import consent_form
from afterlens.training.swap.own_triplets import CONSENT, circles
from afterlens.training.swap.synthesis import index_triplets
from tests.conftest import Result
from tests.training.swap.test_consent import signed
from tests.training.swap.triplets import portrait


@pytest.mark.parametrize("people", [4, 5, 7, 11, 25, 53, 100, 501])
def test_everybody_has_somebody_to_swap_with_and_somebody_can_be_held_out(people: int) -> None:
    numbers = circles(people)
    sizes = Counter(number // CIRCLE for number in numbers)
    assert len(set(numbers)) == people and min(sizes.values()) >= 2 and len(sizes) >= 2
    assert max(sizes.values()) < CIRCLE and (people < 10 or len(sizes) >= 5)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four "people" in three photos each: a rendered portrait, darker, and one without a face."""
    folder = tmp_path_factory.mktemp("people")
    for number in range(4):
        own = folder / f"person {number}"
        own.mkdir()
        (own / CONSENT).write_text(signed(consent_form()), encoding="utf-8")
        picture, _, _ = portrait(number)
        write_png(own / "a.png", picture)
        write_png(own / "b.png", picture**1.3)
        write_png(own / "wall.png", np.full((64, 64, 3), 0.5, np.float32))
    return folder


def test_the_first_is_the_target_with_somebody_elses_face(
    cli: Callable[..., Result], people: Path, tmp_path: Path
) -> None:
    out = tmp_path / "triplets"
    done = cli("triplets", people, "-o", out, "--json")
    assert done.code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["people"] == 4 and result["written"] == 4
    assert len(result["left_out"]) == 4 and all("0 faces found" in why for why in result["left_out"].values())
    records = index_triplets(sorted(out.glob("*.png")))
    assert len(records) == 4 and len({record.group for record in records}) == 2
    for record in records:
        target = record.files["target"]
        shown = {name: read_labels(path) for name, path in (("first", record.photo), *record.files.items())}
        persons = {name: labels.person for name, labels in shown.items() if labels is not None}
        assert persons["source"] == persons["target"] != persons["first"]
        first, right = read_photo(record.photo).rgb, read_photo(target).rgb
        face = face_mask(np.array(record.landmarks, np.float32), 256) > 0.5
        change = np.abs(first - right).mean(axis=2)
        inside, around = float(change[face].mean()), float(change[:40].mean())
        assert inside > 0.02 > 10 * around, (record.photo.name, inside, around)
        note = credentials_of(record.photo)
        assert note is not None and note.intact and note.agents == ("afterlens triplets",)
        assert not marks_in(record.photo)["faces"][0]["marked"] and credentials_of(target) is None
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = cli("triplets", people, "-o", out, "--json")
    assert json.loads(again.stdout)["written"] == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before

    small = ("steps=2", "batch=2", "crop=64", "validation_photos=1", "warmup=1", "workers=0")
    options = [word for change in small for word in ("-s", f"training.{change}")]
    trained = cli("train", "swap", out, "-o", tmp_path / "run", *options)
    assert trained.code == 0, trained.stderr


@pytest.mark.parametrize("text", [None, consent_form()])
def test_nothing_is_made_without_everybodys_consent(
    cli: Callable[..., Result], people: Path, tmp_path: Path, text: str | None
) -> None:
    folder, out = tmp_path / "people", tmp_path / "out"
    for person in sorted(people.iterdir()):
        (folder / person.name).mkdir(parents=True)
        for file in person.iterdir():
            (folder / person.name / file.name).write_bytes(file.read_bytes())
    consent = folder / "person 2" / CONSENT
    consent.unlink()
    if text is not None:
        consent.write_text(text, encoding="utf-8")
    refused = cli("triplets", folder, "-o", out)
    assert refused.code == 2 and "consent.txt" in refused.stderr and not out.exists()


def test_everybody_needs_a_portrait_that_looks_at_the_camera_and_another_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos are called by how far their faces are turned, in degrees."""
    for person, turned in {
        "alone": (0,),
        "away": (26, 40),
        "last": (80, 25),
        "two": (30, 10, 2),
    }.items():
        (tmp_path / person).mkdir()
        (tmp_path / person / CONSENT).write_text(signed(consent_form()), encoding="utf-8")
        for degrees in turned:
            write_png(tmp_path / person / f"{degrees}.png", np.zeros((8, 8, 3), np.float32))
    picture = np.zeros((8, 8, 3), np.float32)
    monkeypatch.setattr(own_triplets, "one_face", lambda photo: (picture, float(photo.stem)))
    monkeypatch.setattr(own_triplets, "identity_of", lambda rgb, landmarks: None)
    monkeypatch.setattr(own_triplets, "degrees_turned", lambda landmarks: landmarks)
    found, left_out = own_triplets._found(tmp_path)
    # The portrait is the one that is turned least, and comes first.
    assert [[one.turned for one in photos] for photos in found] == [[25, 80], [2, 10, 30]]
    assert sorted(Path(name).name for name in left_out) == ["alone", "away"]
    assert set(left_out.values()) == {"needs two usable photos, one of them turned to the camera"}


def test_too_few_people_are_told_so(cli: Callable[..., Result], people: Path, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    (folder / "one").mkdir(parents=True)
    for file in (people / "person 0").iterdir():
        (folder / "one" / file.name).write_bytes(file.read_bytes())
    refused = cli("triplets", folder, "-o", tmp_path / "out")
    assert refused.code == 2 and "1 people with two usable photos" in refused.stderr
    missing = cli("triplets", tmp_path / "nobody", "-o", tmp_path / "out")
    assert missing.code == 2 and "no such folder" in missing.stderr
