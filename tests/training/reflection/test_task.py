"""Samples and objective of the reflection task."""

import math
from collections.abc import Sized
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader

from afterlens.training import features
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.data import cached_photo, split_records
from afterlens.training.features import VGG19
from afterlens.training.losses import FeatureLoss, discriminator_loss
from afterlens.training.media.errors import UserError
from afterlens.training.metrics import psnr
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.gate import gate_loss
from afterlens.training.reflection.task import (
    TASK,
    ReflectionRecipe,
    deployable,
    objective,
    scheduled_floor,
    training_set,
    validation_set,
)
from afterlens.training.samples import CAPTURED_KIND
from afterlens.training.trained import load_network
from tests.training.vgg import write_vgg_weights

CPU = torch.device("cpu")


def recipe(*overrides: str) -> ReflectionRecipe:
    small = ["training.crop=64", "crops.sizes=[]", "network.widths=[16, 16, 16]", "network.depths=[1, 1, 1]"]
    return read_recipe(
        ReflectionRecipe, TASK.recipe_path, [*small, "network.decoder_widths=[16, 16]", *overrides]
    )


# --- samples ------------------------------------------------------------------------------------------------


def test_samples_are_pictures_that_depend_on_seed_and_index_alone(photo_paths: list[Path]) -> None:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    for index in (0, 1, 2**39):
        sample = samples[index]
        assert sample.keys() == {"input", "target", "kind"}
        for picture in (sample["input"], sample["target"]):
            assert picture.shape == (3, 64, 64) and picture.dtype == torch.float32
            assert float(picture.min()) >= -1e-6 and float(picture.max()) <= 1.0 + 1e-6
        again = training_set(recipe(), TASK.index(recipe(), photo_paths))[index]
        assert all(torch.equal(sample[name], again[name]) for name in sample)
        other = training_set(recipe("training.seed=2"), TASK.index(recipe("training.seed=2"), photo_paths))[
            index
        ]
        assert not torch.equal(sample["target"], other["target"])


def test_loader_processes_make_the_same_samples(photo_paths: list[Path]) -> None:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    loader = DataLoader(samples, batch_sampler=[[5, 6], [7, 8]], num_workers=1)
    for batch, indices in zip(loader, ([5, 6], [7, 8]), strict=True):
        for position, index in enumerate(indices):
            assert torch.equal(batch["input"][position], samples[index]["input"])


def test_kinds_come_in_the_recipes_shares(photo_paths: list[Path]) -> None:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    clean = sum(torch.equal(samples[i]["input"], samples[i]["target"]) for i in range(300)) / 300
    shares = recipe().synthesis.kinds
    expected = shares["clean"] / sum(shares.values())
    deviation = math.sqrt(expected * (1 - expected) / 300)
    print(f"clean: {clean:.3f}, expected {expected:.3f}")
    # A layer may miss a crop, and so be a clean sample too.
    assert expected - 3 * deviation < clean < expected + 4 * deviation
    named = [list(shares)[int(samples[i]["kind"])] for i in range(300)]
    assert set(named) == set(shares)
    for i, kind in enumerate(named):
        assert kind != "clean" or torch.equal(samples[i]["input"], samples[i]["target"]), i
    assert abs(named.count("clean") / 300 - expected) < 3 * deviation
    only = training_set(
        recipe("synthesis.kinds={shadow = 2.0}"),
        TASK.index(recipe("synthesis.kinds={shadow = 2.0}"), photo_paths),
    )
    assert all(float((only[i]["input"] - only[i]["target"]).max()) <= 1e-6 for i in range(20))


def test_validation_samples_are_fixed_whatever_the_seed(photo_paths: list[Path]) -> None:
    first, second = (
        validation_set(recipe(), TASK.index(recipe(), photo_paths[:2])),
        validation_set(recipe("training.seed=9"), TASK.index(recipe("training.seed=9"), photo_paths[:2])),
    )
    assert isinstance(first, Sized) and len(first) == 8
    for index in range(8):
        assert torch.equal(first[index]["input"], second[index]["input"])
    assert not torch.equal(
        first[0]["target"], training_set(recipe(), TASK.index(recipe(), photo_paths[:2]))[0]["target"]
    )


@pytest.fixture
def pairs(tmp_path: Path, photo_paths: list[Path]) -> Path:
    """Two "real" pairs: inputs a third darker than their targets."""
    for name in ("input", "target"):
        (tmp_path / name).mkdir()
    for path in photo_paths[:2]:
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels).save(tmp_path / "target" / f"{path.stem}.png")
        Image.fromarray((pixels * 0.67).astype(np.uint8)).save(tmp_path / "input" / f"{path.stem}.png")
    return tmp_path


def test_real_pairs_are_mixed_in_at_their_ratio_and_cropped_alike(
    pairs: Path, photo_paths: list[Path]
) -> None:
    both = ["synthesis.pairs_ratio=0.5", f"synthesis.pairs={pairs}", "synthesis.kinds={clean = 1.0}"]
    samples = training_set(recipe(*both), TASK.index(recipe(*both), photo_paths[2:]))
    real = 0
    for index in range(200):
        sample = samples[index]
        if torch.equal(sample["input"], sample["target"]):
            assert sample["kind"] == 0
            continue
        assert sample["kind"] == -1
        real += 1
        difference = (sample["input"] - 0.67 * sample["target"]).abs()
        assert float(difference.mean()) < 0.01 and float(difference.max()) < 0.06, index
    assert 70 < real < 130


def test_pairs_are_held_out_whole_and_validated_first(pairs: Path, photo_paths: list[Path]) -> None:
    settings = recipe(
        "synthesis.pairs_ratio=0.5", f"synthesis.pairs={pairs}", "synthesis.kinds={clean = 1.0}"
    )
    training, held_out = split_records(TASK.index(settings, photo_paths), 1, 1)
    kept = {record.group for record in training if record.captured}
    (pair,) = (record for record in held_out if record.captured)
    assert len(kept) == 1 and pair.group not in kept
    samples = validation_set(settings, held_out)
    assert isinstance(samples, ConcatDataset) and len(samples) == 4 * len(held_out)
    for number in range(len(samples)):
        sample = samples[number]
        assert (sample["kind"] == CAPTURED_KIND) == (number < 4), number
        assert torch.equal(sample["input"], sample["target"]) == (number >= 4)
        assert torch.equal(sample["input"], validation_set(settings, held_out)[number]["input"])
    assert [record.group for record in training_set(settings, training).pairs] == list(kept)
    # The photos are validated as without captured pairs.
    photos = [record.photo for record in held_out if not record.captured]
    alone = validation_set(settings, TASK.index(recipe(), photos))
    assert all(torch.equal(samples[4 + i]["input"], alone[i]["input"]) for i in range(4 * len(photos)))


def test_wrong_pairs_are_refused_before_the_run(pairs: Path) -> None:
    Image.new("RGB", (100, 90)).save(pairs / "input" / "odd.png")
    Image.new("RGB", (90, 100)).save(pairs / "target" / "odd.png")
    settings = recipe("synthesis.pairs_ratio=0.5", f"synthesis.pairs={pairs}")
    with pytest.raises(
        UserError, match="odd.png is 100x90 and .*odd.png 90x100 pixels, expected the same size"
    ):
        TASK.index(settings, [])
    (pairs / "target" / "odd.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="target/odd.png: not an image"):
        TASK.index(settings, [])
    (pairs / "target" / "odd.png").unlink()
    with pytest.raises(UserError, match="1 of 3 inputs .* have no counterpart"):
        TASK.index(settings, [])


# --- objective ----------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A network that returns what it was given."""

    def __init__(self, *results: Tensor) -> None:
        super().__init__()
        self.results = results

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.results


@pytest.fixture
def batch(photo_paths: list[Path]) -> dict[str, Tensor]:
    samples = training_set(
        recipe("synthesis.kinds={reflection = 1.0}"),
        TASK.index(recipe("synthesis.kinds={reflection = 1.0}"), photo_paths),
    )
    return next(iter(DataLoader(samples, batch_sampler=[[0, 1]])))


def test_terms_are_the_weighted_formulas(batch: dict[str, Tensor]) -> None:
    image, target = batch["input"], batch["target"]
    torch.manual_seed(6)
    background, layer = target + 0.05 * torch.randn_like(target), image - target + 0.03
    weights = [
        "pixel=1.5",
        "threshold=0.02",
        "squared=3.0",
        "floor=0.01",
        "layer=0.3",
        "reconstruction=0.7",
        "ssim=0.05",
        "gate=0.4",
        "gate_threshold=0.02",
    ]
    made = objective(recipe(*(f"loss.{weight}" for weight in weights)), CPU)
    logits = torch.randn(2, 1, 4, 4)
    outputs, terms = made.losses(Fixed(background, layer, logits), batch, 1.0)  # at the end of a run
    assert torch.equal(outputs["restored"], background) and torch.equal(outputs["layer"], layer)

    b, a, x, t = (tensor.double().numpy() for tensor in (background, layer, image, target))
    far, off = np.abs(b - t), np.abs(a - (x - t))
    damage = ((x - t) ** 2).mean(axis=(1, 2, 3), keepdims=True) + 0.01
    expected = {
        "pixel": 1.5 * np.where(far > 0.02, far, 0.0).mean(),
        "squared": 3.0 * (far**2 / damage).mean(),
        "layer": 0.3 * (off**2 / damage).mean(),
        "reconstruction": 0.7 * np.abs(x - (b + a)).mean(),
    }
    shown = made.monitor(outputs, batch)
    assert shown.keys() == {"psnr", "gate_recall", "gate_false_alarms"}
    torch.testing.assert_close(terms.pop("gate"), 0.4 * gate_loss(logits, image, target, 0.02))
    ssim = terms.pop("ssim")
    assert 0.0 < float(ssim) < 0.05
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_the_floor_falls_evenly_in_its_logarithm() -> None:
    """It starts at floor_start; recipes of weights from before there was one keep their floor."""
    weights = recipe("loss.floor=0.01", "loss.floor_start=0.16").loss
    floors = [scheduled_floor(weights, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert floors == pytest.approx([0.16, 0.08, 0.04, 0.01])
    old = weights.model_copy(update={"floor_start": None})
    assert scheduled_floor(old, 0.0) == scheduled_floor(old, 0.7) == pytest.approx(0.01)


def test_terms_of_weight_zero_are_not_built(batch: dict[str, Tensor]) -> None:
    zero = [
        f"loss.{name}=0" for name in ("squared", "reconstruction", "gate", "ssim", "feature", "adversarial")
    ]
    made = objective(recipe(*zero, "loss.vgg_weights=nowhere.safetensors"), CPU)  # not even looked for
    _, terms = made.losses(Fixed(batch["target"], batch["input"]), batch, 0.0)
    assert terms.keys() == {"pixel", "layer"}
    assert not made.discriminators and not made.helpers


def test_feature_term_needs_its_network(
    batch: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(UserError, match=r"install afterlens\[features\], or give a VGG19 file"):
        objective(recipe("loss.feature=0.1", 'loss.vgg_weights=""'), CPU)
    path = tmp_path / "vgg19.safetensors"
    with pytest.raises(UserError, match="vgg19.safetensors: no such file"):
        objective(recipe("loss.feature=0.1", f"loss.vgg_weights={path}"), CPU)
    write_vgg_weights(path)
    made = objective(recipe("loss.gate=0", "loss.feature=0.1", f"loss.vgg_weights={path}"), CPU)
    assert made.helpers == {"features": path}
    background = batch["input"].clone().requires_grad_()
    _, terms = made.losses(Fixed(background, batch["input"]), batch, 0.0)
    assert terms["feature"].item() == pytest.approx(
        0.1 * float(FeatureLoss(VGG19(path))(batch["input"], batch["target"]))
    )
    terms["feature"].backward()
    assert background.grad is not None and background.grad.abs().max() > 0.0


def test_adversarial_term_and_its_discriminator_pull_apart(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(8)
    made = objective(recipe("loss.gate=0", "loss.adversarial=0.5"), CPU)
    assert set(made.discriminators) == {"discriminator"}
    judge = made.discriminators["discriminator"]
    background = batch["input"].clone().requires_grad_()
    outputs, terms = made.losses(Fixed(background, batch["input"]), batch, 0.0)
    scores = judge.module(background)
    assert terms["adversarial"].item() == pytest.approx(-0.5 * scores.mean().item(), rel=1e-5)
    terms["adversarial"].backward()
    assert background.grad is not None and all(p.grad is None for p in judge.module.parameters())

    taught = judge.loss(judge.module, {name: o.detach() for name, o in outputs.items()}, batch)
    expected = discriminator_loss(judge.module, background, batch["target"])
    assert taught.item() == expected.item()


def test_a_few_steps_bring_the_result_nearer_to_the_target(photo_paths: list[Path]) -> None:
    """All terms but the features' together, on one batch: the objective points the right way."""
    settings = recipe("synthesis.kinds={shadow = 1.0}", "loss.ssim=0.05", "loss.adversarial=0.001")
    torch.manual_seed(9)
    network, made = TASK.build_network(settings), objective(settings, CPU)
    samples = training_set(settings, TASK.index(settings, photo_paths))
    batch = {name: torch.stack([samples[i][name] for i in range(2)]) for name in ("input", "target")}
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        outputs, terms = made.losses(network, batch, 0.0)
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
    before, after = psnr(batch["input"], batch["target"]), psnr(outputs["restored"], batch["target"])
    print(f"{before:.2f} dB -> {after:.2f} dB")
    assert after > before + 2.0


def test_deployable_names_its_ports() -> None:
    made = deployable(TASK.build_network(recipe()), 64, 96)
    assert [port.name for port in made.inputs] == ["image"]
    assert [port.name for port in made.outputs] == ["restored", "layer"]
    assert {port.shape for port in (*made.inputs, *made.outputs)} == {(1, 3, 64, 96)}
    with torch.no_grad():
        outputs = made.module(torch.rand(1, 3, 64, 96))
    assert [tuple(output.shape) for output in outputs] == [(1, 3, 64, 96)] * 2
    assert not made.module.training


def test_task_agrees_with_its_recipe_file() -> None:
    assert set(recipe().synthesis.kinds) <= set(TASK.kinds)
    assert read_recipe(TASK.recipe_type, TASK.recipe_path)
    assert cached_photo.cache_info().maxsize is not None, "memory is bounded"


def test_gate_loss_needs_a_gate() -> None:
    with pytest.raises(UserError, match=r"loss.gate is 0.3, expected 0 for a network without network.gate"):
        objective(recipe("network.gate=false"), CPU)


def test_weights_from_before_the_gate_still_make_their_network(tmp_path: Path) -> None:
    """Their own recipe does not name what came later, and so their network lacks it."""
    old = recipe("network.gate=false", "network.context=false", "loss.gate=0.0")
    table = old.network.model_dump(mode="json")
    del table["gate"], table["context"]
    path = tmp_path / "old.safetensors"
    metadata = {"task": "reflection", "recipe": {"network": table}}
    save_checkpoint(path, TASK.build_network(old).state_dict(), metadata)
    network, _ = load_network(TASK, path)
    with torch.no_grad():
        assert len(network(torch.rand(1, 3, 64, 64))) == 2
