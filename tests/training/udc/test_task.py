"""Samples, objective and deployable graph of the under-display task."""

from collections.abc import Sized
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from afterlens.training import features
from afterlens.training.contextual_bilateral import contextual_bilateral_loss, patches, sampled_grid
from afterlens.training.data import cached_photo, random_crop, seeded, split_records
from afterlens.training.losses import ssim_loss
from afterlens.training.media.errors import UserError
from afterlens.training.metrics import psnr
from afterlens.training.recipe import read_recipe
from afterlens.training.udc.synthesis import to_linear, to_srgb
from afterlens.training.udc.task import (
    TASK,
    UnderDisplayRecipe,
    add_lamps,
    build_network,
    deployable,
    objective,
    training_set,
    validation_set,
)
from tests.training.vgg import write_vgg_weights

CPU = torch.device("cpu")


def recipe(*overrides: str) -> UnderDisplayRecipe:
    small = ["training.crop=64", "network.widths=[16, 16, 16]", "network.depths=[1, 1, 1]"]
    return read_recipe(
        UnderDisplayRecipe, TASK.recipe_path, [*small, "network.decoder_depths=[1, 1]", *overrides]
    )


class Fixed(nn.Module):
    """Gives the same result, whatever it is shown."""

    def __init__(self, result: Tensor) -> None:
        super().__init__()
        self.result = result

    def forward(self, image: Tensor) -> Tensor:
        return self.result


@pytest.fixture
def batch(photo_paths: list[Path]) -> dict[str, Tensor]:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    return next(iter(DataLoader(samples, batch_sampler=[[0, 1]])))


def test_samples_are_photos_through_panels_that_testing_never_sees(photo_paths: list[Path]) -> None:
    settings = recipe()
    assert "held_out_panel" not in settings.synthesis.kinds and "held_out_panel" in TASK.kinds
    sample, again = (training_set(settings, TASK.index(settings, photo_paths))[5] for _ in range(2))
    assert sample["input"].shape == sample["target"].shape == (3, 64, 64)
    assert all(torch.equal(sample[name], again[name]) for name in sample)
    assert 8.0 < float(psnr(sample["input"][None], sample["target"][None])) < 45.0
    held_out = validation_set(settings, TASK.index(settings, photo_paths))
    assert isinstance(held_out, Sized) and len(held_out) == 4 * len(photo_paths)
    assert not torch.equal(held_out[5]["target"], sample["target"])


def test_a_fifth_of_the_photos_have_lamps_in_input_and_target(photo_paths: list[Path]) -> None:
    dark = torch.full((3, 32, 32), 0.2)
    lit = [add_lamps(dark, seeded(5, index)) for index in range(300)]
    assert 40 < sum(not torch.equal(photo, dark) for photo in lit) < 80


def test_tone_mapped_photos_are_not_clipped(photo_paths: list[Path]) -> None:
    """The curve clips nothing, so what is sixteen times as bright as white stays below white."""
    brightest = []
    for share in (0.0, 1.0):
        settings = recipe(f"panel.tone_mapped={share}")
        samples = training_set(settings, TASK.index(settings, photo_paths))
        inputs = torch.stack([samples[index]["input"] for index in range(0, 1600, 16)])
        brightest.append(float(inputs.max()))
    print(brightest)
    assert brightest[0] > 0.999
    assert 0.9 < brightest[1] < 0.99


def test_a_psf_of_the_own_panel_takes_the_place_of_random_ones(
    photo_paths: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "panel.npy"
    spread = np.zeros((3, 9, 9), np.float32)
    spread[:, 4, 0] = spread[:, 4, 8] = 0.5  # two images, eight pixels apart
    np.save(path, spread)
    samples = training_set(recipe(f"panel.psf={path}"), TASK.index(recipe(f"panel.psf={path}"), photo_paths))
    from_double, from_target = [], []
    for index in range(12):
        sample = samples[index]
        light = to_linear(sample["target"])
        double = to_srgb(0.5 * (light[..., 8:] + light[..., :-8]))
        middle = sample["input"][..., 4:-4]
        from_double.append(float((middle - double).abs().median()))
        from_target.append(float((middle - sample["target"][..., 4:-4]).abs().median()))
    assert sum(from_double) < 0.75 * sum(from_target)
    with pytest.raises(UserError, match="nowhere.npy: no such file"):
        training_set(
            recipe("panel.psf=nowhere.npy"), TASK.index(recipe("panel.psf=nowhere.npy"), photo_paths)
        )


@pytest.fixture
def ghosted(tmp_path: Path) -> Path:
    """Captured pairs of dots, each with a ghost 60 pixels to its right: larger than what a scaled crop would see."""
    rng = np.random.default_rng(0)
    for number in range(4):
        target = np.zeros((900, 1200, 3), np.uint8)
        target[rng.integers(0, 900, 4000), rng.integers(0, 1200, 4000)] = 255
        degraded = target.copy()
        degraded[:, 60:] = np.maximum(degraded[:, 60:], target[:, :-60] // 2)
        for side, pixels in (("input", degraded), ("target", target)):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / side / f"{number}.png")
    return tmp_path


def test_captured_pairs_keep_their_scale(ghosted: Path, photo_paths: list[Path]) -> None:
    settings = recipe("training.crop=128", "synthesis.pairs_ratio=1.0", f"synthesis.pairs={ghosted}")
    training, held_out = split_records(TASK.index(settings, photo_paths), 1, 1)
    for samples, count in ((training_set(settings, training), 12), (validation_set(settings, held_out), 4)):
        for number in range(count):
            sample = samples[number]
            light, ghost = sample["target"][0], sample["input"][0] - sample["target"][0]
            # Every ghost has its dot exactly 60 pixels away, on the left or, in mirrored crops, on the right.
            left = torch.equal(ghost[:, 60:] > 0.4, (light[:, :-60] > 0.9) & (light[:, 60:] < 0.1))
            right = torch.equal(ghost[:, :-60] > 0.4, (light[:, 60:] > 0.9) & (light[:, :-60] < 0.1))
            assert left or right, number
            assert int((ghost > 0.4).sum()) > 0


def test_pairs_smaller_than_a_crop_are_refused(ghosted: Path, photo_paths: list[Path]) -> None:
    small = recipe("training.crop=928", "synthesis.pairs_ratio=1.0", f"synthesis.pairs={ghosted}")
    with pytest.raises(UserError, match="1200x900 pixels, expected the same size and both sides of 928"):
        TASK.index(small, photo_paths)


def test_terms_are_the_weighted_formulas(batch: dict[str, Tensor]) -> None:
    image, target = batch["input"], batch["target"]
    torch.manual_seed(6)
    result = target + 0.05 * torch.randn_like(target)
    weights = [
        "pixel=1.5",
        "squared=3.0",
        "ssim=0.5",
        "contextual_bilateral=0.25",
        "contextual_bilateral_window=16",
    ]
    made = objective(recipe(*(f"loss.{weight}" for weight in weights)), CPU)
    torch.manual_seed(7)
    outputs, terms = made.losses(Fixed(result), batch, 0.0)
    torch.manual_seed(7)
    grid = sampled_grid(64, 64, 16, CPU)
    assert torch.equal(outputs["restored"], result)
    damage = (image - target).square().flatten(1).mean(dim=1) + 0.02
    expected = {
        "pixel": 1.5 * (result - target).abs().mean(),
        "squared": 3.0 * ((result - target).square().flatten(1).mean(dim=1) / damage).mean(),
        "ssim": 0.5 * ssim_loss(result, target),
        "contextual_bilateral": 0.25
        * contextual_bilateral_loss(patches(result, grid), patches(target, grid), grid.places),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-4), name


def test_feature_term_needs_its_network_and_is_contextual(
    batch: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(UserError, match=r"install afterlens\[features\], or give a VGG19 file"):
        objective(recipe("loss.feature=0.1"), CPU)
    path = tmp_path / "vgg19.safetensors"
    write_vgg_weights(path)
    made = objective(
        recipe("loss.feature=0.1", "loss.contextual_bilateral_window=8", f"loss.vgg_weights={path}"), CPU
    )
    values = []
    for result in (batch["target"], batch["input"]):
        torch.manual_seed(1)
        values.append(float(made.losses(Fixed(result), batch, 0.0)[1]["feature"]))
    assert 0.0 <= values[0] < 0.5 * values[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.crop=72", "a multiple of 16"),
        ("synthesis.kinds={fog = 1.0}", "kinds is 'fog', expected some of panel"),
        ("network.widths=[16, 24, 16]", "multiples of 16"),
        ("loss.ssim=-1", "zero or more"),
    ],
)
def test_bad_recipes_are_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(override)


def test_a_recipe_without_any_loss_is_refused() -> None:
    with pytest.raises(UserError, match="a weight for one of its terms"):
        recipe("loss.pixel=0", "loss.squared=0")


def test_a_few_steps_bring_the_result_nearer_to_the_target(photo_paths: list[Path]) -> None:
    """All terms but the features' together, on one batch: the objective points the right way."""
    settings = recipe(
        "loss.ssim=0.1", "loss.contextual_bilateral=0.02", "loss.contextual_bilateral_window=16"
    )
    torch.manual_seed(9)
    network, made = build_network(settings), objective(settings, CPU)
    samples = training_set(settings, TASK.index(settings, photo_paths))
    batch = {name: torch.stack([samples[i][name] for i in range(2)]) for name in ("input", "target")}
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        outputs, terms = made.losses(network, batch, 0.0)
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
    before, after = psnr(batch["input"], batch["target"]), psnr(outputs["restored"], batch["target"])
    print(f"{before:.2f} dB -> {after:.2f} dB")
    assert after > before + 1.0


def test_photos_of_any_size_keep_it_and_the_middle_does_not_depend_on_the_padding(
    photo_paths: list[Path],
) -> None:
    torch.manual_seed(0)
    network = build_network(recipe())
    with torch.no_grad():
        for weight in network.head.parameters():
            nn.init.normal_(weight, 0.0, 0.02)
    restorer = TASK.restorer(network)
    photo = random_crop(cached_photo(photo_paths[0]), 96, seeded(1))[None]
    with torch.no_grad():
        for height, width in ((1, 1), (17, 5), (96, 90)):
            (restored,) = restorer(photo[..., :height, :width])
            assert restored.shape == (1, 3, height, width)
            assert float(restored.min()) >= 0.0 and float(restored.max()) <= 1.0
        whole = network(photo).clamp(0.0, 1.0)
        assert torch.equal(restorer(photo)[0], whole)


def test_deployable_names_its_ports() -> None:
    made = deployable(build_network(recipe()), 40, 96)
    assert [port.name for port in (*made.inputs, *made.outputs)] == ["image", "restored"]
    assert {port.shape for port in (*made.inputs, *made.outputs)} == {(1, 3, 40, 96)}
    with torch.no_grad():
        (output,) = made.module(torch.rand(1, 3, 40, 96))
    assert output.shape == (1, 3, 40, 96)
    assert not made.module.training


def test_task_agrees_with_its_recipe_file() -> None:
    assert set(recipe().synthesis.kinds) <= set(TASK.kinds)
    assert read_recipe(TASK.recipe_type, TASK.recipe_path)
