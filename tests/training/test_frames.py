"""Clips as training data: the sharpest frame of every second."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from afterlens.samples import CLIP
from afterlens.training.frames import photos_of, sharpest
from afterlens.training.media.clips import open_clip
from afterlens.training.media.errors import UserError
from tests.clip_files import write_clip


def test_of_every_second_the_sharpest_frame_is_taken() -> None:
    frames = list(open_clip(CLIP))
    rate = round(open_clip(CLIP).frame_rate or 0)
    assert rate == 30 and len(frames) == 58
    scores = [cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var() for f in frames]
    chosen = list(sharpest(CLIP))
    assert len(chosen) == 2
    assert np.array_equal(chosen[0], frames[int(np.argmax(scores[:30]))])
    assert np.array_equal(chosen[1], frames[30 + int(np.argmax(scores[30:]))])


def test_photos_stay_clips_become_folders_and_a_resumed_run_finds_them(
    photo_path: Path, tmp_path: Path
) -> None:
    data = photos_of([photo_path, CLIP], tmp_path)
    assert data[0] == photo_path
    assert data[1].parent == tmp_path and data[1].name.startswith("hands.mkv-")
    files = sorted(data[1].iterdir())
    assert [file.name for file in files] == ["hands_00000.png", "hands_00001.png"]
    assert np.array_equal(np.asarray(Image.open(files[0])), next(sharpest(CLIP)))
    times = [file.stat().st_mtime_ns for file in files]
    assert photos_of([CLIP], tmp_path) == [data[1]]
    assert [file.stat().st_mtime_ns for file in files] == times


def test_clips_of_the_same_name_have_their_own_frames(tmp_path: Path) -> None:
    """One folder for both was the first one's frames twice, and none of the second."""
    other = tmp_path / "other" / CLIP.name
    other.parent.mkdir()
    write_clip(other, [np.full((64, 64, 3), 200, np.uint8)] * 3)
    data = photos_of([CLIP, other], tmp_path / "frames")
    assert len(set(data)) == 2
    assert [len(list(folder.iterdir())) for folder in data] == [2, 1]


def test_a_damaged_clip_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "cut.mkv").write_bytes(CLIP.read_bytes()[:60_000])
    with pytest.raises(UserError, match="cut.mkv"):
        photos_of([tmp_path / "cut.mkv"], tmp_path / "frames")
    assert not list((tmp_path / "frames").glob("*")), "half of a clip would look like all of it"
