"""The beard task as a whole: its budget, its recipe, a short run, and faces changed by the weights of it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.conversion.convert import parameters_and_macs
from afterlens.conversion.examples import refuse_unreal, task_examples
from afterlens.conversion.restore.credentials import credentials_of
from afterlens.conversion.restore.marks import marks_in
from afterlens.samples import DEGRADED, FACES, FRAMES, HELD_OUT_FACES
from afterlens.training.beard.task import TASK, BeardRecipe, build_network, deployable, objective, with_wanted
from afterlens.training.beard.validation import validate
from afterlens.training.blocks import fold_weight_norm
from afterlens.training.faces.align import alignment, moved
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.regions import carrier
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Sample
from afterlens.training.trained import load_network
from tests.conftest import Result
from tests.training.resume import continues_exactly

SMALL = (
    "training.steps=4", "training.batch=5", "training.crop=64", "training.validation_photos=2", "training.warmup=1",
    "training.validate_every=2", "training.checkpoint_every=2", "network.widths=[16, 16, 16]",
    "network.depths=[1, 1, 1]", "network.decoder_depths=[1, 1]", "classes.set=[0.2, 0.2, 0.2, 0.2, 0.2]",
    "classes.batches=[0.2, 0.2, 0.2, 0.2, 0.2]", "loss.adversarial_start=0.0",
)  # fmt: skip


def recipe(*changes: str) -> BeardRecipe:
    return read_recipe(BeardRecipe, TASK.recipe_path, changes)


def options(*changes: str) -> list[str]:
    return [word for change in (*SMALL, *changes) for word in ("-s", change)]


@pytest.fixture(scope="module")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for path in (*FACES, *HELD_OUT_FACES):
        for suffix in (".jpg", ".json"):
            (folder / path.name).with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    return folder


def test_the_network_keeps_its_budget() -> None:
    network = fold_weight_norm(build_network(recipe())).eval()
    parameters, macs = parameters_and_macs(deployable(network, 256, 256))
    print(f"{parameters} parameters, {macs / 1e9:.3f} GMACs")
    assert parameters <= 0.8e6 and macs <= 1.0e9


def test_what_is_wanted_reaches_every_pixel_and_an_untrained_network_changes_nothing() -> None:
    torch.manual_seed(0)
    network = build_network(recipe()).eval()
    image, laid = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        result, mask = network(image, torch.tensor([[1.0, 0.0, 1.0]]), image)
        assert torch.equal(result, image) and float(mask.mean()) == pytest.approx(0.12, abs=0.01)
        for weight in network.head[0].parameters():
            nn.init.normal_(weight, 0.0, 0.1)
        none, full = (network(image, torch.full((1, 3), amount), image)[0] for amount in (0.0, 1.0))
        result, mask = network(image, torch.ones(1, 3), laid)
        untaught = network(image, torch.ones(1, 3), image)[0]
        nn.init.normal_(network.hair.weight, 0.0, 0.1)
        taught = network(image, torch.ones(1, 3), laid)[0]
    assert ((none - full).abs() > 1e-6).float().mean() > 0.99
    # What was laid is shown under the mask, and the blocks see it, too.
    torch.testing.assert_close(result, untaught + mask * (laid - image))
    assert ((taught - result).abs() > 1e-6).float().mean() > 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("classes.set=[0.0, 0.0, 0.0, 0.0, 0.0]", "a share above zero"),
        ("classes.set=[0.5, 0.5, 0.0, 0.0, 0.0]", "no share of a class that set leaves out"),
        ("classes.batches=[1.0]", "a list of 5"),
        ("training.crop=100", "a multiple of 16"),
        ("network.widths=[16, 20, 16]", "multiples of 16"),
        ("directions={remove = 0.0, add = 0.0, keep = 0.0}", "a share above zero"),
    ],
)
def test_recipes_that_cannot_be_are_refused(change: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        recipe(change)


def batch(**changes: Tensor) -> Sample:
    face = torch.zeros(2, 1, 32, 32)
    face[..., 4:28, 4:28] = 1.0
    beard = torch.zeros(2, 1, 32, 32)
    beard[..., 20:24, 10:22] = 1.0
    image = torch.full((2, 3, 32, 32), 0.5)
    return {
        "image": image,
        "laid": image,
        "target": image + 0.2 * beard,
        "wanted": torch.zeros(2, 3),
        "face": face,
        "beard": beard,
        "changed": beard,
        **changes,
    }


class Fixed(nn.Module):
    """Returns a result and a mask whatever it sees."""

    def __init__(self, result: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.result, self.mask = nn.Parameter(result), nn.Parameter(mask)

    def forward(self, image: Tensor, wanted: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        return self.result, self.mask


def terms(network: nn.Module, sample: Sample, *changes: str) -> dict[str, float]:
    found = objective(recipe(*changes), torch.device("cpu")).losses(network, sample, 1.0)[1]
    return {name: float(value.detach()) for name, value in found.items()}


def test_the_terms_of_the_loss_see_what_they_are_named_after() -> None:
    sample = batch()
    right = terms(Fixed(sample["target"].clone(), sample["beard"] * 0.98 + 0.01), sample)
    assert right["pixel"] < 1e-3 and right["outside"] == 0.0 and right["gradient"] == 0.0
    idle = terms(Fixed(sample["image"].clone(), sample["beard"] * 0 + 0.01), sample)
    ratio = 48 / 576
    damage = (1 - ratio) * 0.2  # beta x the error on the beard
    assert idle["pixel"] == pytest.approx(0.2 / (damage + 0.03) * damage, rel=0.02)
    plain = terms(Fixed(sample["image"].clone(), sample["beard"]), sample, "loss.area_adjusted=false")
    assert plain["pixel"] == pytest.approx(0.2 / (ratio * 0.2 + 0.03) * ratio * 0.2, rel=0.1)
    assert idle["mask"] > 5 * right["mask"] and idle["gradient"] > 0.0
    spoilt = sample["target"] + 0.3 * (1 - sample["face"])
    outside = terms(Fixed(spoilt, sample["beard"]), sample)
    assert outside["outside"] > 0.1 and outside["pixel"] < 1e-3


def test_a_dark_beard_on_dark_skin_counts_as_much_as_a_dark_one_on_light_skin() -> None:
    """Left as they are, both have the same share of their own damage left, and so nearly the same loss."""
    beard = batch()["beard"]
    idle = [
        terms(Fixed(batch()["image"], beard), batch(target=batch()["image"] + damage * beard))["pixel"]
        for damage in (0.1, 0.4)
    ]
    assert 1.0 < idle[1] / idle[0] < 2.0
    # What was laid counts, not the image: a beard that lies there in the right light leaves nothing to do.
    ready = terms(Fixed(batch()["target"], beard), batch(laid=batch()["target"]))
    assert ready["pixel"] < 1e-3


def test_outside_of_the_face_the_picture_passes_through() -> None:
    sample = batch()
    made = objective(recipe(), torch.device("cpu")).losses(
        Fixed(torch.rand(2, 3, 32, 32), sample["beard"]), sample, 0.0
    )
    outside = (sample["face"] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(made[0]["result"][outside], sample["image"][outside])
    assert "adversarial" not in made[1]  # it starts later


def test_the_discriminator_tells_the_classes_apart() -> None:
    """The same picture is real for the beard that it shows and a fake for another: only `wanted` can say which."""
    torch.manual_seed(0)
    pictures = torch.stack([torch.full((3, 32, 32), 0.2), torch.full((3, 32, 32), 0.8)])
    wanted = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = objective(recipe(), torch.device("cpu")).discriminators["discriminator"]
    optimizer = torch.optim.Adam(found.module.parameters(), 2e-3)
    for _ in range(60):
        seen = {"wanted": wanted, "real": pictures, "real_wanted": wanted}
        loss = found.loss(found.module, {"result": pictures.flip(0)}, seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    real, swapped = (
        found.module(with_wanted(shown, wanted)).mean() for shown in (pictures, pictures.flip(0))
    )
    assert float(real.detach()) > float(swapped.detach()) + 1.0
    assert objective(recipe("loss.adversarial=0.0"), torch.device("cpu")).discriminators == {}


def test_validation_counts_what_removing_gains_and_what_bare_faces_lose() -> None:
    full = batch()["image"]
    sample = batch(label=torch.tensor([2, 4]), full=full)
    bare = batch(
        label=torch.tensor([0, 0]), full=full, beard=torch.zeros(2, 1, 32, 32), target=batch()["image"]
    )
    perfect = lambda image, wanted, laid: (sample["target"], sample["beard"])  # noqa: E731
    found = validate(None, perfect, [sample])  # type: ignore[arg-type]
    before = -10 * np.log10(0.2**2)
    assert found.metrics["gain_moustache"] == pytest.approx(45 - before, abs=0.01)
    assert found.score == pytest.approx(45 - before, abs=0.01) and found.metrics["gain_goatee"] is None
    assert found.metrics["mask_overlap"] == 1.0 and found.metrics["bare_psnr"] is None
    spoils = lambda image, wanted, laid: (image + 0.1, sample["beard"])  # noqa: E731
    assert validate(None, spoils, [bare]).score == pytest.approx(20 - 45, abs=0.1)  # type: ignore[arg-type]


def test_a_run_trains_resumes_exactly_and_changes_the_faces_of_photos(
    cli: Callable[..., Result], faces_folder: Path, tmp_path: Path, photo_path: Path
) -> None:
    run, half = tmp_path / "run", tmp_path / "half"
    whole = cli("train", "beard", faces_folder, "-o", run, *options())
    assert whole.code == 0, whole.stderr
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"] and rows[0]["validation_score"]
    assert {"pixel", "adversarial", "mask", "around_psnr", "outside"} <= rows[0].keys()
    continues_exactly(cli, "beard", faces_folder, run, half, options())

    weights = ("-c", run / "last.safetensors")
    changed = cli("restore", "beard", FRAMES[0], "--wanted", "full", "-o", tmp_path / "out.png", *weights)
    assert changed.code == 0, changed.stderr
    before, after = (
        np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (FRAMES[0], tmp_path / "out.png")
    )
    (face,) = find_faces(before.astype(np.uint8))
    into = alignment(face.landmarks)
    rows_, columns = np.nonzero(np.abs(after - before).max(axis=2))
    there = moved(np.stack([columns, rows_], axis=1).astype(np.float32), into)
    where = carrier(moved(face.landmarks, into), 256)
    inside = where[there[:, 1].astype(int).clip(0, 255), there[:, 0].astype(int).clip(0, 255)]
    assert len(inside) > 100 and inside.min() > 0.0

    for arguments, words in (
        ((photo_path, "--wanted", "none"), "room.jpg: no face found"),
        ((FRAMES[0], "--wanted", "sideburns"), "--wanted: got 'sideburns', expected none, stubble"),
        ((FRAMES[0],), "--wanted: got nothing"),
        ((FRAMES[0], "--wanted", "1,2,0"), "three numbers from 0 to 1"),
    ):
        refused = cli("restore", "beard", *arguments, "-o", tmp_path / "no.png", *weights)
        assert refused.code == 2 and words in refused.stderr, refused.stderr
    assert not (tmp_path / "no.png").exists()


def test_a_task_without_bundled_weights_says_so(tmp_path: Path) -> None:
    task = replace(TASK, pretrained=tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="beard has no bundled weights yet: train some"):
        load_network(task, task.pretrained)


def test_a_wanted_beard_is_for_beard_alone(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("restore", "reflection", FRAMES[0], "--wanted", "full", "-o", tmp_path / "out.png")
    assert result.code == 2 and "--wanted full, which is for beard" in result.stderr


def test_trained_and_bundled_weights_are_half_floats() -> None:
    """What float16 files hold exactly; without it the mask of the Core ML file is 2 levels off."""
    torch.manual_seed(0)
    network = build_network(recipe())
    before = [weight.detach().clone() for weight in network.parameters()]
    assert TASK.finish is not None
    TASK.finish(network)
    after = list(network.parameters())
    assert max(float((a.detach() - b).abs().max()) for a, b in zip(after, before, strict=True)) < 2e-3
    for one in (fold_weight_norm(network), load_network(TASK, TASK.pretrained)[0]):
        for name, weight in one.named_parameters():
            rest = (weight - weight.half().float()).abs().max() / weight.abs().max().clamp_min(1e-9)
            assert float(rest.detach()) < 1e-6, name


def test_the_bundled_weights_remove_and_add(cli: Callable[..., Result], tmp_path: Path) -> None:
    """On the bundled portrait with a full beard, and on a bare one: what changes lies in the face, and is signed."""
    bearded = DEGRADED / "beard.jpg"
    change = {}
    for name, photo, wanted in (
        ("removed", bearded, "none"),
        ("bare", HELD_OUT_FACES[1], "none"),
        ("grown", HELD_OUT_FACES[1], "full"),
    ):
        out = tmp_path / f"{name}.png"
        done = cli("restore", "beard", photo, "--wanted", wanted, "-o", out)
        assert done.code == 0, done.stderr
        change[name] = float(np.abs(read_photo(out).rgb - read_photo(photo).rgb).mean())
        note = credentials_of(out)
        assert note is not None and note.intact and note.agents == ("afterlens beard",)
    print({name: f"{value:.4f}" for name, value in change.items()})
    assert min(change["removed"], change["grown"]) > 3 * change["bare"]
    marked = {name: marks_in(tmp_path / f"{name}.png")["faces"][0]["marked"] for name in change}
    assert marked["removed"] and marked["grown"] and not marked["bare"]


def test_examples_are_real_faces_with_beards_to_remove_and_to_put_on() -> None:
    network: Any = build_network(recipe())
    found = task_examples(TASK, recipe(), FACES, deployable(network, 64, 64), count=6, seed=1)
    refuse_unreal(found)
    adding = [bool(example.inputs["wanted"].any()) for example in found]
    assert adding == [False, False, True, False, False, True]
    assert all(example.ground_truth is not None for example in found)
    for example, adds in zip(found, adding, strict=True):
        assert (np.abs(example.inputs["laid"] - example.inputs["image"]).max() > 0.1) == adds
    pairs = [(example.inputs["image"], example.ground_truth) for example in found]
    changed = [clean is not None and np.abs(image - clean).max() > 0.1 for image, clean in pairs]
    assert changed == [True, True, True, True, False, True]
    with pytest.raises(UserError, match="64x32: faces are aligned in squares"):
        task_examples(TASK, recipe(), FACES, deployable(network, 32, 64), count=1, seed=1)
