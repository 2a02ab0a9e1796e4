"""Faces found, aligned, masked and pasted back: on a frame of a real clip and on rendered heads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from afterlens.samples import FACES, FRAMES, HELD_OUT_FACES
from afterlens.training.faces.align import PLACES, alignment, cut, moved, pasted, three_points
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.portraits import aligned_square, index_portraits, read_labels
from afterlens.training.faces.regions import beard_regions, carrier, face_mask
from afterlens.training.media.errors import UserError


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def known(path: Path) -> NDArray[np.float32]:
    labels = read_labels(path)
    assert labels is not None
    return np.array(labels.landmarks, np.float32)


def test_the_man_in_the_frame_is_found_and_a_room_without_people_has_no_face(photo_path: Path) -> None:
    (face,) = find_faces(read(FRAMES[0]))
    assert np.abs(np.array(face.box) - [298, 85, 379, 166]).max() < 4, face.box
    right, left, mouth = three_points(face.landmarks)
    assert right[0] < left[0] and abs(right[1] - left[1]) < 4 and mouth[1] > right[1] + 15
    assert find_faces(read(photo_path)) == []


def test_several_faces_come_with_the_largest_first() -> None:
    first, second = read(FACES[0]), read(HELD_OUT_FACES[1])
    both = np.zeros((256, 512, 3), np.uint8)
    both[:, :256] = second
    both[64:192, 320:448] = np.asarray(Image.fromarray(first).resize((128, 128)))
    faces = find_faces(both)
    assert len(faces) == 2
    assert faces[0].box[0] < 256 < faces[1].box[0]


@pytest.mark.parametrize("path", [*FACES, *HELD_OUT_FACES], ids=lambda path: path.stem)
def test_the_landmarks_found_are_near_those_of_the_mesh(path: Path) -> None:
    exact = known(path)
    (face,) = find_faces(read(path))
    away = np.linalg.norm(face.landmarks - exact, axis=1) / np.linalg.norm(exact[33] - exact[263])
    print(f"{path.stem}: mean {away.mean():.3f}, largest {away.max():.3f} of the distance of the eyes")
    assert away.mean() < 0.08


def test_a_similarity_is_found_exactly() -> None:
    turn, scale, shift = 0.4, 1.7, np.array([30.0, -12.0])
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = np.zeros((468, 2), np.float32)
    for corners, place in zip(([33, 133], [362, 263], [61, 291]), PLACES, strict=True):
        for corner, beside in zip(corners, (-5.0, 5.0), strict=True):
            landmarks[corner] = rotation @ (place + np.array([beside, 0.0])) + shift
    np.testing.assert_allclose(three_points(moved(landmarks, alignment(landmarks))), PLACES, atol=1e-3)
    half = three_points(moved(landmarks, alignment(landmarks, 128)))
    np.testing.assert_allclose(half, PLACES / 2, atol=1e-3)


def test_what_is_pasted_lies_where_it_was_cut() -> None:
    photo = read(FRAMES[0]).astype(np.float32) / 255
    (face,) = find_faces(read(FRAMES[0]))
    into = alignment(face.landmarks)
    square = cut(photo, into, 256)
    assert np.array_equal(pasted(photo, np.zeros_like(square), into), photo)
    change = np.zeros_like(square)
    change[150:180, 110:146] = -0.2  # about the mouth
    difference = photo - pasted(photo, change, into)
    rows, columns = np.nonzero(difference[..., 0] > 0.1)
    middle = face.landmarks[[61, 291]].mean(axis=0)
    assert np.abs([columns.mean() - middle[0], rows.mean() - middle[1]]).max() < 2
    # The way there and back is a loss of detail, but no shift.
    back = photo - pasted(photo, square * 0 - 0.1, into)
    assert back[:60].max() < 1e-6 and back[120:130, 330:340].min() > 0.09


def test_regions_of_a_beard_lie_around_the_mouth() -> None:
    landmarks = known(HELD_OUT_FACES[1])
    parts = beard_regions(landmarks, 256)

    def height(name: str) -> float:
        return float((parts[name].sum(axis=1) * np.arange(256)).sum() / parts[name].sum())

    assert height("moustache") < height("lips") < height("soul") < height("chin")
    eyes = landmarks[[33, 263], 1].max()
    inside = face_mask(landmarks, 256) > 0.5
    for name in ("moustache", "soul", "chin"):
        rows, columns = np.nonzero(parts[name] > 0.5)
        assert rows.min() > eyes and inside[rows, columns].mean() > 0.9, name
    assert (parts["moustache"] * parts["lips"]).max() < 0.5
    assert parts["jaw"].sum() > parts["chin"].sum() > parts["moustache"].sum() > 50
    whole = carrier(landmarks, 256)
    assert (whole[inside] > 0.4).all() and whole.sum() > 1.05 * inside.sum() and whole[:20].max() < 0.01


def test_portraits_keep_their_labels_and_photos_get_the_face_that_is_found(
    tmp_path: Path, photo_path: Path
) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for suffix in (".jpg", ".json"):
        shutil.copy(FACES[0].with_suffix(suffix), folder)
    records = index_portraits([folder / FACES[0].name, FRAMES[0], photo_path])
    assert [record.group for record in records] == ["person 702", FRAMES[0].name]
    square, landmarks = aligned_square(records[1], 64)
    assert square.shape == (64, 64, 3)
    np.testing.assert_allclose(three_points(landmarks), PLACES / 4, atol=0.8)
    rendered, _ = aligned_square(records[0], 256)
    assert np.array_equal(np.rint(rendered * 255), read(FACES[0]))  # as it is, and not resampled
    with pytest.raises(UserError, match="no face in any of 1 photos"):
        index_portraits([photo_path])


def test_foreign_labels_are_refused(tmp_path: Path) -> None:
    shutil.copy(FACES[0], tmp_path / "a.jpg")
    for text in ("[1, 2]", "{", json.dumps({"person": 1})):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match=r"a\.json: no labels of a portrait"):
            read_labels(tmp_path / "a.jpg")
    labels = json.loads(FACES[0].with_suffix(".json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(labels | {"landmarks": labels["landmarks"][:5]}))
    with pytest.raises(UserError, match="5 landmarks, expected 468"):
        read_labels(tmp_path / "a.jpg")
