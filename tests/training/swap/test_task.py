"""The swap as a whole: its losses, a short run, enrolling, and faces changed by the weights of it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afterlens.conversion.examples import refuse_unreal, task_examples
from afterlens.conversion.restore.credentials import credentials_of
from afterlens.samples import FACES, HELD_OUT_FACES
from afterlens.training.checkpoint import load_checkpoint
from afterlens.training.faces.align import alignment, moved
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.regions import carrier
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.swap import task as swap
from afterlens.training.swap.consent import consent_form
from afterlens.training.swap.enroll import enroll_photo
from afterlens.training.swap.enrolled import Identity, enroll, enrolled, read_identity
from afterlens.training.swap.identity import load_encoder
from afterlens.training.swap.network import SwapNetwork
from afterlens.training.swap.task import TASK, SwapRecipe, deployable, objective, validate
from afterlens.training.task import Sample
from afterlens.training.trained import load_network
from tests.conftest import Result
from tests.training.resume import continues_exactly
from tests.training.swap.test_consent import signed
from tests.training.swap.test_network import some_network, vectors
from tests.training.swap.triplets import portrait, write_some
from tests.training.vgg import write_vgg_weights

SMALL = (
    "training.steps=4", "training.batch=2", "training.crop=64", "training.validation_photos=1", "training.warmup=1",
    "training.validate_every=2", "training.checkpoint_every=2", "network.widths=[16, 16, 16]", "training.workers=0",
    "network.depths=[1, 1, 1]", "network.decoder_depths=[1, 1]", "loss.adversarial_start=0.0",
)  # fmt: skip


def recipe(*changes: str) -> SwapRecipe:
    return read_recipe(SwapRecipe, TASK.recipe_path, changes)


def batch(count: int = 2) -> Sample:
    generator = torch.Generator().manual_seed(0)
    pictures = {
        name: torch.rand(count, 3, 64, 64, generator=generator)
        for name in ("frame", "laid", "source", "target")
    }
    changed = torch.zeros(count, 1, 64, 64)
    changed[..., 16:48, 16:48] = 1.0
    pictures["target"] = torch.where(changed > 0, pictures["target"], pictures["frame"])
    return pictures | {"changed": changed, "known": torch.ones(count)}


class Fixed(nn.Module):
    """Returns a result and a mask whatever it sees."""

    def __init__(self, result: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.result, self.mask = nn.Parameter(result), nn.Parameter(mask)

    def forward(self, frame: Tensor, laid: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        return self.result, self.mask


def terms(network: nn.Module, sample: Sample, *changes: str) -> dict[str, float]:
    found = objective(recipe(*changes), torch.device("cpu")).losses(network, sample, 1.0)[1]
    return {name: float(value.detach()) for name, value in found.items()}


def test_the_terms_of_the_loss_see_what_they_are_named_after() -> None:
    sample = batch()
    right = terms(Fixed(sample["target"].clone(), sample["changed"] * 0.98 + 0.01), sample)
    assert right["pixel"] < 1e-3 and right["gradient"] == 0.0 and right["outside"] < 1e-6
    assert right["target_identity"] == pytest.approx(0.0, abs=1e-6)
    idle = terms(Fixed(sample["frame"].clone(), sample["changed"] * 0.0 + 0.01), sample)
    assert idle["pixel"] > 0.1 and idle["outside"] == 0.0 and idle["mask"] > 5 * right["mask"]
    shown = terms(Fixed(sample["source"].clone(), sample["changed"]), sample)
    assert shown["source_identity"] < 1e-6 and idle["source_identity"] > 0.001
    assert shown["outside"] > 0.1
    # An error inside counts five times as much as the same one around.
    inside, around = (
        terms(Fixed(sample["target"] + 0.1 * where, sample["changed"]), sample)["pixel"] / float(where.mean())
        for where in (sample["changed"], 1.0 - sample["changed"])
    )
    assert inside == pytest.approx(5.0 * around, rel=0.01)


def test_without_an_answer_no_pixel_is_compared() -> None:
    sample = batch() | {"known": torch.zeros(2)}
    made = terms(Fixed(torch.rand(2, 3, 64, 64), sample["changed"]), sample)
    assert made["pixel"] == made["gradient"] == 0.0 and made["outside"] > 0.0


def test_the_feature_term_compares_result_and_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of VGG19 with random weights; those of EfficientNet-Lite0 are an optional package."""
    path = tmp_path / "vgg19.safetensors"
    write_vgg_weights(path)
    monkeypatch.setattr(swap, "features_file", lambda _: path)
    made, sample = objective(recipe("loss.feature=1.0"), torch.device("cpu")), batch()
    assert made.helpers["features"] == path

    def feature(result: Tensor, known: float) -> float:
        torch.manual_seed(1)
        told = sample | {"known": torch.full((2,), known)}
        return made.losses(Fixed(result, sample["changed"]), told, 0.0)[1]["feature"].item()

    assert 0.0 <= feature(sample["target"], 1.0) < 0.5 * feature(sample["frame"], 1.0)
    # Without an answer there is nothing to compare with.
    assert feature(sample["target"], 0.0) == feature(sample["frame"], 0.0)


def test_the_discriminator_sees_source_first_and_output() -> None:
    """The same output is real beside one source and forged beside another: only who sees the source can say which."""
    torch.manual_seed(0)
    sample = batch()
    sample["source"] = torch.stack([torch.full((3, 64, 64), 0.2), torch.full((3, 64, 64), 0.8)])
    sample["target"] = sample["source"].clone()
    sample["frame"] = torch.full((2, 3, 64, 64), 0.5)
    wrong = {"result": sample["source"].flip(0)}
    losses = []
    for sees_all in ("true", "false"):
        found = objective(recipe(f"loss.sees_all={sees_all}"), torch.device("cpu")).discriminators[
            "discriminator"
        ]
        optimizer = torch.optim.Adam(found.module.parameters(), 2e-3)
        for _ in range(60):
            loss = found.loss(found.module, wrong, sample)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] < 0.3 and losses[1] > 1.5
    assert objective(recipe("loss.adversarial=0.0"), torch.device("cpu")).discriminators == {}


def test_validation_compares_with_the_laid_source_and_asks_the_encoder() -> None:
    sample = batch()

    class Perfect(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, frame: Tensor, laid: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
            return sample["target"], sample["changed"]

    found = validate(None, Perfect(), [sample]).metrics
    assert found["psnr"] == 45.0 and found["around_psnr"] == 45.0 and float(found["gain"] or 0) > 30.0
    assert found["similarity"] == pytest.approx(found["target_similarity"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights: whom they show does not exist."""
    return TASK.pretrained


def consent(folder: Path) -> Path:
    path = folder / "consent.txt"
    path.write_text(signed(consent_form()))
    return path


def test_a_run_trains_resumes_exactly_and_shows_nobody(cli: Callable[..., Result], tmp_path: Path) -> None:
    triplets = write_some(tmp_path / "triplets", 3)
    options = [word for change in SMALL for word in ("-s", change)]
    run, half = tmp_path / "run", tmp_path / "half"
    whole = cli("train", "swap", triplets, "-o", run, *options)
    assert whole.code == 0, whole.stderr
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"] and rows[0]["gain"]
    assert {"pixel", "adversarial", "target_identity", "source_identity", "around_psnr"} <= rows[0].keys()
    continues_exactly(cli, "swap", triplets, run, half, options)

    nobody = cli(
        "restore", "swap", HELD_OUT_FACES[0], "-o", tmp_path / "no.png", "-c", run / "last.safetensors"
    )
    assert nobody.code == 2 and "show nobody yet; enroll somebody" in nobody.stderr
    assert not (tmp_path / "no.png").exists()

    # Enrolled into the same weights, the second portrait appears on the first.
    mine = tmp_path / "mine.safetensors"
    done = cli(
        "enroll",
        HELD_OUT_FACES[3],
        "--consent",
        consent(tmp_path),
        "-o",
        mine,
        "-c",
        run / "last.safetensors",
    )
    assert done.code == 0, done.stderr
    about = load_checkpoint(mine)[1]["identity"]
    assert (
        about["origin"] == "consent" and about["date"] == "2026-11-01" and len(about["consent_sha256"]) == 64
    )
    changed = cli("restore", "swap", HELD_OUT_FACES[0], "-o", tmp_path / "yes.png", "-c", mine)
    assert changed.code == 0, changed.stderr


def test_nobody_is_enrolled_without_consent(
    cli: Callable[..., Result], tmp_path: Path, photo_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    form = cli("enroll", "--form", tmp_path / "form.txt")
    assert form.code == 0 and (tmp_path / "form.txt").read_text() == consent_form()
    photo, given = HELD_OUT_FACES[0], consent(tmp_path)
    for arguments, words in (
        ((photo, "-o", out), "nobody is enrolled without consent"),
        ((photo, "-o", out, "--consent", tmp_path / "form.txt"), "nothing is written after Name"),
        ((photo_path, "-o", out, "--consent", given), "0 faces found, expected one"),
        ((photo, "-o", tmp_path / "out.png", "--consent", given), "ends in .safetensors"),
        ((photo, "--consent", given), "expected a PHOTO and -o WEIGHTS"),
        ((photo, "--form", tmp_path / "other.txt"), "does nothing else"),
    ):
        refused = cli("enroll", *arguments)
        assert refused.code == 2 and words in refused.stderr, refused.stderr
    assert not out.exists()
    with pytest.raises(UserError, match="whose consent is missing"):
        enroll_photo(TASK, photo_path, out, consent=None)


def test_an_identity_survives_the_file(tmp_path: Path) -> None:
    picture, landmarks, _ = portrait(0)
    network = some_network()
    with pytest.raises(UserError, match="show nobody yet"):
        enrolled(network)
    identity = Identity(np.rint(picture * 255) / np.float32(255), landmarks, vectors(1)[0])
    enroll(network, identity)
    found = enrolled(network)
    assert np.abs(found.picture - identity.picture).max() < 1e-6 and (found.landmarks == landmarks).all()
    assert torch.equal(found.vector, identity.vector)
    with pytest.raises(UserError, match="no weights of the identity swap"):
        read_identity(TASK.pretrained.with_name("beard.safetensors"))


def test_the_bundled_identity_appears_in_the_frames_pose_and_light(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    photo, out = HELD_OUT_FACES[0], tmp_path / "out.png"
    done = cli("restore", "swap", photo, "-o", out)
    assert done.code == 0, done.stderr
    before, after = read_photo(photo).rgb, read_photo(out).rgb
    (face,) = find_faces(np.rint(before * 255).astype(np.uint8))
    into = alignment(face.landmarks)
    rows, columns = np.nonzero(np.abs(after - before).max(axis=2) > 1.5 / 255)
    there = moved(np.stack([columns, rows], axis=1).astype(np.float32), into)
    where = carrier(moved(face.landmarks, into), 256)
    inside = where[there[:, 1].astype(int).clip(0, 255), there[:, 0].astype(int).clip(0, 255)]
    assert len(inside) > 1000 and inside.min() > 0.0
    note = credentials_of(out)
    assert note is not None and note.intact and note.agents == ("afterlens swap",)
    encoder, wanted = load_encoder(), read_identity(TASK.pretrained).vector
    similar = [
        float((encoder(torch.from_numpy(picture).permute(2, 0, 1)[None])[0] * wanted).sum())
        for picture in (before, after)
    ]
    print(f"similarity before {similar[0]:.2f}, after {similar[1]:.2f}")
    assert similar[1] > similar[0] + 0.2
    (again,) = find_faces(np.rint(after * 255).astype(np.uint8))
    assert np.abs(again.landmarks - face.landmarks).mean() < 8.0  # another face in the same pose


@pytest.mark.parametrize("level", [0.0, 0.25, 1.0])
def test_the_identity_encoder_sees_numbers_around_zero(level: float) -> None:
    seen: list[Tensor] = []
    encoder = load_encoder()
    encoder.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 64, 64), level))
    assert torch.allclose(seen[0], torch.full_like(seen[0], 2.0 * level - 1.0))


def test_examples_are_real_faces_with_the_answer_where_it_is_known() -> None:
    network, _ = load_network(TASK, TASK.pretrained)
    graph = deployable(network, 64, 64)
    found = task_examples(TASK, recipe(), FACES, graph, count=3, seed=1)
    refuse_unreal(found)
    assert all(example.ground_truth is not None for example in found)
    assert all(np.abs(example.inputs["frame"] - example.inputs["laid"]).max() > 0.1 for example in found)
    other = [photo for photo in FACES if "_first" not in photo.name and "_target" not in photo.name]
    assert all(
        example.ground_truth is None
        for example in task_examples(TASK, recipe(), other, graph, count=2, seed=1)
    )
    with pytest.raises(UserError, match="64x32: faces are aligned in squares"):
        task_examples(TASK, recipe(), FACES, deployable(network, 32, 64), count=1, seed=1)


def test_the_bundled_network_is_the_recipes() -> None:
    network, metadata = load_network(TASK, TASK.pretrained)
    assert isinstance(network, SwapNetwork) and metadata["identity"]["origin"] == "rendered"
