"""The evaluation of identity swaps: what it says of the best and of the idlest network there could be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afterlens.benchmarks.ablations import claims, swap_claims
from afterlens.benchmarks.evaluation import swaps
from afterlens.benchmarks.evaluation.grid import Cell
from afterlens.benchmarks.evaluation.swaps import dlib_judge, evaluate_swaps
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe
from afterlens.training.swap.task import TASK
from tests.conftest import Result
from tests.training.swap.triplets import write_some


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_some(tmp_path_factory.mktemp("triplets"), 2)


class Always(nn.Module):
    """Returns one of its inputs, and says that nothing was changed, so that no mark is added."""

    def __init__(self, laid: bool) -> None:
        super().__init__()
        self.laid = laid

    def forward(self, frame: Tensor, laid: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        return (laid if self.laid else frame), torch.zeros_like(frame[:, :1])


def brightness(face: np.ndarray) -> np.ndarray:
    """A judge that knows people by the colour of their middle."""
    middle: np.ndarray = face[100:156, 100:156].mean(axis=(0, 1))
    return middle


def measured(monkeypatch: pytest.MonkeyPatch, triplets: Path, network: nn.Module) -> dict:
    monkeypatch.setattr(swaps, "load_network", lambda task, path: (network, {}))
    return evaluate_swaps(TASK, TASK.pretrained, triplets, judge=brightness)["all"]


def test_an_idle_network_shows_the_first_and_a_paste_the_source(
    triplets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = measured(monkeypatch, triplets, Always(laid=False))
    assert idle["to_source"]["mean"] == pytest.approx(idle["first_to_source"], rel=1e-3)
    assert idle["around"] == 60.0 and idle["pixels"]["mean"] == pytest.approx(idle["floor"], abs=0.05)
    assert idle["difference"]["mean"] > idle["laid"]
    # The targets of these triplets are pastes at exact landmarks; evaluation finds them anew.
    pasted = measured(monkeypatch, triplets, Always(laid=True))
    assert pasted["difference"]["mean"] == pytest.approx(pasted["laid"], rel=0.03)
    assert pasted["pixels"]["mean"] != pytest.approx(pasted["floor"], abs=0.05)
    assert pasted["to_source"]["mean"] == pytest.approx(pasted["target_to_source"], abs=0.02)


def test_the_sheet_shows_some_of_all_evenly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sheets: list[list[list[Cell]]] = []
    monkeypatch.setattr(swaps, "write_result", lambda path, result, rows: sheets.append(rows))
    monkeypatch.setattr(swaps, "load_network", lambda task, path: (Always(laid=True), {}))
    monkeypatch.setattr(swaps, "_ROWS", 2)
    folder = write_some(tmp_path / "triplets", 5)
    found = evaluate_swaps(TASK, TASK.pretrained, folder, judge=brightness, out=tmp_path)
    assert [row[3].caption for row in sheets[0]] == [
        f"result ({found['swaps'][number]['to_source']:.2f})" for number in (0, 2)
    ]


def test_the_command_writes_what_it_shows(
    cli: Callable[..., Result], triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("evaluate", "swap", triplets, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out" / "swaps.json").read_text())
    assert (tmp_path / "out" / "swaps.png").is_file()
    assert found["judge"] == "own" and found["all"]["count"] == 2 == len(found["swaps"])
    failed = cli("evaluate", "swap", triplets, "--fail-under", "59.9")
    assert failed.code == 1 and "the gate asks for 59.90 dB" in failed.stderr
    monkeypatch.setattr(swaps, "evaluate_swaps", lambda *_, **__: found)
    around = found["all"]["around"]  # exactly as much is enough
    for gate, code in ((around, 0), (around + 1e-6, 1)):
        assert cli("evaluate", "swap", triplets, "--fail-under", repr(gate)).code == code


def test_each_claim_is_left_out_once_with_equal_training_otherwise(
    triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def train(task: Any, data: Any, out: Path, *, overrides: list[str], **others: Any) -> Path:
        read_recipe(task.recipe_type, task.recipe_path, overrides)  # they are what the recipe knows
        calls.append(overrides)
        return TASK.pretrained

    monkeypatch.setattr(claims, "train", train)
    rows = swap_claims.ablate(triplets, triplets, tmp_path / "runs", 5)
    assert [row["without"] for row in rows] == list(swap_claims.WITHOUT)
    assert [{change.partition("=")[0] for change in call[2:]} for call in calls] == [
        set(),
        {"loss.triplets", "loss.target_identity"},
        {"loss.sees_all"},
        {"loss.feature"},
        {"loss.target_identity", "loss.source_identity"},
    ]
    assert all("training.steps=5" in call for call in calls)
    assert all(row["all"] == rows[0]["all"] for row in rows)  # the same weights, and so the same figures


def test_wrong_use_is_one_line(cli: Callable[..., Result], triplets: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("swap", triplets, "--fail-under-gain", "1"), "not for swap"),
        (("swap", tmp_path), "no photos"),
        (("beard", triplets, "--judge", "x.dat"), "--judge: is for swap"),
    ):
        refused = cli("evaluate", *arguments)
        assert refused.code == 2 and words in refused.stderr, refused.stderr
    with pytest.raises(UserError, match=r"afterlens\[judge\]|no file, expected dlib"):
        dlib_judge(tmp_path / "missing.dat")
