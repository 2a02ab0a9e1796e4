"""The preset class ratio of the set, the preset sampling ratio of the batches, and what a sample holds."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from afterlens.samples import FACES, HELD_OUT_FACES
from afterlens.training.beard.synthesis import BeardSamples, beard_sample, gathered, varied
from afterlens.training.beard.task import TASK, BeardRecipe
from afterlens.training.data import seeded
from afterlens.training.faces.beards import AMOUNTS, CLASSES
from afterlens.training.faces.portraits import hair_of, index_portraits
from afterlens.training.loop import StepSampler
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Record, Sample


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return gathered(index_portraits([*FACES, *HELD_OUT_FACES]), (0.2, 0.2, 0.2, 0.2, 0.2))


def faces(count: int) -> list[Record]:
    return [Record(Path(f"{number:04d}.png"), f"person {number}") for number in range(count)]


@pytest.mark.parametrize(
    "ratio", [(0.3, 0.2, 0.1, 0.15, 0.25), (1.0, 1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.01, 0.0, 0.99)]
)
@pytest.mark.parametrize("count", [101, 1000])
def test_the_set_has_the_preset_class_ratio(count: int, ratio: tuple[float, ...]) -> None:
    set_ = gathered(faces(count), ratio)
    found = Counter(record.label for record in set_)
    assert len({record.photo for record in set_}) == count
    for label, share in enumerate(ratio):
        assert abs(found[label] - share / sum(ratio) * count) < 1.0, (label, found)


def test_who_gets_which_class_depends_on_names_alone() -> None:
    first, again = gathered(faces(50), (1, 1, 1, 1, 1)), gathered(faces(50)[::-1], (1, 1, 1, 1, 1))
    assert {r.photo: r.label for r in first} == {r.photo: r.label for r in again}
    assert len({record.label for record in sorted(first, key=lambda r: r.photo)[:10]}) > 2  # not in blocks


def test_a_class_that_would_stay_empty_is_named() -> None:
    with pytest.raises(UserError, match=r"3 faces are too few for a share of 0.1 of moustache"):
        gathered(faces(3), (0.3, 0.2, 0.1, 0.15, 0.25))


def test_every_batch_has_the_preset_sampling_ratio_also_after_a_resume(records: list[Record]) -> None:
    recipe = read_recipe(BeardRecipe, TASK.recipe_path, ["training.steps=12", "training.batch=20"])
    samples = BeardSamples(records, recipe.classes.batches, (1.0, 1.0, 1.0), 32, 20, 7)
    batches = list(StepSampler(recipe.training, 0, 0, 1))
    for batch in batches:
        found = Counter(samples.strata.label(index) for index in batch)
        wanted = [share * 20 for share in recipe.classes.batches]
        assert [found[label] for label in range(5)] == [round(count) for count in wanted], found
    resumed = list(StepSampler(recipe.training, 5, 0, 1))
    assert resumed == batches[5:]
    for key, value in samples[resumed[0][3]].items():
        assert torch.equal(value, samples[batches[5][3]][key]), key


def sample(records: list[Record], kind: str, direction: str, seed: int = 0) -> Sample:
    record = next(record for record in records if record.label == CLASSES.index(kind))
    return beard_sample(record, direction, 64, seeded(seed), hair_of(record.photo))


def test_removing_adding_and_keeping(records: list[Record]) -> None:
    removed = sample(records, "full", "remove")
    adds = [sample(records, "full", "add", seed) for seed in range(8)]
    assert removed["wanted"].tolist() == [0.0, 0.0, 0.0] and torch.equal(removed["laid"], removed["image"])
    assert all(tuple(one["wanted"].tolist()) == AMOUNTS["full"] for one in adds)
    for one in (removed, *adds):
        untouched = ((one["image"] - one["target"]).abs() < 1e-5).all(dim=0, keepdim=True)
        assert one["changed"][~untouched].min() > 0.0
        assert (one["changed"] >= one["beard"]).all() and (one["face"] >= one["changed"]).all()
    assert torch.equal(removed["changed"], removed["beard"])
    # Some wear another beard below, which is still to be seen where the new one is not.
    over_old = [not torch.equal(one["image"], removed["target"]) for one in adds]
    assert 0 < sum(over_old) < 6
    for one, old in zip(adds, over_old, strict=True):
        assert torch.equal(one["changed"], one["beard"]) != old
        laid, beard = (one["laid"] - one["image"]).abs().amax(0), one["beard"][0]
        assert float(laid[beard > 0.8].mean()) > 10 * float(laid[beard == 0.0].mean())
        # It is the beard of the target in another light: their strands lie at the same places.
        hair = beard > 0.5
        laid_on, right = (
            picture.mean(0)[hair] - picture.mean(0)[hair].mean() for picture in (one["laid"], one["target"])
        )
        assert float((laid_on * right).mean() / (laid_on.std() * right.std())) > 0.5
    kept = [sample(records, "full", "keep", seed) for seed in range(8)]
    assert all(torch.equal(one["image"], one["target"]) and one["changed"].max() == 0.0 for one in kept)
    assert {tuple(one["wanted"].tolist()) for one in kept} == {AMOUNTS["none"], AMOUNTS["full"]}
    bare = sample(records, "none", "add")
    assert torch.equal(bare["image"], bare["target"]) and bare["beard"].max() == 0.0


def test_variations_change_image_and_target_alike(records: list[Record]) -> None:
    one = sample(records, "goatee", "remove")
    seen = set()
    for seed in range(6):
        changed = varied(one, seeded(seed))
        untouched = (one["beard"] == 0.0).expand(3, -1, -1)
        mirrored = not torch.equal(changed["beard"], one["beard"])
        seen.add(mirrored)
        if mirrored:
            assert torch.equal(changed["beard"], one["beard"].flip(-1))
            untouched = untouched.flip(-1)
        # The last digit of a power depends on a pixel's place in the vector registers.
        torch.testing.assert_close(
            changed["image"][untouched], changed["target"][untouched], atol=1e-6, rtol=0
        )
        assert not torch.equal(changed["image"], one["image"])
        assert torch.equal(changed["wanted"], one["wanted"])
    assert seen == {True, False}


def test_pictures_without_labels_train_too(tmp_path: Path) -> None:
    shutil.copy(FACES[0], tmp_path / "photo.jpg")  # without its .json: the face is found
    (record,) = gathered(index_portraits([tmp_path / "photo.jpg"]), (0.0, 0.0, 0.0, 0.0, 1.0))
    assert beard_sample(record, "remove", 64, seeded(1), None)["beard"].max() > 0.5


def test_photos_of_real_beards_are_examples_and_never_drawn_on(tmp_path: Path) -> None:
    """Two people "wear" what their folder says: they are seen as real ones of that class, half of the time."""
    for kind, path in (("full", FACES[0]), ("moustache", FACES[1])):
        (tmp_path / kind).mkdir()
        shutil.copy(path, tmp_path / kind / path.name)
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in (*FACES[2:], *HELD_OUT_FACES):
        for suffix in (".jpg", ".json"):
            shutil.copy(path.with_suffix(suffix), bare / f"{path.stem}{suffix}")
    recipe = read_recipe(
        BeardRecipe,
        TASK.recipe_path,
        ["classes.set=[1.0, 1.0, 0.0, 0.0, 1.0]", "classes.batches=[1, 1, 0, 0, 1]"],
    )
    found = TASK.index(recipe, sorted(tmp_path.rglob("*.jpg")))
    real = [record for record in found if record.captured]
    assert {(r.photo.parent.name, r.label) for r in real} == {("full", 4), ("moustache", 2)}
    assert all(r.photo.parent.name == "bare" for r in found if not r.captured)
    samples = BeardSamples(found, (1, 1, 0, 0, 1), (1.0, 0.0, 0.0), 32, 12, 3)
    by_class: dict[int, list[bool]] = {}
    for index in range(48):
        sample = samples[index]
        label = int(sample["label"])
        own = torch.equal(sample["real"], sample["target"])
        by_class.setdefault(label, []).append(own)
        expected = sample["wanted"] if own else torch.tensor(AMOUNTS[CLASSES[label]])
        assert torch.equal(sample["real_wanted"], expected)
    assert all(by_class[0]) and all(by_class[1])  # nobody was photographed with these
    assert 3 <= sum(by_class[4]) <= len(by_class[4]) - 3
    assert len(TASK.validation_set(recipe, found)) == len(found) - 2  # type: ignore[arg-type]
