"""Faces of clips: places that do not tremble, follow what moves, and are given up with the face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from afterlens.conversion.restore.credentials import credentials_of
from afterlens.conversion.restore.face_clip import SteadyFaces
from afterlens.samples import FACES
from afterlens.training.beard.task import TASK, build_network
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.faces.portraits import index_portraits
from afterlens.training.media.images import read_photo
from afterlens.training.media.video import open_video
from afterlens.training.recipe import read_recipe, read_table
from tests.clip_files import write_clip
from tests.conftest import Result

FACE = np.array(index_portraits(FACES[:1])[0].landmarks, np.float32)


def trembling(frames: int, amount: float = 0.7) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [FACE + rng.normal(0.0, amount, FACE.shape).astype(np.float32) for _ in range(frames)]


def test_a_face_that_is_still_does_not_tremble() -> None:
    steady = SteadyFaces()
    seen = trembling(60)
    made = [steady([landmarks], new_scene=number == 0)[0] for number, landmarks in enumerate(seen)]
    before = np.abs(np.diff(seen[20:], axis=0)).mean()
    after = np.abs(np.diff(made[20:], axis=0)).mean()
    print(f"mean step {before:.3f} -> {after:.3f} pixels")
    assert after < before / 5
    assert np.abs(made[-1] - FACE).max() < 1.0


@pytest.mark.parametrize("speed", [1.0, 4.0, 15.0])
def test_a_face_that_moves_is_followed(speed: float) -> None:
    steady = SteadyFaces()
    for number in range(30):
        there = FACE + np.array([speed * number, 0.0], np.float32)
        (made,) = steady([there], new_scene=number == 0)
    lag = float((there - made)[:, 0].mean())
    print(f"{speed} pixels a frame: {lag:.2f} behind")
    assert 0.0 <= lag < max(2.0, 0.5 * speed)


def test_two_faces_keep_their_own_places_in_whatever_order() -> None:
    steady = SteadyFaces()
    other = FACE + np.array([400.0, 0.0], np.float32)
    steady([FACE, other], new_scene=True)
    made = steady([other + 1.0, FACE - 1.0], new_scene=False)
    assert np.abs(made[0] - other).max() < 1.0 and np.abs(made[1] - FACE).max() < 1.0


def test_how_far_a_face_has_moved_is_measured_in_its_own_size() -> None:
    """A large face moves further between two frames than the small one that it passes."""
    steady, middle = SteadyFaces(), FACE.mean(axis=0)
    to_the_right = np.array([0.3 * float(np.linalg.norm(FACE[33] - FACE[263])), 0.0], np.float32)
    small = (FACE - middle) * np.float32(0.1) + middle + 1.5 * to_the_right
    steady([FACE, small], new_scene=True)
    made = steady([FACE + to_the_right], new_scene=False)
    assert len(made) == 2 and np.array_equal(made[1], small)
    assert 0.0 < (made[0] - FACE)[:, 0].mean() < to_the_right[0]


def test_a_face_that_is_not_found_is_held_for_two_frames_but_not_over_a_cut() -> None:
    steady = SteadyFaces()
    steady([FACE], new_scene=True)
    assert [len(steady([], new_scene=False)) for _ in range(4)] == [1, 1, 0, 0]
    steady([FACE], new_scene=False)
    assert steady([], new_scene=True) == []
    far = FACE + np.array([300.0, 0.0], np.float32)
    steady([FACE], new_scene=True)
    assert np.array_equal(steady([far], new_scene=False)[0], far)  # another face, not one that jumped


def test_beards_on_a_clip_from_end_to_end(cli: Callable[..., Result], tmp_path: Path) -> None:
    torch.manual_seed(0)
    changes = ("network.widths=[16,16,16]", "network.depths=[1,1,1]", "network.decoder_depths=[1,1]")
    recipe = read_recipe(TASK.recipe_type, TASK.recipe_path, changes)
    network = build_network(recipe)
    nn.init.normal_(next(network.head.parameters()), 0.0, 0.05)
    weights = tmp_path / "random.safetensors"
    table = {**read_table(TASK.recipe_path)["network"], **recipe.network.model_dump(mode="json")}
    save_checkpoint(weights, network.state_dict(), {"task": "beard", "recipe": {"network": table}})
    face = read_photo(FACES[0]).rgb
    frames = [np.rint(np.roll(face, 2 * number, axis=1) * 255).astype(np.uint8) for number in range(4)]
    frames += [np.full_like(frames[0], 90)] * 4  # a face that is lost is held for two frames
    clip = write_clip(tmp_path / "me.mp4", frames)
    out = tmp_path / "bearded.mp4"
    done = cli("restore", "beard", clip, "--wanted", "full", "-o", out, "-c", weights)
    assert done.code == 0, done.stderr
    with open_video(clip) as before, open_video(out) as after:
        change = [
            float(np.abs(a.rgb.astype(int) - b.rgb.astype(int)).mean())
            for a, b in zip(before.frames(), after.frames(), strict=True)
        ]
    print([f"{value:.2f}" for value in change])
    assert min(change[:4]) > 3 * max(change[6:])
    found = credentials_of(out)
    assert found is not None and found.intact and found.agents == ("afterlens beard",)

    empty = write_clip(tmp_path / "room.mp4", frames[4:])
    refused = cli("restore", "beard", empty, "--wanted", "full", "-o", tmp_path / "no.mp4", "-c", weights)
    assert refused.code == 2 and "room.mp4: no face found in any frame" in refused.stderr
    assert not (tmp_path / "no.mp4").exists()
    assert cli("restore", "beard", clip, "-o", tmp_path / "no.mp4", "-c", weights).code == 2
