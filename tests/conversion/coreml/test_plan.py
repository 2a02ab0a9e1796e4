"""Mixed packages: their plan keeps its budget, and bits go where the picture needs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from afterlens.conversion.bundle.contract import digest
from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.coreml import plan
from afterlens.conversion.coreml.check import compress_and_check
from afterlens.conversion.coreml.compress import (
    REPRESENTATIONS,
    compress,
    weights_of,
)
from afterlens.conversion.coreml.convert import convert_coreml
from afterlens.conversion.coreml.plan import MOST_LEVELS, cheapest, lost, plan_mixed
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package
from afterlens.training.deployable import Port
from afterlens.training.media.images import fit
from tests.conversion.coreml.packages import SIDE, Array, Small, deployable, saved


def test_a_mixed_package_follows_its_plan(small: Path, tmp_path: Path) -> None:
    plan = dict(zip(weights_of(read_package(small)), REPRESENTATIONS, strict=True))
    compress_and_check(small, "mixed", tmp_path / "mixed.mlpackage", plan)
    assert saved(tmp_path / "mixed.mlpackage") == {n: kind for n, kind in plan.items() if kind != "float16"}


@pytest.mark.parametrize(("judged", "share"), [(True, 0.05), (False, 0.5)])
def test_a_mixed_network_keeps_its_budget(
    udc: Path, photo: NDArray[np.float32], judged: bool, share: float, tmp_path: Path
) -> None:
    """A share of what palettes of 4 bits everywhere cost; both measured anew, on the saved packages."""
    ground_truth = fit(photo, SIDE, SIDE)
    hazy = (np.rint((0.7 * ground_truth + 0.2) * 255) / np.float32(255)).astype(np.float32)
    ground_truths = [ground_truth] if judged else None
    everywhere, mixed = tmp_path / "palettized4.mlpackage", tmp_path / "mixed.mlpackage"
    compress(udc, "palettized4", everywhere)
    budget = share * _loss(udc, everywhere, hazy, ground_truths)
    plan = plan_mixed(udc, [{"image": hazy}], ground_truths, budget)
    compress_and_check(udc, "mixed", mixed, plan)
    assert saved(mixed) == {name: kind for name, kind in plan.items() if kind != "float16"}
    loss = _loss(udc, mixed, hazy, ground_truths)
    sizes = [digest(path)[1] for path in (udc, mixed, everywhere)]
    print(
        f"{loss:.4f} of {budget:.4f} dB, {sizes} bytes, {[list(plan.values()).count(k) for k in REPRESENTATIONS]}"
    )
    assert 0.3 * budget < loss <= budget + 1e-6
    assert sizes[2] < sizes[1] < 0.51 * sizes[0]  # names of tensors count as well


def _loss(original: Path, compressed: Path, picture: Array, ground_truths: list[Array] | None) -> float:
    levels = {"image": np.rint(picture * 255).astype(np.uint8)}
    exact, got = (
        MilProgram.load(path).run(levels, round_storage=False, eight_bit=False)
        for path in (original, compressed)
    )
    return lost(
        [{name: value / 255 for name, value in got.items()}],
        [{name: value / 255 for name, value in exact.items()}],
        ground_truths,
    )


class _Unequal(Small):
    """Of two equal layers one does nothing."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.body(torch.relu(self.stem(image))))
        x = 20.0 * torch.relu(self.twin(x)) + 1e-3 * torch.sigmoid(self.other(x))
        return ((image + 0.3 * self.head(torch.relu(self.up(x)))).clamp(0.0, 1.0),)


def test_bits_go_to_the_layer_that_the_picture_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "unequal.mlpackage"
    convert_coreml(deployable(_Unequal()), path)
    picture = np.random.default_rng(5).random((32, 32, 3), np.float32)
    compress(path, "palettized4", tmp_path / "palettized4.mlpackage")
    budget = 0.02 * _loss(path, tmp_path / "palettized4.mlpackage", picture, None)
    plan = plan_mixed(path, [{"image": picture}], None, budget)
    kinds = {part: next(kind for name, kind in plan.items() if part in name) for part in ("twin", "other")}
    assert REPRESENTATIONS.index(kinds["other"]) < REPRESENTATIONS.index(kinds["twin"]), plan


class _Loud(Small):
    """A small error of a weight becomes a large one of the picture."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.twin(torch.relu(self.body(torch.relu(self.stem(image))))))
        return (torch.sigmoid(40.0 * self.head(torch.relu(self.up(x)))),)


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_pictures_of_one_colour_keep_their_levels_whatever_the_budget(
    colour: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture that is measured may lose all it likes; this one is none of them."""
    path = tmp_path / "loud.mlpackage"
    convert_coreml(deployable(_Loud()), path)
    flat = np.full((32, 32, 3), colour, np.uint8)

    def off(kinds: dict[str, str]) -> float:
        compress(path, "mixed", tmp_path / "mixed.mlpackage", kinds)
        got, exact = (
            MilProgram.load(one).run({"image": flat}, round_storage=False, eight_bit=False)
            for one in (tmp_path / "mixed.mlpackage", path)
        )
        return max(float(np.abs(got[name] - exact[name]).max()) for name in exact)

    weights = weights_of(read_package(path))
    smallest = off(dict.fromkeys(weights, "palettized4"))
    monkeypatch.setattr(plan, "MOST_LEVELS", smallest / 3)  # of a small network that is at home in 4 bits
    found = plan_mixed(path, [{"image": np.full((32, 32, 3), 0.4, np.float32)}], None, 90.0)
    print(f"{smallest:.2f} levels in 4 bits, {off(found):.2f} as planned: {sorted(found.values())}")
    assert off(found) <= smallest / 3
    assert set(found.values()) != {"float16"}


class _Told(Small):
    """Also says how bright the picture has become."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (restored,) = super().forward(image)
        return restored, restored.mean((2, 3))


def test_outputs_that_are_no_pictures_count_too(tmp_path: Path) -> None:
    path, module = tmp_path / "told.mlpackage", _Told()
    graph = deployable(module)
    convert_coreml(
        replace(graph, outputs=(*graph.outputs, Port("means", (1, 3), (0.0, 1.0), kind="vector"))), path
    )
    picture = np.random.default_rng(5).integers(0, 256, (32, 32, 3)).astype(np.float32) / 255
    with torch.no_grad():
        restored, means = module(torch.from_numpy(picture).permute(2, 0, 1)[None])
    program = MilProgram.load(path)
    got = plan._run(program, plan._levels(program, {"image": picture}))
    np.testing.assert_allclose(got["means"], means.numpy(), atol=2e-3)
    np.testing.assert_allclose(got["restored"], restored[0].permute(1, 2, 0).numpy(), atol=2e-3)
    off = {**got, "means": got["means"] + np.float32(0.1)}
    assert lost([off], [got], None) > 0.0 == lost([got], [got], None)
    assert plan_mixed(path, [{"image": picture}], None, 90.0).keys() == weights_of(read_package(path)).keys()


def test_the_plan_asks_more_than_the_gate() -> None:
    assert gate("coreml", "mixed").max_flat_levels > MOST_LEVELS


def test_the_cheapest_plan_within_the_budget_is_found() -> None:
    """One weight of a hundred kinds: the loss falls with the price, in steps."""
    asked: list[int] = []

    def plan_at(price: float) -> dict[str, str]:
        return {"weight": str(min(int(np.log10(price) * 5), 99))}

    def loss(plan: Any) -> float:
        asked.append(int(plan["weight"]))
        return 1 - int(plan["weight"]) / 100

    for budget, kind, at_most in ((0.365, 64, 12), (2.0, 0, 1), (0.001, 99, 12), (1.0, 0, 1), (0.01, 99, 12)):
        asked.clear()
        assert cheapest(plan_at, loss, budget) == {"weight": str(kind)}
        assert len(asked) <= at_most
        assert len(set(asked)) == len(asked)  # no plan is measured twice: that takes seconds


@pytest.mark.parametrize("edge", [0.001, 7.3, 19.99])
def test_the_price_is_found_to_a_fiftieth_of_a_power_of_ten(edge: float) -> None:
    """Every price has a plan of its own, and the one found is hardly more than is needed."""

    def plan_at(price: float) -> dict[str, str]:
        return {"weight": f"{np.log10(price):.6f}"}

    def loss(plan: Any) -> float:
        return 0.0 if float(plan["weight"]) >= edge else 1.0

    found = float(cheapest(plan_at, loss, 0.5)["weight"])
    assert edge <= found <= edge + 0.02


def test_errors_that_happen_to_cancel_do_not_count_as_none() -> None:
    ground_truth = np.full((4, 4, 3), 0.5, np.float32)
    exact = [{"restored": ground_truth + np.float32(0.1), "layer": ground_truth}]
    better = [{"restored": ground_truth + np.float32(0.05), "layer": ground_truth}]
    worse = [{"restored": ground_truth + np.float32(0.2), "layer": ground_truth}]
    assert lost(exact, exact, [ground_truth]) == pytest.approx(0, abs=1e-6)
    assert lost(better, exact, [ground_truth]) == pytest.approx(
        10 * np.log10((0.01 + 0.0025) / 0.01), rel=1e-4
    )
    assert lost(worse, exact, [ground_truth]) == pytest.approx(10 * np.log10(0.04 / 0.01), rel=1e-4)
    # Without a ground truth, and for outputs that have none: against 30 dB.
    assert lost(better, exact, None) == pytest.approx(10 * np.log10((0.001 + 0.0025) / 0.001), rel=1e-4)
    other = [{"restored": exact[0]["restored"], "layer": ground_truth + np.float32(0.01)}]
    assert lost(other, exact, [ground_truth]) == pytest.approx(
        10 * np.log10((0.001 + 0.0001) / 0.001), rel=1e-4
    )


@pytest.mark.parametrize(
    ("budget", "pictures", "ground_truths"), [(0.0, 1, None), (0.3, 0, None), (0.3, 1, 2)]
)
def test_senseless_arguments_are_a_programming_error(
    small: Path, budget: float, pictures: int, ground_truths: int | None
) -> None:
    picture = np.zeros((32, 32, 3), np.float32)
    with pytest.raises(ValueError, match="budget"):
        plan_mixed(
            small,
            [{"image": picture}] * pictures,
            None if ground_truths is None else [picture] * ground_truths,
            budget,
        )


# Bundles
