"""Samples of the swap: triplets on disk, the same whatever order they are asked for in, and training without targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from afterlens.training.data import seeded
from afterlens.training.media.errors import UserError
from afterlens.training.swap.synthesis import (
    HeldOutSwaps,
    SwapSamples,
    index_triplets,
    swap_sample,
    where_changed,
)
from tests.training.swap.triplets import write_some


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_some(tmp_path_factory.mktemp("triplets"), 3)


def test_triplets_are_found_and_people_of_a_circle_stay_together(folder: Path) -> None:
    records = index_triplets(sorted(folder.glob("*.png")))
    assert [record.photo.name for record in records] == [f"{n:05d}_0_first.png" for n in range(3)]
    assert [record.group for record in records] == ["circle 0", "circle 1", "circle 2"]
    assert records[1].files["target"].name == "00001_0_target.png" and len(records[0].landmarks) == 468


def test_a_triplet_without_a_part_is_named(folder: Path, tmp_path: Path) -> None:
    first = tmp_path / "00000_0_first.png"
    first.write_bytes((folder / first.name).read_bytes())
    with pytest.raises(UserError, match="00000_0_source.png: missing"):
        index_triplets([first])
    for name in ("source", "target"):
        (tmp_path / f"00000_0_{name}.png").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="00000_0_first.png: no labels beside it"):
        index_triplets([first])
    with pytest.raises(UserError, match="no triplet among 1 photos"):
        index_triplets([tmp_path / "portrait.png"])


def test_a_sample_is_the_triplet_and_the_laid_source(folder: Path) -> None:
    record = index_triplets(sorted(folder.glob("*.png")))[0]
    sample = swap_sample(record, 256, seeded(1))
    assert {name: tuple(value.shape) for name, value in sample.items()} == {
        **dict.fromkeys(("frame", "laid", "source", "target"), (3, 256, 256)),
        "changed": (1, 256, 256),
        "known": (),
    }
    # The tests' targets are the laid sources: laid again, but for the rounding to levels.
    assert float((sample["laid"] - sample["target"]).abs().max()) < 0.02
    outside = (sample["changed"] == 0.0).expand(3, -1, -1)
    assert float((sample["frame"][outside] - sample["target"][outside]).abs().mean()) < 0.001
    assert 0.05 < float(sample["changed"].mean()) < 0.7


def test_samples_depend_on_seed_and_index_alone(folder: Path) -> None:
    records = index_triplets(sorted(folder.glob("*.png")))
    samples = SwapSamples(records, 64, seed=3)
    again = SwapSamples(records, 64, seed=3)
    later, first = again[7], again[0]
    assert all(torch.equal(samples[7][name], later[name]) for name in later)
    assert not torch.equal(first["frame"], SwapSamples(records, 64, seed=4)[0]["frame"])
    held_out = HeldOutSwaps(records, 64)
    assert len(held_out) == 3 and torch.equal(held_out[1]["laid"], held_out[1]["laid"])


def test_some_samples_are_nearly_black_or_white_as_a_whole(folder: Path) -> None:
    """Source and photo differ there by a few levels only, and half floats must still tell them apart."""
    record = index_triplets(sorted(folder.glob("*.png")))[0]
    samples = [swap_sample(record, 32, seeded(number), varied=True) for number in range(80)]
    dark, light = (
        [s for s in samples if all(is_at_an_end(s[name]) for name in ("frame", "laid", "target"))]
        for is_at_an_end in (lambda picture: picture.max() < 0.51, lambda picture: picture.min() > 0.49)
    )
    assert 1 <= len(dark) <= 12 and 1 <= len(light) <= 12
    assert all(float(sample["source"].std()) > 0.02 for sample in dark + light)  # a portrait is no bad photo


def test_without_triplets_no_target_is_shown(folder: Path, tmp_path: Path) -> None:
    """Each person of the folder is also the source of another: half of the frames are to be made of their own portrait."""
    for path in folder.iterdir():
        text = path.read_bytes()
        if path.name == "00000_0_source.json":
            text = text.replace(b'"person":1,', b'"person":20,')  # whom 00001 shows
        (tmp_path / path.name).write_bytes(text)
    samples = SwapSamples(index_triplets(sorted(tmp_path.glob("*.png"))), 64, seed=1, triplets=False)
    drawn = [samples[index] for index in range(40)]
    known = [float(sample["known"]) for sample in drawn]
    assert 0 < sum(known) < 20  # half of a third
    assert all(torch.equal(sample["target"], sample["frame"]) for sample in drawn)
    assert all(float(sample["changed"].max()) > 0.9 for sample in drawn)


def test_specks_do_not_count_as_changes() -> None:
    first = np.full((64, 64, 3), 0.5, np.float32)
    target = first.copy()
    target[10, 10] = 0.9
    target[30:40, 30:40] += 0.1
    changed = where_changed(first, target)
    assert changed.shape == (64, 64, 1) and changed[10, 10, 0] == 0.0 and changed[35, 35, 0] == 1.0
    assert 0.0 < changed[28, 35, 0] < 1.0  # a soft rim
