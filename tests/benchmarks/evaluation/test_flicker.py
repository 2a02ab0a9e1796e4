"""Flicker along the flow: none where nothing was changed, and as much as was added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.benchmarks.evaluation.flicker import flicker, main
from afterlens.samples import HELD_OUT_FACES
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo


def clip(folder: Path, change: Callable[[int, np.ndarray], np.ndarray], frames: int = 4) -> Path:
    """A portrait that moves by a pixel a frame, each frame changed by ``change(number, frame)``."""
    folder.mkdir()
    face = read_photo(HELD_OUT_FACES[3]).rgb[:, 12:-12]  # as clips are: not square
    rng = np.random.default_rng(0)
    for number in range(frames):
        noisy = np.roll(face, number, axis=1) + rng.normal(0.0, 1.0 / 255, face.shape)
        levels = np.rint(change(number, noisy).clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.png")
    return folder


def test_what_was_not_changed_flickers_as_before(tmp_path: Path) -> None:
    before = clip(tmp_path / "before", lambda _, frame: frame)
    brighter = clip(tmp_path / "brighter", lambda _, frame: frame * 0.98)
    found = flicker(before, before)
    assert found["frames"] == 3 and found["ratio"] == found["worst"] == 1.0
    assert 0.5 < found["before"] < 4.0  # levels: the noise, and what the flow misses
    assert flicker(before, brighter)["ratio"] == pytest.approx(1.0, abs=0.1)


def test_flicker_is_what_was_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = clip(tmp_path / "before", lambda _, frame: frame)
    flickers = clip(tmp_path / "after", lambda number, frame: frame - 5.0 / 255 * (number % 2))
    monkeypatch.setattr("sys.argv", ["flicker", str(before), str(flickers)])
    assert main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["after"] == pytest.approx(5.0, abs=1.0) and found["ratio"] > 2.0


def test_other_clips_are_refused(tmp_path: Path) -> None:
    before = clip(tmp_path / "before", lambda _, frame: frame)
    shorter = clip(tmp_path / "shorter", lambda _, frame: frame, frames=2)
    smaller = clip(tmp_path / "smaller", lambda _, frame: frame[:200])
    faceless = clip(tmp_path / "faceless", lambda _, frame: frame * 0.0)
    for pair, words in (
        ((before, shorter), "not as many frames"),
        ((before, smaller), "not the size"),
        ((faceless, faceless), "no face in two frames"),
    ):
        with pytest.raises(UserError, match=words):
            flicker(*pair)
