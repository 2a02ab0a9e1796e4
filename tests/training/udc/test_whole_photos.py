"""Crops of photos that were degraded as a whole."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from afterlens.training.data import cached_photo, seeded
from afterlens.training.recipe import TrainingRecipe, read_recipe
from afterlens.training.udc.synthesis import SRGB
from afterlens.training.udc.task import TASK
from afterlens.training.udc.whole_photos import KEPT, HeldOutPhotos, Seen, WholePhotos, crop_of, reduced


@pytest.fixture(scope="module")
def training() -> TrainingRecipe:
    settings: TrainingRecipe = read_recipe(TASK.recipe_type, TASK.recipe_path, ["training.crop=64"]).training
    return settings


class Counted:
    """Shows each photo as it is, and counts."""

    def __init__(self) -> None:
        self.photos: list[Tensor] = []

    def __call__(self, photo: Tensor, generator: Generator) -> Seen:
        self.photos.append(photo)
        return Seen(photo, photo, SRGB, kind=len(self.photos) - 1)


def test_a_sample_depends_on_its_index_alone(photo_paths: list[Path], training: TrainingRecipe) -> None:
    in_order, jumping = (WholePhotos(training, photo_paths, Counted()) for _ in range(2))
    samples = [in_order[index] for index in range(300)]
    for index in (299, 7, 150, 8):
        for name in ("input", "target"):
            assert torch.equal(jumping[index][name], samples[index][name])
        assert samples[index]["input"].shape == (3, 64, 64)


def test_each_place_keeps_its_photo_and_they_change_at_different_times(
    photo_paths: list[Path], training: TrainingRecipe
) -> None:
    see = Counted()
    samples = WholePhotos(training, photo_paths, see)
    changes = []
    for batch in range(3 * KEPT):
        before = len(see.photos)
        for place in range(training.batch):
            samples[batch * training.batch + place]
        changes.append(len(see.photos) - before)
    assert changes[0] == training.batch and sum(changes) == 4 * training.batch - 1
    assert max(changes[1:]) == 1, "a whole photo takes as long as a step: never two in one batch"


def test_input_and_target_are_the_same_place_and_many_places_are_seen(
    photo_paths: list[Path], training: TrainingRecipe
) -> None:
    """The light of a ramp says where a crop was cut and whether it is mirrored."""
    rows = torch.linspace(0.2, 0.6, 90)[:, None].expand(90, 120)
    columns = torch.linspace(0.2, 0.6, 120)[None, :].expand(90, 120)
    ramp = torch.stack([rows, columns, rows])
    seen = Seen(ramp, ramp**2.2, SRGB, kind=0)
    corners = set()
    for number in range(40):
        sample = crop_of(seen, 64, seeded(number))
        assert float((sample["input"] - sample["target"]).abs().mean()) < 0.08
        corners.add((round(float(sample["target"][0, 0, 0]), 4), round(float(sample["target"][1, 0, 0]), 4)))
    assert len(corners) > 30


def test_photos_are_reduced_but_never_below_a_crop(photo_path: Path) -> None:
    rgb = cached_photo(photo_path)
    sides = [min(reduced(rgb, 64, seeded(number)).shape[1:]) for number in range(60)]
    assert 160 <= min(sides) < 200 and max(sides) > 0.9 * min(rgb.shape[:2])
    assert min(reduced(rgb, 600, seeded(1)).shape[1:]) == 600
    assert reduced(rgb[:40], 64, seeded(1)).shape[1] == 64


def test_held_out_photos_are_seen_once_each_and_the_same_whatever_the_seed(
    photo_paths: list[Path], training: TrainingRecipe
) -> None:
    see = Counted()
    samples = HeldOutPhotos(training, photo_paths, see)
    first = [samples[index] for index in range(len(samples))]
    assert len(see.photos) == len(photo_paths) and len(first) == 4 * len(photo_paths)
    other = HeldOutPhotos(training.model_copy(update={"seed": 9}), photo_paths, Counted())
    assert torch.equal(other[5]["input"], first[5]["input"])
    assert not torch.equal(first[4]["target"], first[5]["target"])
