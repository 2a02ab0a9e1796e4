"""The ablations on small pictures: numbers by hand, or of a network that knows the answer."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.benchmarks.ablations import motion_error, pyramid_gate
from afterlens.training.data import seeded
from afterlens.training.media.light import to_linear
from afterlens.training.metrics import psnr
from afterlens.training.reflection.synthesis import degrade


class Restored(nn.Module):
    """Gives the clean photo if gated, and the input if not."""

    clean: list[Tensor]

    def __init__(self, network: nn.Module, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated

    def forward(self, x: Tensor) -> tuple[Tensor]:
        nearest = min(self.clean, key=lambda photo: float((photo - x[0]).square().mean()))
        return (nearest[None] if self.gated else x,)


def test_the_gates_scores_are_means_over_the_photos_of_each_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pyramid_gate, "HEIGHT", 48)
    monkeypatch.setattr(pyramid_gate, "WIDTH", 64)
    monkeypatch.setattr(pyramid_gate, "load_network", lambda task, checkpoint: (nn.Identity(), {}))
    monkeypatch.setattr(pyramid_gate, "PyramidRestorer", Restored)
    rng = np.random.default_rng(0)
    paths = []
    for number, size in enumerate(((3, 4), (5, 4))):  # the second stands upright and is turned
        small = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        paths.append(tmp_path / f"{number}.png")
        small.resize((16 * size[1], 16 * size[0]), Image.Resampling.BICUBIC).save(paths[-1])
    Restored.clean = [pyramid_gate.fitted(path) for path in paths]
    assert [tuple(photo.shape) for photo in Restored.clean] == [(3, 48, 64)] * 2
    first = np.asarray(Image.open(paths[0]), np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(Restored.clean[0].numpy(), first, atol=1e-6)
    turned = np.rot90(np.asarray(Image.open(paths[1]), np.float32) / 255)  # 64x80, and the middle of it
    np.testing.assert_allclose(
        Restored.clean[1].numpy().mean(axis=(1, 2)), turned.mean(axis=(0, 1)), atol=0.1
    )
    found = pyramid_gate.ablate(paths, Path("none"))
    for number, kind in enumerate(pyramid_gate.KINDS):
        inputs = [
            psnr(degrade(clean, other, kind, seeded(index, number))[None], clean[None])
            for index, (clean, other) in enumerate(zip(Restored.clean, Restored.clean[::-1], strict=True))
        ]
        expected = {"input": np.mean(inputs), "gated": psnr(first_ := Restored.clean[0][None], first_)}
        assert found[kind] == pytest.approx({**expected, "plain": expected["input"]})


def test_a_square_photo_is_not_turned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pyramid_gate, "HEIGHT", 48)
    monkeypatch.setattr(pyramid_gate, "WIDTH", 64)
    levels = np.zeros((64, 64, 3), np.uint8)
    levels[:, 32:] = 255  # bright on the right
    Image.fromarray(levels).save(tmp_path / "square.png")
    fitted = pyramid_gate.fitted(tmp_path / "square.png")
    assert fitted.shape == (3, 48, 64)
    assert float(fitted[..., :30].max()) < 0.1 and float(fitted[..., 34:].min()) > 0.9


class Knowing(nn.Module):
    """Finds the ground truth, and a tenth of a pixel more in x."""

    field: Tensor

    def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor, list[Tensor]]:
        return current, [self.field[None] + torch.tensor([0.1, 0.0, 0.1, 0.0, 0.0]).view(1, 5, 1, 1)]


def test_errors_of_motion_are_mean_distances() -> None:
    field = torch.zeros(5, 8, 12)
    field[0], field[1], field[2] = 3.0, -4.0, 2.0
    picture = torch.rand(3, 32, 48, generator=seeded(0))
    network = Knowing()
    network.field = field
    length, by_dis, found, extent, extent_error = motion_error._errors(
        network, {"input": picture, "previous": picture, "motion": field}
    )
    assert (length, found, extent, extent_error) == pytest.approx((5.0, 0.1, 2.0, 0.1), abs=1e-5)
    assert by_dis == pytest.approx(5.0, abs=0.1)  # nothing moves in these pictures


@pytest.mark.parametrize("index", [0, 1, 3, 8])
def test_a_photo_is_blurred_by_its_length_in_a_direction_of_its_own(index: int) -> None:
    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.random((96, 128, 3)).astype(np.float32), (0, 0), 1.5)
    photo = (photo - photo.min()) / (photo.max() - photo.min())
    clean = torch.from_numpy(photo).permute(2, 0, 1)
    seen: list[Tensor] = []

    class Halfway(nn.Module):
        def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor]:
            seen.extend((current, previous))
            return ((current + clean) / 2,)  # half as far off: 6 dB better

    length = 7.0
    before, gain = motion_error._restored(Halfway(), clean, length, index)
    assert before == pytest.approx(psnr(seen[0], clean[None]))
    assert gain == pytest.approx(20 * math.log10(2.0), abs=0.01)

    # In linear light, each frame is the mean of the photo along 7 pixels. The shutter is open for 0.7 of a frame, so
    # that the photo moves by 10 pixels from frame to frame.
    direction = np.array([math.cos(index * math.pi / 6), math.sin(index * math.pi / 6)])
    light = to_linear(clean).permute(1, 2, 0).contiguous().numpy()
    for frame, middle in zip(seen, (0.0, -10.0), strict=True):
        moves = (middle + np.linspace(-0.5, 0.5, 71)[:, None] * length) * direction
        blurred = np.mean(
            [cv2.warpAffine(light, np.array([[1, 0, x], [0, 1, y]]), (128, 96)) for x, y in moves], axis=0
        )
        off = np.abs(to_linear(frame)[0].permute(1, 2, 0).numpy() - blurred)[16:-16, 16:-16]
        print(f"mean {off.mean():.4f}, max {off.max():.4f}; not blurred {np.abs(light - blurred).mean():.4f}")
        assert off.mean() < 0.004


def test_the_tables_of_motion_have_a_row_for_each_kind_and_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def errors(network: Any, sample: dict[str, Tensor]) -> tuple[float, ...]:
        assert sample["input"].shape == (3, 48, 64)
        return (1.0, 2.0, 3.0, 4.0, 5.0)

    monkeypatch.setattr(motion_error, "_errors", errors)
    monkeypatch.setattr(motion_error, "load_network", lambda task, path: (nn.Identity(), {}))
    monkeypatch.setattr(
        motion_error, "_restored", lambda restorer, photo, length, index: (30.0 + index, length - index)
    )
    for number in range(2):
        Image.new("RGB", (70, 50), (90, 90, 90)).save(tmp_path / f"{number}.png")
    motion_error.main(tmp_path, Path("none"))
    shown = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    assert shown == [
        *[[kind, "1.00", "2.00", "3.00", "4.00", "5.00"] for kind in motion_error.KINDS],
        *[
            [f"{length}", "30.50", f"{length - 0.5:.2f}", f"{length - 1:.2f}"]  # means, and the worst
            for length in motion_error.LENGTHS
        ],
    ]
