"""The gate: exact where it is sure, supervised by what the synthesis changed."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.samples import DEGRADED
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.gate import CELL, GateHead, changed, gate_loss, gate_recall, opened
from afterlens.training.reflection.task import TASK, ReflectionRecipe, build_network, set_strength
from tests.conftest import Result


def test_sure_logits_open_and_close_exactly() -> None:
    logits = torch.tensor([-50.0, -2.5, 0.0, 2.5, 50.0]).view(5, 1, 1, 1)
    gate = opened(logits)
    assert gate.shape == (5, 1, CELL, CELL)
    assert gate[:2].eq(0.0).all() and gate[3:].eq(1.0).all()
    torch.testing.assert_close(gate[2], torch.full((1, CELL, CELL), 0.5))


def test_threshold_moves_the_logit_at_which_half_passes() -> None:
    logits = torch.tensor([1.5]).view(1, 1, 1, 1)
    assert float(opened(logits, threshold=1.5).mean()) == 0.5
    assert float(opened(logits, threshold=4.0).max()) == 0.0


def test_a_cell_counts_as_changed_where_one_block_of_it_is() -> None:
    image = torch.zeros(1, 3, 32, 48)
    target = image.clone()
    target[:, :, 20:24, 36:40] = 0.02  # one 4x4 block of the cell in row 1, column 2
    target[:, :, 0, 0] = 0.02  # one pixel: a sixteenth of its block
    expected = torch.zeros(1, 1, 2, 3)
    expected[0, 0, 1, 2] = 1.0
    assert torch.equal(changed(image, target, 0.01), expected)


def test_loss_is_the_cross_entropy_and_recall_counts_cells() -> None:
    image, target = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    target[:, :, :16] = 0.5  # the upper two cells are changed
    logits = torch.tensor([[2.0, -1.0], [3.0, -4.0]]).view(1, 1, 2, 2)
    truth = [1, 1, 0, 0]
    share = [1 / (1 + math.exp(-z)) for z in logits.flatten().tolist()]
    by_hand = -sum(math.log(p if t else 1 - p) for p, t in zip(share, truth, strict=True)) / 4
    torch.testing.assert_close(gate_loss(logits, image, target, 0.01), torch.tensor(by_hand))
    recall, false_alarms = gate_recall(logits, image, target, 0.01)
    assert (float(recall), float(false_alarms)) == (0.5, 0.5)


def test_new_head_is_nearly_open_and_can_learn() -> None:
    torch.manual_seed(1)
    head = GateHead(32, 16)
    coarse, fine = torch.randn(2, 32, 4, 4), torch.randn(2, 16, 16, 16)
    logits = head(coarse, fine, fine)
    assert logits.shape == (2, 1, 4, 4) and float(opened(logits.detach()).min()) > 0.7
    F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits)).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())


def test_strength_is_a_probability_and_its_ends_are_exact() -> None:
    network = build_network(read_recipe(ReflectionRecipe, TASK.recipe_path))
    for strength, threshold in ((0.0, math.inf), (0.25, math.log(3.0)), (0.5, 0.0), (1.0, -math.inf)):
        set_strength(network, strength)
        assert network.threshold == pytest.approx(threshold)
    logits = torch.tensor([-30.0, 0.0, 30.0]).reshape(3, 1, 1, 1)
    assert float(opened(logits, math.inf).max()) == 0.0 and float(opened(logits, -math.inf).min()) == 1.0
    plain = build_network(
        read_recipe(ReflectionRecipe, TASK.recipe_path, ["network.gate=false", "loss.gate=0.0"])
    )
    with pytest.raises(UserError, match="no gate"):
        set_strength(plain, 0.5)


def test_strength_from_the_command_line(cli: Callable[..., Result], tmp_path: Path) -> None:
    """More of it changes more, none of it changes nothing at all."""
    photo = DEGRADED / "reflection.jpg"
    before = read_photo(photo).rgb
    change = []
    for strength in ("0", "0.02", "0.2", "0.5", "1"):
        out = tmp_path / f"{strength}.png"
        done = cli("restore", "reflection", photo, "-o", out, "--strength", strength)
        assert done.code == 0, done.stderr
        change.append(float(np.abs(read_photo(out).rgb - before).mean()))
    print([f"{value:.5f}" for value in change])
    assert change[0] == 0.0 and change == sorted(change) and change[-1] > 1.02 * change[1] > 0.0
    for options, words in (
        (("reflection", photo, "--strength", "1.5"), "got 1.5, expected a number from 0"),
        (("udc", photo, "--strength", "0.5"), "udc has no such dial"),
        (("reflection", photo, "--strength", "0.5", "--runtime", "tflite"), "leave out --runtime tflite"),
    ):
        refused = cli("restore", *options, "-o", tmp_path / "no.png")
        assert refused.code == 2 and words in refused.stderr
