"""Samples, objective, restorer and deployable graph of the deblurring task."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from afterlens.training.deblur.network import MOTION
from afterlens.training.deblur.task import (
    TASK,
    DeblurRecipe,
    build_network,
    deployable,
    motion_errors,
    objective,
    restorer,
    training_set,
    validate,
    validation_set,
)
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe

CPU = torch.device("cpu")
SMALL = [
    *("training.crop=64", "network.motion_widths=[16, 16, 16]", "network.widths=[16, 16, 16]"),
    *("network.depths=[1, 1, 1]", "network.decoder_depths=[1, 1]"),
]


def recipe(*overrides: str) -> DeblurRecipe:
    return read_recipe(DeblurRecipe, TASK.recipe_path, [*SMALL, *overrides])


class Fixed(nn.Module):
    """Gives the same frame and motion, whatever it is shown."""

    def __init__(self, restored: Tensor, motion: Tensor) -> None:
        super().__init__()
        self.restored, self.motion = restored, motion

    def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.restored, [self.motion]


@pytest.fixture
def batch(photo_paths: list[Path]) -> dict[str, Tensor]:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    return next(iter(DataLoader(samples, batch_sampler=[list(range(8))])))


def terms(batch: dict[str, Tensor], restored: Tensor, motion: Tensor, *overrides: str) -> dict[str, float]:
    losses = objective(recipe(*overrides), CPU).losses(Fixed(restored, motion), batch, 0.0)[1]
    return {name: float(value) for name, value in losses.items()}


def test_every_eight_samples_in_a_row_have_all_kinds(photo_paths: list[Path]) -> None:
    samples = training_set(recipe(), TASK.index(recipe(), photo_paths))
    kinds = []
    for index in range(40):  # only the kind, without making the picture
        kinds.append(samples.kind(index))
    assert all(set(kinds[i : i + 8]) == set(range(4)) for i in range(32))
    shares = np.bincount([samples.kind(index) for index in range(1000)]) / 1000
    assert shares == pytest.approx([0.40, 0.22, 0.22, 0.16], abs=0.01)


def test_samples_depend_on_seed_and_index_alone(photo_paths: list[Path]) -> None:
    first, second = (training_set(recipe(), TASK.index(recipe(), photo_paths))[5] for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = training_set(recipe("training.seed=9"), TASK.index(recipe("training.seed=9"), photo_paths))[5]
    assert not torch.equal(first["input"], other["input"])
    held = validation_set(recipe(), TASK.index(recipe(), photo_paths[:1]))
    assert len(held) == 4 and held[0]["input"].shape == (3, 64, 64)


def test_the_right_answer_costs_nothing_and_each_term_sees_its_own_mistake(batch: dict[str, Tensor]) -> None:
    wanted = torch.where(batch["sharp"] > 0.5, batch["input"], batch["target"])
    best = terms(batch, wanted, batch["motion"])
    assert set(best) == {"pixel", "squared", "identity", "flow", "blur_covariance"}
    assert max(best.values()) < 1e-6
    shifted = batch["motion"].clone()
    shifted[:, :2] += 8.0
    wrong = terms(batch, wanted, shifted, "loss.flow=1.0")
    length = batch["motion"][:, :2].square().sum(dim=1)
    expected = float((64.0 / (length + 9.0)).mean())
    assert wrong["flow"] == pytest.approx(expected, rel=1e-4) and wrong["blur_covariance"] < 1e-6
    # A denoised sharp region is a changed one.
    denoised = terms(batch, batch["target"], batch["motion"])
    assert denoised["identity"] > 10 * best["identity"] + 1e-4
    assert denoised["flow"] < 1e-6
    untouched = terms(batch, batch["input"], batch["motion"])
    assert untouched["identity"] == 0.0 and untouched["squared"] > 0.1


def test_motion_errors_compare_every_scale_with_the_mean_of_its_cells() -> None:
    truth = torch.arange(64.0).view(1, 1, 8, 8).repeat(1, MOTION, 1, 1)
    halved = torch.nn.functional.avg_pool2d(truth, 2)
    flow, blur = motion_errors([truth, halved], truth)
    assert float(flow) == 0.0 and float(blur) == 0.0


def test_a_pixel_of_error_weighs_more_where_little_moves() -> None:
    slow, fast = torch.full((1, MOTION, 8, 8), 0.5), torch.full((1, MOTION, 8, 8), 20.0)
    (slow_flow, slow_blur), (fast_flow, fast_blur) = (motion_errors([t + 1.0], t) for t in (slow, fast))
    assert float(slow_flow) == pytest.approx(1.0 / (0.5 + 9.0)) and float(fast_flow) == pytest.approx(
        1.0 / 809.0
    )
    assert float(slow_blur) == pytest.approx(1.0 / (0.25 + 0.49)) and float(fast_blur) < 0.01 * float(
        slow_blur
    )


def test_the_first_stage_learns_motion_alone_and_hands_it_on(batch: dict[str, Tensor]) -> None:
    alone = ["network.form=motion", "loss.pixel=0", "loss.squared=0", "loss.identity=0"]
    network = build_network(recipe(*alone))
    outputs, losses = objective(recipe(*alone), CPU).losses(network, batch, 0.0)
    assert torch.equal(outputs["restored"], batch["input"]) and set(losses) == {"flow", "blur_covariance"}
    own, whole = network.state_dict(), build_network(recipe()).state_dict()
    assert set(own) < set(whole) and all(own[key].shape == whole[key].shape for key in own)


def test_frames_of_any_size_are_restored_at_their_size() -> None:
    torch.manual_seed(0)
    network = build_network(recipe()).eval()
    with torch.no_grad():
        nn.init.normal_(next(network.head.parameters()), 0.0, 0.05)
        frame, before = torch.rand(1, 3, 37, 51), torch.rand(1, 3, 37, 51)
        (restored,) = restorer(network)(frame, before)
        assert restored.shape == frame.shape and float(restored.min()) >= 0.0 and float(restored.max()) <= 1.0
        assert not torch.equal(restored, restorer(network)(frame, frame)[0]), (
            "the frame before does not count"
        )


def test_the_graph_names_both_frames_and_shows_no_motion() -> None:
    graph = deployable(build_network(recipe()), 64, 96)
    assert [port.name for port in graph.inputs] == ["current", "previous"]
    assert [port.name for port in graph.outputs] == ["restored"]
    frame = torch.rand(1, 3, 64, 96)
    assert graph.module(frame, frame)[0].shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    "override",
    [
        "network.form=magic",
        "synthesis.kinds.spin=1",
        "training.crop=72",
        "network.widths=[20, 16, 16]",
        "loss.flow=-1",
    ],
)
def test_impossible_recipes_are_refused(override: str) -> None:
    with pytest.raises(UserError, match="expected"):
        recipe(override)


def test_validation_says_how_far_the_motion_is_off_and_scores_the_motion_network_by_it(
    photo_paths: list[Path],
) -> None:
    small = recipe()
    held_out = DataLoader(validation_set(small, TASK.index(small, photo_paths[:2])), batch_size=3)
    batches = list(held_out)  # of 3, 3 and 2 samples

    class Seeing(nn.Module):
        """Leaves the frame, and sees the true motion, but for a share of it."""

        def __init__(self, seen: float) -> None:
            super().__init__()
            self.seen, self.batches = seen, iter(batches)

        def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor, list[Tensor]]:
            return current, [self.seen * next(self.batches)["motion"]]

    true = validate(small, Seeing(1.0), batches)
    assert true.metrics["flow_error"] == true.metrics["blur_error"] == 0.0
    blind = validate(small, Seeing(0.0), batches)
    each = [motion_errors([torch.zeros_like(one["motion"])], one["motion"]) for one in batches]
    for column, place in (("flow_error", 0), ("blur_error", 1)):
        mean = sum(float(errors[place]) * count for errors, count in zip(each, (3, 3, 2), strict=True)) / 8
        assert blind.metrics[column] == pytest.approx(mean, rel=1e-5) and mean > 0.01
    assert blind.score == blind.metrics["validation_gain"] == 0.0
    alone = recipe("network.form=motion", "loss.pixel=0", "loss.squared=0", "loss.identity=0")
    scores = [validate(alone, Seeing(seen), batches).score for seen in (0.0, 0.5, 1.0)]
    assert scores == sorted(scores) and scores[0] < scores[1] < scores[2] == 0.0
    assert next(iter(validate(alone, Seeing(0.0), batches).metrics.items()))[1] == scores[0]
