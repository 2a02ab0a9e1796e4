"""Blur with known motion: its kernel, its energy, and its ground truth."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from afterlens.training.data import seeded
from afterlens.training.deblur import synthesis
from afterlens.training.deblur.motion import Trajectory, exposure_times, moved, random_trajectory, still
from afterlens.training.deblur.synthesis import (
    CELL,
    KINDS,
    Layer,
    Light,
    Scene,
    average,
    composite,
    degrade,
    ground_truth,
    random_shape,
)
from afterlens.training.media.light import to_linear

SIZE = (96, 128)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Smooth texture: a crop's worth of colours, neighbouring pixels alike."""
    rng = np.random.default_rng(seed)
    small = rng.random((size[0] // 4, size[1] // 4, 3), np.float32)
    return (
        torch.from_numpy(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC))
        .clamp(0, 1)
        .permute(2, 0, 1)
    )


def spot(x: int, y: int) -> Light:
    """A round spot of light, 1.5 pixels of standard deviation, summing to 1."""
    light = np.zeros((*SIZE, 3), np.float32)
    light[y, x] = 1.0
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 1.5), np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_the_averaged_kernel_is_the_trajectory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trajectory = random_trajectory(rng, SIZE, 10.0, 0.5)
    for x, y in ((40, 30), (70, 60)):
        blurred = average(Scene(Layer(spot(x, y), trajectory, 0), None, 0.5), 0.0)[:, :, 0]
        # The same trajectory, drawn with a thousand points, each shared among its four neighbours.
        line = np.zeros(SIZE, np.float32)
        for time in exposure_times(0.0, 0.5, 1000):
            ((px, py),) = moved(trajectory.at(time), np.array([[x, y]], float))
            left, top = math.floor(px), math.floor(py)
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                line[top + dy, left + dx] += (1 - abs(px - left - dx)) * (1 - abs(py - top - dy)) / 1000
        expected = cv2.GaussianBlur(line, (0, 0), 1.5)
        # Zoom and tilt make the spot a little larger or smaller.
        assert blurred.sum() == pytest.approx(1.0, abs=0.08)
        assert np.abs(blurred / blurred.sum() - expected).sum() < 0.1


def test_energy_is_conserved_in_linear_light() -> None:
    light = to_linear(picture(0)).permute(1, 2, 0).numpy()
    shift = Trajectory(SIZE, np.array([16.0, 6.0, 0, 0, 0, 0]), np.zeros((0, 6)), np.zeros(0), np.zeros(0))
    inner = np.s_[24:-24, 24:-24]
    blurred = average(Scene(Layer(light, shift, 0), None, 0.8), 0.0)
    assert blurred[inner].mean() == pytest.approx(light[inner].mean(), rel=0.02)
    assert blurred.std() < 0.9 * light.std(), "nothing was blurred"


def test_the_frame_before_shows_the_scene_where_the_flow_says() -> None:
    trajectory = random_trajectory(np.random.default_rng(3), SIZE, 10.0, 0.3)
    light = to_linear(picture(1)).permute(1, 2, 0).numpy()
    scene = Scene(Layer(light, trajectory, 0), None, 0.3)
    field, sharp = ground_truth(scene)
    assert (
        field.shape == (5, SIZE[0] // CELL, SIZE[1] // CELL) and sharp.shape == (1, *SIZE) and not sharp.any()
    )
    before = composite(scene, -1.0)
    full = [cv2.resize(field[i], SIZE[::-1], interpolation=cv2.INTER_LINEAR) for i in range(2)]
    columns, rows = np.meshgrid(np.arange(SIZE[1], dtype=np.float32), np.arange(SIZE[0], dtype=np.float32))
    found = cv2.remap(before, columns + full[0], rows + full[1], cv2.INTER_LINEAR)
    reach = int(np.abs(field[:2]).max()) + 2
    inner = np.s_[reach:-reach, reach:-reach]
    assert np.abs(found - light)[inner].mean() < 0.1 * np.abs(before - light)[inner].mean()


def test_an_object_has_its_own_motion_and_all_it_touched_is_not_sharp() -> None:
    rng = np.random.default_rng(5)
    alpha = random_shape(rng, SIZE, 96)
    own = Trajectory(SIZE, np.array([20.0, 0, 0, 0, 0, 0]), np.zeros((0, 6)), np.zeros(0), np.zeros(0))
    background = to_linear(picture(2)).permute(1, 2, 0).numpy()
    texture = to_linear(picture(3)).permute(1, 2, 0).numpy() * alpha
    scene = Scene(Layer(background, still(SIZE), 0), Layer(np.concatenate((texture, alpha), 2), own, 0), 0.5)
    field, sharp = ground_truth(scene)
    inside = cv2.resize(alpha, (SIZE[1] // CELL, SIZE[0] // CELL), interpolation=cv2.INTER_AREA) > 0.5
    assert np.allclose(field[0][inside], -20.0) and np.allclose(field[2][inside], 10.0 / math.sqrt(12.0))
    assert not field[:, ~inside].any()
    blurred, frame = average(scene, 0.0), composite(scene, 0.0)
    unchanged = np.abs(blurred - frame).max(axis=2) < 1e-5
    assert unchanged[sharp[0] > 0].all(), "what is called sharp is as it was"
    # Ten pixels of blur, five on each side of the object.
    assert 0.5 < sharp.mean() < 1.0 - alpha.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_samples_hold_what_their_kind_promises(kind: str) -> None:
    shares, damages = [], []
    moving = 0.0
    for seed in range(4 if kind != "sharp" else 8):  # of which some move
        sample = degrade(picture(10 + seed), picture(20 + seed), kind, seeded(seed))
        again = degrade(picture(10 + seed), picture(20 + seed), kind, seeded(seed))
        assert all(torch.equal(sample[key], again[key]) for key in sample)
        assert all(sample[key].shape == (3, *SIZE) for key in ("input", "previous", "target"))
        assert all(
            float(sample[key].min()) >= 0.0 and float(sample[key].max()) <= 1.0 for key in ("input", "target")
        )
        assert sample["motion"].isfinite().all() and sample["motion"].shape == (5, SIZE[0] // 4, SIZE[1] // 4)
        moving = max(moving, float(sample["motion"][:2].abs().max()))
        shares.append(float(sample["sharp"].mean()))
        damage = (sample["input"] - sample["target"]).square().mean(0)
        damages.append(float(damage.mean()))
        if shares[-1] > 0.05:  # noise only
            assert float(damage[sample["sharp"][0] > 0].mean()) < 3e-4
    if kind == "sharp":
        assert min(shares) == 1.0 and moving > 1.0
    elif kind == "shake":
        assert max(shares) == 0.0 and min(damages) > 1e-4
    else:
        assert 0.02 < np.mean(shares) < 0.95


def test_frames_have_8_bits() -> None:
    sample = degrade(picture(1), picture(2), "shake", seeded(0))
    for name in ("input", "previous"):
        levels = sample[name] * 255
        assert float((levels - levels.round()).abs().max()) < 1e-4, name


def test_both_frames_are_of_one_sensor_out_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Electrons at white and of the read noise: each range is used to its ends, and not beyond."""
    sensors: list[tuple[float, float]] = []

    def note(light: Light, full_well: float, read_noise: float, _: object) -> Tensor:
        sensors.append((full_well, read_noise))
        return torch.zeros(3, *light.shape[:2])

    monkeypatch.setattr(synthesis, "recorded", note)
    monkeypatch.setattr(synthesis, "average", lambda scene, middle: np.zeros((32, 32, 3), np.float32))
    for seed in range(40):
        degrade(picture(1, (32, 32)), picture(2, (32, 32)), "shake", seeded(seed))
    assert sensors[0::2] == sensors[1::2]
    wells, noises = (np.array(values) for values in zip(*sensors, strict=True))
    print(f"wells {wells.min():.0f} to {wells.max():.0f}, noise {noises.min():.1f} to {noises.max():.1f}")
    assert 3e4 <= wells.min() < 4e4 and 2.4e5 < wells.max() <= 3e5
    assert 4.0 <= noises.min() < 4.7 and 15.3 < noises.max() <= 16.0


def test_the_previous_frame_is_taken_a_frame_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The light of a frame is here its time."""
    monkeypatch.setattr(
        synthesis, "average", lambda scene, middle: np.full((*SIZE, 3), 0.5 + middle / 4, np.float32)
    )
    sample = degrade(picture(1), picture(2), "shake", seeded(0))
    assert float(to_linear(sample["input"]).mean()) == pytest.approx(0.5, abs=0.02)
    assert float(to_linear(sample["previous"]).mean()) == pytest.approx(0.25, abs=0.02)


def test_a_margin_is_cut_off_and_what_lies_in_it_moves_in() -> None:
    photo, other = picture(30, (128, 160)), picture(31, (128, 160))
    sample = degrade(photo, other, "shake", seeded(1), margin=16)
    assert sample["input"].shape == (3, 96, 128)
    hidden = photo.clone()
    hidden[:, 16:-16, 16:-16] = 0.0
    dark = degrade(hidden, other, "shake", seeded(1), margin=16)["input"]
    assert float(dark.max()) > 0.2, "nothing came in from the margin"


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of motion 'spin'"):
        degrade(picture(0), picture(1), "spin", seeded(0))
