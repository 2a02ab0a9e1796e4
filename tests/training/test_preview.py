"""The contact sheet shows one titled row a kind, inputs over their targets, made as in training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.training.media.errors import UserError
from afterlens.training.preview import contact_sheet
from afterlens.training.tasks import TASKS

TASK = TASKS["reflection"]


def test_sheet_has_a_row_a_kind(tmp_path: Path, photo_paths: list[Path]) -> None:
    out = tmp_path / "sheet.png"
    contact_sheet(TASK, [photo_paths[0].parent], out, overrides=["training.crop=64"])
    sheet = np.asarray(Image.open(out), np.int16)
    height = 24 + 2 * 64
    assert sheet.shape == (len(TASK.kinds) * height, 8 * 64, 3)
    for row, kind in enumerate(TASK.kinds):
        title, degraded, target = np.split(sheet[row * height : (row + 1) * height], [24, 24 + 64])
        assert title.min() == 0 and np.median(title) == 255, "black on white"
        changed = [
            int((degraded[:, x : x + 64] != target[:, x : x + 64]).any())
            for x in range(0, sheet.shape[1], 64)
        ]
        print(kind, changed)
        assert sum(changed) == (0 if kind == "clean" else 8), kind
    titles = (
        sheet[::height, :, 0],
        [sheet[row * height : row * height + 24] for row in range(len(TASK.kinds))],
    )
    assert len({title.tobytes() for title in titles[1]}) == len(TASK.kinds)

    again = tmp_path / "again.png"
    contact_sheet(TASK, [photo_paths[0].parent], again, overrides=["training.crop=64"])
    assert again.read_bytes() == out.read_bytes()


def test_wrong_input_is_refused_and_nothing_written(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    out = tmp_path / "sheet.png"
    with pytest.raises(UserError, match="photos"):
        contact_sheet(TASK, [folder], out)
    for number in range(20):
        Image.new("RGB", (20, 20)).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="no usable photo among 20 files"):
        contact_sheet(TASK, [folder], out)
    assert not out.exists()


def test_the_sheet_shows_the_panel_that_is_trained_for(tmp_path: Path, photo_paths: list[Path]) -> None:
    """Not random ones: a panel that passes red light alone makes every input red."""
    psf = np.zeros((3, 5, 5), np.float32)
    psf[0, 2, 2] = psf[1, 0, 0] = psf[2, 4, 4] = (
        1.0  # red stays, green and blue are moved two pixels either way
    )
    np.save(tmp_path / "panel.npy", psf)
    sheets = {}
    for name, path in (("own", tmp_path / "panel.npy"), ("none", "")):
        out = tmp_path / f"{name}.png"
        overrides = ["training.crop=64", f'panel.psf="{path}"']
        contact_sheet(TASKS["udc"], [photo_paths[0].parent], out, overrides=overrides)
        sheets[name] = np.asarray(Image.open(out), np.float32)
    degraded, target = sheets["own"][24:88, :64], sheets["own"][88:152, :64]
    inner = np.s_[8:-8, 8:-8]
    red = np.corrcoef(degraded[..., 0][inner].ravel(), target[..., 0][inner].ravel())[0, 1]
    moved = np.roll(target[..., 1], (2, 2), (0, 1))
    back = np.roll(target[..., 1], (-2, -2), (0, 1))
    green = [np.corrcoef(degraded[..., 1][inner].ravel(), t[inner].ravel())[0, 1] for t in (moved, back)]
    print(red, green)
    assert red > 0.9 and max(green) > 0.9 and not np.array_equal(sheets["own"], sheets["none"])
    with pytest.raises(UserError, match="absent.npy"):
        overrides = [f'panel.psf="{tmp_path / "absent.npy"}"']
        contact_sheet(TASKS["udc"], [photo_paths[0].parent], tmp_path / "x.png", overrides=overrides)
