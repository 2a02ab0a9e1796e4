"""Pictures to calibrate on and to judge by: degraded photos, and no noise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from afterlens.conversion.convert import (
    CALIBRATION,
    MEASURED_PICTURES,
    Reference,
    _package_plan,
    _quantizer,
)
from afterlens.conversion.examples import (
    Example,
    flat_inputs,
    plain_examples,
    refuse_unreal,
    task_examples,
)
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.task import TASK
from tests.recipes import with_kinds


def graph(inputs: int = 1) -> Deployable:
    shape = (1, 3, 48, 64)
    ports = tuple(Port(f"frame{i}", shape, (0.0, 1.0)) for i in range(inputs))
    return Deployable(nn.Identity(), "none", "None", "1", ports, (Port("out", shape, (0.0, 1.0)),))


def test_photos_and_kinds_take_turns_and_the_seed_decides(photo_paths: list[Path]) -> None:
    recipe = with_kinds(TASK, "shadow", "clean")
    first, again, other = (
        task_examples(TASK, recipe, photo_paths, graph(), count=4, seed=seed) for seed in (1, 1, 2)
    )
    assert [e.name.split()[1] for e in first] == ["shadow", "clean", "shadow", "clean"]
    assert len({e.name.split()[0] for e in first}) > 1
    for one, same, different in zip(first, again, other, strict=True):
        assert one.ground_truth is not None and one.ground_truth.shape == (48, 64, 3)
        assert np.array_equal(one.inputs["frame0"], same.inputs["frame0"])
        if "shadow" in one.name:
            assert not np.array_equal(one.inputs["frame0"], different.inputs["frame0"])
            assert not np.array_equal(one.inputs["frame0"], one.ground_truth)
        levels = one.inputs["frame0"] * 255.0
        assert np.abs(levels - np.rint(levels)).max() < 1e-3


def test_two_inputs_get_two_pictures(photo_paths: list[Path]) -> None:
    for example in plain_examples(photo_paths, graph(inputs=2)):
        assert example.ground_truth is None
        assert not np.array_equal(example.inputs["frame0"], example.inputs["frame1"])


def test_noise_and_plain_colour_are_refused(photo_paths: list[Path]) -> None:
    refuse_unreal(plain_examples(photo_paths, graph()))
    noise = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0)).numpy()
    with pytest.raises(UserError, match="mixed: frame0 looks like noise .* calibrate on real photos"):
        refuse_unreal([*plain_examples(photo_paths, graph()), Example("mixed", {"frame0": noise}, None)])
    with pytest.raises(UserError, match="of one colour only"):
        refuse_unreal([Example("grey", {"frame0": np.full((48, 64, 3), 0.5, np.float32)}, None)])
    with pytest.raises(UserError, match="no pictures to calibrate on"):
        refuse_unreal([])


def test_both_formats_look_at_what_they_calibrate_on(tmp_path: Path) -> None:
    noise = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0)).numpy()
    asked: list[int] = []

    def examples(deployable: Deployable, count: int) -> list[Example]:
        asked.append(count)
        return [Example("noise", {"frame0": noise}, None)]

    golden = Reference({}, {})  # only needed without examples
    with pytest.raises(UserError, match="noise: frame0 looks like noise"):
        _quantizer(tmp_path / "none.tflite", graph(), examples, None)
    with pytest.raises(UserError, match="noise: frame0 looks like noise"):
        _package_plan(tmp_path / "none.mlpackage", graph(), examples, golden, 0.1)
    assert asked == [CALIBRATION[0], MEASURED_PICTURES]


def test_flat_inputs_are_black_grey_and_white_of_their_range() -> None:
    example = {name: np.full((2, 2, 3), 0.3, np.float32) for name in "ab"}
    ranges = {"a": (0.0, 1.0), "b": (-1.0, 1.0)}
    colours = [[0.0, -1.0], [pytest.approx(128 / 255), pytest.approx(1 / 255)], [1.0, 1.0]]
    alone = flat_inputs([example] * 2, ranges)
    assert [[float(inputs[name].min()) for name in "ab"] for inputs in alone] == colours
    assert all(np.ptp(inputs["a"]) == np.ptp(inputs["b"]) == 0.0 for inputs in alone)
    # What is wanted changes what a picture of one colour becomes.
    wanted = list(np.eye(4, dtype=np.float32)[:2])
    made = flat_inputs([{**example, "wanted": value} for value in wanted], ranges)
    assert [[float(inputs[name].min()) for name in "ab"] for inputs in made] == colours * 2
    assert [inputs["wanted"] is wanted[number // 3] for number, inputs in enumerate(made)] == [True] * 6
