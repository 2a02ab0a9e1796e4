"""Evaluation on real photos with restorers whose result is known, scored once more by scikit-image."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from afterlens.benchmarks.evaluation.quality import (
    REACH,
    Sample,
    evaluate,
    measure,
    require,
    shifted,
    synthetic_set,
)
from afterlens.benchmarks.evaluation.quality import TestSet as Samples
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.metrics import PSNR_CAP
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Task
from afterlens.training.tasks import TASKS
from afterlens.verbs.evaluate import scores

REFLECTION = TASKS["reflection"]


class Brighten(nn.Module):
    """Adds a constant: the result of every image is known."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        return photo + self.amount, photo


def task_that_adds(amount: float) -> Task:
    return dataclasses.replace(REFLECTION, restorer=lambda _: Brighten(amount))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start weights of the real network, as a checkpoint of `train` would hold them."""
    path = tmp_path_factory.mktemp("checkpoint") / "start.safetensors"
    recipe: Any = read_recipe(REFLECTION.recipe_type, REFLECTION.recipe_path)
    torch.manual_seed(0)
    network = REFLECTION.build_network(recipe)
    save_checkpoint(
        path, network.state_dict(), {"task": REFLECTION.name, "recipe": recipe.model_dump(mode="json")}
    )
    return path


@pytest.fixture
def pairs(tmp_path: Path, photo_paths: list[Path]) -> Path:
    """Crops of three photos, each darkened by its own amount: `NAME-input.png` and `NAME-label1.png`."""
    for path, amount in zip(photo_paths, (10, 20, 40), strict=True):
        ground_truth = np.asarray(Image.open(path))[100:180, 200:300].clip(40)
        Image.fromarray(ground_truth).save(tmp_path / f"{path.stem}-label1.png")
        Image.fromarray(ground_truth - np.uint8(amount)).save(tmp_path / f"{path.stem}-input.png")
    return tmp_path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float64) / 255


def test_scores_equal_scikit_image_on_the_files(checkpoint: Path, pairs: Path) -> None:
    result = evaluate(task_that_adds(10 / 255), checkpoint, pairs)
    assert [image["name"] for image in result["images"]] == ["bottles", "room", "visitor"]
    for image in result["images"]:
        ground_truth, given = (
            read(pairs / f"{image['name']}-label1.png"),
            read(pairs / f"{image['name']}-input.png"),
        )
        restored = given + 10 / 255
        assert (image["width"], image["height"]) == (100, 80)
        expected = peak_signal_noise_ratio(ground_truth, given, data_range=1.0)
        assert image["input_psnr"] == pytest.approx(expected, abs=1e-3)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = structural_similarity(ground_truth, restored, data_range=1.0, channel_axis=2, **options)
        assert image["ssim"] == pytest.approx(expected, abs=5e-4)
        assert image["psnr_gain"] == pytest.approx(image["psnr"] - image["input_psnr"])
    bottles, room, _ = result["images"]
    assert bottles["psnr"] == PSNR_CAP  # 10 levels were missing and 10 were added
    expected = peak_signal_noise_ratio(
        read(pairs / "room-label1.png"), read(pairs / "room-input.png") + 10 / 255, data_range=1.0
    )
    assert room["psnr"] == pytest.approx(expected, abs=1e-3)


def test_the_mean_and_worst_are_over_images(checkpoint: Path, pairs: Path) -> None:
    result = evaluate(task_that_adds(20 / 255), checkpoint, pairs)
    each = [image["psnr"] for image in result["images"]]
    assert result["mean"]["psnr"] == pytest.approx(sum(each) / 3)
    assert result["worst"]["psnr"] == min(each)
    assert result["median"]["psnr"] == sorted(each)[1]
    assert result["worst"]["psnr_gain"] < 0.1  # 10 missing, 20 added: no better than before
    assert "mean of 3" in [str(cell) for cell in scores(result).columns[0].cells]


def test_an_untouched_photo_gains_nothing(checkpoint: Path, pairs: Path) -> None:
    result = evaluate(task_that_adds(0.0), checkpoint, pairs)
    assert [image["psnr_gain"] for image in result["images"]] == [0.0, 0.0, 0.0]


def test_gates_pass_and_fail_on_the_means(checkpoint: Path, pairs: Path) -> None:
    result = evaluate(task_that_adds(0.0), checkpoint, pairs)
    level = result["mean"]["psnr"]
    require(
        result, fail_under=level, fail_under_gain=result["mean"]["psnr_gain"]
    )  # exactly as much is enough
    with pytest.raises(GateFailed, match="mean PSNR is"):
        require(result, fail_under=level + 0.1)
    with pytest.raises(GateFailed, match="gain is"):
        require(result, fail_under_gain=0.1)


def test_clean_photos_are_compared_with_themselves(checkpoint: Path, photo_path: Path) -> None:
    result = evaluate(task_that_adds(-0.01), checkpoint, photo_path, synthesize="clean")
    assert result["mean"]["input_psnr"] == PSNR_CAP
    assert result["mean"]["psnr_gain"] is None
    assert result["mean"]["psnr"] == pytest.approx(40.0, abs=0.5)  # 0.01 everywhere but where it clips at 0
    with pytest.raises(UserError, match="no gain to gate"):
        require(result, fail_under_gain=3.0)


@pytest.mark.parametrize("kind", ["reflection", "shadow", "stain", "occlusion"])
def test_synthesis_degrades_and_repeats_with_its_seed(
    checkpoint: Path, photo_path: Path, tmp_path: Path, kind: str
) -> None:
    Image.open(photo_path).resize((120, 90)).save(tmp_path / "small.png")
    task = task_that_adds(0.0)
    first = evaluate(task, checkpoint, tmp_path, synthesize=kind, seed=3)
    assert first["mean"]["input_psnr"] < 60
    assert evaluate(task, checkpoint, tmp_path, synthesize=kind, seed=3) == first
    other = evaluate(task, checkpoint, tmp_path, synthesize=kind, seed=4)
    assert other["mean"]["input_psnr"] != first["mean"]["input_psnr"]


@pytest.mark.parametrize(("name", "kind"), [("reflection", "shadow"), ("udc", "panel"), ("deblur", "shake")])
def test_what_is_restored_has_8_bits_as_a_file_has(
    photo_path: Path, tmp_path: Path, name: str, kind: str
) -> None:
    Image.open(photo_path).resize((120, 90)).save(tmp_path / "small.png")
    task = TASKS[name]
    sample = synthetic_set(task, tmp_path, kind, seed=2).load(0)
    assert len(sample.inputs) == len(task.inputs)
    for picture in sample.inputs:
        levels = picture * 255
        assert torch.equal(levels.round().clamp(0, 255) / 255, picture), (levels - levels.round()).abs().max()
    assert not torch.equal(sample.ground_truth, sample.input)


def test_adding_photos_does_not_change_the_degradation_of_the_earlier_ones(
    checkpoint: Path, photo_paths: list[Path], tmp_path: Path
) -> None:
    task = task_that_adds(0.0)
    for path in photo_paths[:2]:
        Image.open(path).resize((120, 90)).save(tmp_path / f"{path.stem}.png")
    before = evaluate(task, checkpoint, tmp_path, synthesize="shadow")
    Image.open(photo_paths[2]).resize((120, 90)).save(tmp_path / "visitor.png")
    after = evaluate(task, checkpoint, tmp_path, synthesize="shadow")
    assert after["images"][:2] == before["images"]


def test_the_real_network_runs_at_the_photos_own_size_and_writes_its_files(
    checkpoint: Path, photo_path: Path, tmp_path: Path
) -> None:
    crop = np.asarray(Image.open(photo_path))[:75, :131]
    Image.fromarray(crop).save(tmp_path / "odd.png")
    out = tmp_path / "out"
    result = evaluate(REFLECTION, checkpoint, tmp_path / "odd.png", synthesize="reflection", out=out)
    assert (result["images"][0]["width"], result["images"][0]["height"]) == (131, 75)
    assert json.loads((out / "quality.json").read_text()) == result
    assert sorted(path.name for path in out.iterdir()) == ["quality.json", "quality.png"]
    sheet = np.asarray(Image.open(out / "quality.png"))
    # best, median and worst are the one photo: its ground truth stands three times, scaled up by three
    ground_truth = np.repeat(np.repeat(crop, 3, axis=0), 3, axis=1)
    found = sum(
        np.array_equal(sheet[top : top + 225, left : left + 393], ground_truth)
        for top in (8, 8 + 259, 8 + 2 * 259)
        for left in (8 + 2 * 401,)
    )
    assert found == 3, f"the ground truth stands {found} times on a sheet of {sheet.shape}"


def test_the_sheet_shows_best_median_and_worst_in_this_order(
    checkpoint: Path, pairs: Path, tmp_path: Path
) -> None:
    result = evaluate(task_that_adds(40 / 255), checkpoint, pairs, out=tmp_path / "out")
    gains = {image["name"]: image["psnr_gain"] for image in result["images"]}
    ranked = sorted(gains, key=lambda name: -gains[name])
    assert ranked == ["visitor", "room", "bottles"]  # 40, 20 and 10 levels were missing
    sheet = np.asarray(Image.open(tmp_path / "out" / "quality.png"))
    for row, name in enumerate(ranked):  # pictures of 100x80, four times as large, under them a caption
        ground_truth = (
            np.asarray(Image.open(pairs / f"{name}-label1.png")).repeat(4, axis=0).repeat(4, axis=1)
        )
        top, left = 8 + row * (320 + 26 + 8), 8 + 2 * (400 + 8)
        assert np.array_equal(sheet[top : top + 320, left : left + 400], ground_truth), name


def test_pairs_of_different_size_are_refused(checkpoint: Path, pairs: Path) -> None:
    Image.new("RGB", (99, 80)).save(pairs / "room-label1.png")
    with pytest.raises(UserError, match="100x80 and 99x80"):
        evaluate(task_that_adds(0.0), checkpoint, pairs)


def test_an_unknown_kind_lists_the_known_ones(checkpoint: Path, photo_path: Path) -> None:
    with pytest.raises(UserError, match="cannot synthesize 'fog'.*shadow"):
        evaluate(REFLECTION, checkpoint, photo_path, synthesize="fog")


def test_a_checkpoint_of_another_task_or_recipe_is_refused(
    checkpoint: Path, photo_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, {"x": torch.zeros(1)}, {"task": "udc", "recipe": {}})
    with pytest.raises(UserError, match="task 'udc', expected 'reflection'"):
        evaluate(REFLECTION, other, photo_path, synthesize="clean")
    shutil.copy(photo_path, tmp_path / "photo.safetensors")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        evaluate(REFLECTION, tmp_path / "photo.safetensors", photo_path, synthesize="clean")


def test_photos_too_small_for_ssim_still_have_a_psnr(checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (90, 90, 90)).save(tmp_path / "dot.png")
    result = evaluate(task_that_adds(0.1), checkpoint, tmp_path, synthesize="clean")
    assert result["mean"]["psnr"] == pytest.approx(20.0, abs=1e-3)
    assert result["mean"]["ssim"] is None


def test_file_names_need_not_be_valid_text_nor_plain(checkpoint: Path, tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"[red]x[bold] [oops.png"):  # Latin-1; what rich would take for markup
        Image.new("RGB", (16, 16), (90, 90, 90)).save(tmp_path / os.fsdecode(name))
    out = tmp_path / "out"
    result = evaluate(task_that_adds(0.1), checkpoint, tmp_path, synthesize="clean", out=out)
    names = [image["name"] for image in result["images"]]
    assert names == ["[red]x[bold] [oops", "caf\udce9"]
    assert [str(cell) for cell in scores(result).columns[0].cells][:2] == names
    assert json.loads((out / "quality.json").read_text()) == result


def test_fitted_colours_leave_only_what_gain_and_offset_cannot_undo(
    checkpoint: Path, tmp_path: Path, photo: np.ndarray
) -> None:
    ground_truth = np.rint(photo[100:180, 200:300] * 255)
    rng = np.random.default_rng(0)
    # Another camera: darker, other colours, and some noise that no fit removes.
    given = np.rint(ground_truth * [0.5, 0.7, 0.6] + [20, 5, 12] + rng.normal(0.0, 2.0, ground_truth.shape))
    for name, pixels in (("a-input", given), ("a-label1", ground_truth)):
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    plain = evaluate(task_that_adds(0.0), checkpoint, tmp_path)
    found = evaluate(task_that_adds(-0.02), checkpoint, tmp_path, fit_colours=True)
    expected = np.empty_like(ground_truth)
    for channel in range(3):
        line = np.polyfit(given[..., channel].ravel(), ground_truth[..., channel].ravel(), 1)
        expected[..., channel] = np.polyval(line, given[..., channel])
    score = peak_signal_noise_ratio(ground_truth, expected.clip(0, 255), data_range=255)
    assert found["images"][0]["input_psnr"] == pytest.approx(score, abs=0.02)
    assert found["images"][0]["psnr"] == pytest.approx(score, abs=0.02)  # an offset is no loss any more
    assert plain["images"][0]["psnr"] < score - 5.0
    assert found["fit_colours"] and not plain["fit_colours"]
    assert "colours fitted" in str(scores(found).title)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-6, 5)])
def test_a_shift_is_found_and_undone(down: int, right: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ground_truth = torch.rand(1, 3, 60, 70, generator=generator)
    moved = ground_truth.roll((down, right), (2, 3))
    inner = ground_truth[:, :, REACH:-REACH, REACH:-REACH]
    assert torch.equal(shifted(moved, ground_truth), inner)
    # Half a pixel is the mean of two neighbours, as bilinear interpolation has it.
    between = 0.5 * (ground_truth + ground_truth.roll(1, 3))
    assert float((shifted(between.roll(-2, 2), ground_truth) - inner).square().mean()) < 0.05


class Between(nn.Module):
    """Takes two frames, gives the mean of them."""

    def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor]:
        return ((current + previous) / 2,)


def test_a_second_input_is_handed_over_and_sharp_parts_are_judged_by_themselves() -> None:
    current, previous, ground_truth = torch.full((3, 1, 3, 32, 32), 0.5).unbind()
    previous = previous.clone()
    previous[..., :16] += 0.02
    sharp = torch.zeros(1, 1, 32, 32)
    sharp[..., :16] = 1.0
    (image,) = measure(
        Between(), Samples(1, lambda _: Sample("a", (current, previous), ground_truth, sharp)), "test"
    )
    assert image["sharp_psnr"] == pytest.approx(40.0, abs=1e-3), "half of 0.02 where it is sharp"
    assert image["psnr"] == pytest.approx(43.01, abs=0.01), "and nothing elsewhere"
    (image,) = measure(
        Between(), Samples(1, lambda _: Sample("a", (current, previous), ground_truth)), "test"
    )
    assert image["sharp_psnr"] is None


def test_too_small_for_a_shift(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("input", "label1"):
        Image.new("RGB", (24, 24)).save(tmp_path / f"a-{name}.png")
    with pytest.raises(UserError, match="24x24 pixels, too small to fit a shift"):
        evaluate(REFLECTION, checkpoint, tmp_path, fit_shift=True)
