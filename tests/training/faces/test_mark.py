"""The mark in changed faces: found again after what happens to photos, and never where it is not."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from afterlens.conversion.restore.marks import marks_in
from afterlens.samples import CALIBRATION, EVALUATION, FACES, HELD_OUT_FACES
from afterlens.training.faces.mark import AMPLITUDE, FOUND, FaceMark, mark_deviations, pattern

Floats = NDArray[np.float32]
Cli = Callable[..., Any]


def read(path: Path) -> Floats:
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def marked(square: Floats, changed: float = 1.0) -> Floats:
    """The square with its mark, as an 8-bit file holds it; ``changed`` is the mask all over."""
    picture = torch.from_numpy(square.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        result = FaceMark()(picture, torch.full((1, 1, 256, 256), changed))
    return np.asarray(result[0].permute(1, 2, 0).clamp(0, 1).mul(255).round().div(255).numpy(), np.float32)


def jpeg(square: Floats, quality: int) -> Floats:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(square * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def turned(square: Floats) -> Floats:
    """As an alignment that is a little off: by 2 degrees, 3 % and 3 pixels."""
    pose = np.asarray(cv2.getRotationMatrix2D((128, 128), 2.0, 1.03), np.float64)
    pose[:, 2] += (3, -2)
    return np.asarray(cv2.warpAffine(square, pose, (256, 256)), np.float32)


def half(square: Floats) -> Floats:
    small = cv2.resize(square, (128, 128), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (256, 256)), np.float32)


@pytest.mark.parametrize("path", [FACES[0], HELD_OUT_FACES[0]], ids=lambda path: path.stem)
def test_the_mark_is_found_again_after_jpeg_scaling_and_a_crooked_alignment(path: Path) -> None:
    square = read(path)
    clean = mark_deviations(square)
    mine = marked(square)
    changed = {"file": mine, "jpeg50": jpeg(mine, 50), "half": half(mine), "turned": turned(mine)}
    found = {name: round(mark_deviations(picture), 1) for name, picture in changed.items()}
    print(path.stem, f"unmarked {clean:.1f}", found)
    assert clean < FOUND <= min(found.values())


def test_the_mark_is_hard_to_see_and_keeps_the_brightness() -> None:
    square = np.full((256, 256, 3), 128 / 255, np.float32)
    change = marked(square) - square
    assert 10 * np.log10(1 / np.square(change).mean()) > 44.0
    assert np.abs(change).max() < 4 * AMPLITUDE
    assert np.abs(change @ [0.299, 0.587, 0.114]).max() <= 1.1 / 255, "one level, from rounding"
    assert not change[:8].any() and not change[:, :2].any(), "the rim stays as it is"


def test_a_face_that_was_not_changed_stays_as_it_is() -> None:
    square = read(FACES[0])
    assert np.array_equal(marked(square, changed=0.004), square)
    weak, whole = (np.abs(marked(square, share) - square).mean() for share in (0.01, 0.015))
    assert 0.3 * whole < weak < 0.7 * whole
    assert np.array_equal(marked(square, 0.02), marked(square, 1.0))


def test_the_pattern_is_the_same_in_every_language() -> None:
    """Its cells are bits of SHA-256: frozen, or older files would lose their mark."""
    field = pattern()
    assert field.shape == (256, 256) and abs(float(field.mean())) < 0.1
    cells = field[120:136, 120:136].reshape(2, 8, 2, 8).mean(axis=(1, 3))
    assert np.allclose(cells, [[0.85, -0.78], [-0.83, 0.58]], atol=0.01)


def test_photos_without_a_mark_raise_no_alarm() -> None:
    """Squares of the bundled photos; docs/beard.md has the figures of 500."""
    found = []
    for path in [*CALIBRATION, *EVALUATION]:
        rgb = read(path)
        for top in range(0, rgb.shape[0] - 255, 256):
            found += [
                mark_deviations(rgb[top : top + 256, :256]),
                mark_deviations(rgb[top : top + 256, -256:]),
            ]
    print(f"{len(found)} squares, largest {max(found):.1f}")
    assert len(found) >= 8 and max(found) < FOUND


def test_faces_in_a_photo_are_told_apart(tmp_path: Path, cli: Cli) -> None:
    both = np.full((300, 640, 3), 0.4, np.float32)
    both[20:276, 20:276], both[20:276, 340:596] = read(HELD_OUT_FACES[1]), marked(read(FACES[0]))
    path = tmp_path / "both.png"
    Image.fromarray(np.rint(both * 255).astype(np.uint8)).save(path)
    found = marks_in(path)
    assert sorted(face["marked"] for face in found["faces"]) == [False, True]
    assert found["marked"] and found["credentials"] is None
    done = cli("mark", str(path), "--json")
    assert done.code == 1 and json.loads(done.stdout)["marked"] == 1
    assert "1 of 1 photos carry the mark" in done.stderr
    assert cli("mark", str(HELD_OUT_FACES[1])).code == 0
    missing = cli("mark", "nowhere.png")
    assert missing.code == 2 and "nowhere.png" in missing.stderr
