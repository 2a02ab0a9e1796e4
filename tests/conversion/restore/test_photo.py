"""Restoring files: sizes, names, metadata, and the way of a photo through an artifact of fixed size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from afterlens.conversion.bundle.contract import Artifact, TensorSpec
from afterlens.conversion.restore.photo import choose_artifact, plan, restore, restore_by_artifact
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network

Pixels = NDArray[np.float32]
REFLECTION = find_task("reflection")


def artifact(width: int, height: int, dtype: Any = "float32", layout: Any = "NHWC") -> Artifact:
    shape = (1, height, width, 3) if layout == "NHWC" else (height, width, 3)
    ports = [TensorSpec(name, shape, layout, dtype, (0.0, 1.0), "sRGB", "") for name in ("image", "restored")]
    return Artifact(
        f"{width}x{height}",
        "tflite",
        "float32",
        width,
        height,
        "0" * 64,
        1,
        "any",
        (ports[0],),
        (ports[1],),
        0,
        0,
    )


SQUARE, LANDSCAPE = artifact(256, 256), artifact(1280, 720)


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# --- with PyTorch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (1, 90), (31, 33), (768, 432), (1500, 700)])
def test_a_photo_of_any_size_keeps_it(
    tmp_path: Path, random_checkpoint: Path, photo_path: Path, width: int, height: int
) -> None:
    Image.open(photo_path).resize((width, height)).save(tmp_path / "in.png")
    result = restore(REFLECTION, [tmp_path / "in.png"], tmp_path / "out.png", checkpoint=random_checkpoint)
    with Image.open(tmp_path / "out.png") as written:
        assert (written.format, written.mode, written.size) == ("PNG", "RGB", (width, height))
    assert result["images"] == [
        {
            "input": str(tmp_path / "in.png"),
            "output": str(tmp_path / "out.png"),
            "width": width,
            "height": height,
        }
    ]


def test_the_file_is_what_the_network_gives(
    tmp_path: Path, random_checkpoint: Path, photo_path: Path, photo: Pixels
) -> None:
    restore(REFLECTION, [photo_path], tmp_path / "out.png", checkpoint=random_checkpoint)
    restorer = REFLECTION.restorer(load_network(REFLECTION, random_checkpoint)[0]).eval()
    with torch.no_grad():
        expected = restorer(torch.tensor(photo.transpose(2, 0, 1)[None]))[0][0].numpy().transpose(1, 2, 0)
    written = cv2.imread(str(tmp_path / "out.png"))[:, :, ::-1] / 255
    assert np.abs(written - expected.clip(0, 1)).max() <= 0.5 / 255 + 1e-5
    assert np.abs(written - photo).mean() > 0.004  # these weights do change the picture


def test_metadata_is_carried_over(tmp_path: Path, random_checkpoint: Path, photo_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    with Image.open(photo_path) as image:
        image.save(tmp_path / "in.jpg", exif=exif)
        size = image.size
    restore(REFLECTION, [tmp_path / "in.jpg"], tmp_path / "out.png", checkpoint=random_checkpoint)
    with Image.open(tmp_path / "out.png") as written:
        assert written.size == size[::-1]  # turned upright
        assert (written.getexif()[0x0112], written.getexif()[0x010F]) == (1, "Maker")


def test_a_folder_with_bad_files_gives_the_others(
    tmp_path: Path, random_checkpoint: Path, photo_paths: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, path in enumerate(photo_paths[:2]):
        Image.open(path).resize((64, 48)).save(folder / ("sub" if number else "") / f"{path.stem}.jpg")
    (folder / "broken.jpg").write_bytes(photo_paths[0].read_bytes()[:9000])
    (folder / "empty.png").write_bytes(b"")
    result = restore(REFLECTION, [folder], tmp_path / "out", checkpoint=random_checkpoint)
    assert names(tmp_path / "out") == ["bottles.png", "room.png"]
    assert [Path(image["output"]).name for image in result["images"]] == ["bottles.png", "room.png"]
    assert [Path(failure["input"]).name for failure in result["failed"]] == ["broken.jpg", "empty.png"]
    assert "empty.png: the file is empty" in capsys.readouterr().err.replace("\n", "")


def test_a_bad_only_input_writes_nothing(tmp_path: Path, random_checkpoint: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match="not an image"):
        restore(REFLECTION, [tmp_path / "text.jpg"], tmp_path / "out.png", checkpoint=random_checkpoint)
    assert names(tmp_path) == ["text.jpg"]


# --- where results go ----------------------------------------------------------------------------------------


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_one_file_may_go_into_an_existing_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "out").mkdir()
    assert plan([tmp_path / "a.jpg"], tmp_path / "out") == [(tmp_path / "a.jpg", tmp_path / "out" / "a.png")]


@pytest.mark.parametrize(
    ("inputs", "out", "reason"),
    [
        (["a.jpg"], "a_clean", "ends in .png"),
        (["a.jpg"], "a.jpeg", "ends in .png"),
        (["a.jpg", "b.jpg"], "c.png", "expected a folder"),
        (["folder"], "c.png", "expected a folder"),
        (["a.jpg", "b.jpg"], "file.txt", "expected a folder for the results, got a file"),
        (["a.jpg", "a.jpeg"], "out", "both be written"),
        (["a.jpg", "folder"], "out", "both be written"),
        (["p.png"], "p.png", "is an input"),
        (["p.png"], "folder/../p.png", "is an input"),
        (["p.png", "a.jpg"], ".", "is an input"),
        (["absent.jpg"], "out.png", "no such file"),
    ],
)
def test_unclear_outputs_are_refused(tmp_path: Path, inputs: list[str], out: str, reason: str) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "a.jpeg", "b.jpg", "p.png", "file.txt", "folder/a.png")))
    before = names(tmp_path)
    with pytest.raises(UserError, match=reason):
        plan([tmp_path / name for name in inputs], tmp_path / out)
    assert names(tmp_path) == before


# --- through an artifact of fixed size -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "chosen", "turned"),
    [
        (200, 100, SQUARE, False),  # both take it whole: the smaller one
        (1, 1, SQUARE, False),
        (257, 256, LANDSCAPE, False),
        (1280, 720, LANDSCAPE, False),
        (720, 1280, LANDSCAPE, True),
        (400, 600, LANDSCAPE, True),
        (4000, 3000, LANDSCAPE, False),
        (3000, 4000, LANDSCAPE, True),
        (5000, 5000, LANDSCAPE, False),
    ],
)
def test_which_artifact_takes_a_photo(width: int, height: int, chosen: Artifact, turned: bool) -> None:
    fit = choose_artifact([SQUARE, LANDSCAPE], height, width)
    assert (fit.artifact, fit.turned) == (chosen, turned)
    inside = (chosen.height, chosen.width) if not turned else (chosen.width, chosen.height)
    assert fit.scale == min(inside[0] / height, inside[1] / width)


def darken(expected: Artifact) -> Callable[[Pixels], dict[str, Pixels]]:
    """A stand-in for a loaded artifact: it multiplies by 0.8, and insists on its size."""

    def run(image: Pixels) -> dict[str, Pixels]:
        assert image.shape == (expected.height, expected.width, 3)
        assert image.dtype == np.float32
        assert image.flags["C_CONTIGUOUS"]
        assert 0 <= image.min() <= image.max() <= 1
        return {"layer": image * 0, "restored": image * np.float32(0.8)}

    return run


@pytest.mark.parametrize(("width", "height"), [(256, 256), (1280, 720), (720, 1280), (1280, 600), (256, 2)])
def test_a_photo_that_fills_the_artifact_is_not_resampled(photo: Pixels, width: int, height: int) -> None:
    rgb = np.float32(cv2.resize(photo, (width, height))).reshape(height, width, 3)
    fit = choose_artifact([SQUARE, LANDSCAPE], height, width)
    result = restore_by_artifact(rgb, fit, darken(fit.artifact))
    assert result.shape == rgb.shape
    assert np.abs(result - rgb * 0.8).max() < 1e-6


@pytest.mark.parametrize(
    ("width", "height"),
    [(3000, 1500), (1500, 3000), (5000, 7), (2001, 1999), (400, 300), (30, 70), (1, 1), (1, 90)],
)
def test_a_photo_of_another_size_keeps_its_detail_under_the_change(
    photo: Pixels, width: int, height: int
) -> None:
    smooth = cv2.resize(photo[100:110, 300:310], (width, height), interpolation=cv2.INTER_CUBIC).clip(
        0.2, 0.8
    )
    noise = np.random.default_rng(2).uniform(-0.1, 0.1, smooth.shape).astype(np.float32)
    fit = choose_artifact([SQUARE, LANDSCAPE], height, width)
    result = restore_by_artifact(smooth + noise, fit, darken(fit.artifact))
    # The smooth part is darkened; the noise is there as before, or nearly so where the artifact sees it.
    error = np.abs(result - (smooth * 0.8 + noise))
    assert error.mean() < 0.02, f"mean {error.mean():.4f}, max {error.max():.4f}"
    assert result.shape == (height, width, 3)


def test_a_portrait_photo_is_turned_and_turned_back(photo: Pixels) -> None:
    portrait = np.ascontiguousarray(np.rot90(photo))  # 432 wide, 768 high
    fit = choose_artifact([LANDSCAPE], *portrait.shape[:2])
    assert fit.turned

    def blacken_left_half(image: Pixels) -> dict[str, Pixels]:
        painted = image.copy()
        painted[:, : LANDSCAPE.width // 2] = 0
        return {"restored": painted}

    result = restore_by_artifact(portrait, fit, blacken_left_half)
    assert np.abs(result[:370]).mean() < 0.02  # left of the turned photo is its top; its finest detail stays
    assert np.abs(result[400:] - portrait[400:]).max() < 1e-6


def test_8_bit_rounding_is_not_taken_for_a_change() -> None:
    port = artifact(256, 256, dtype="uint8", layout="image")
    rgb = np.random.default_rng(0).random((100, 256, 3), np.float32)
    fit = choose_artifact([port], *rgb.shape[:2])
    result = restore_by_artifact(rgb, fit, lambda image: {"restored": np.rint(image * 255) / np.float32(255)})
    assert np.abs(result - rgb).max() < 1e-6


def test_an_artifact_runtime_needs_a_bundle(tmp_path: Path, photo_path: Path) -> None:
    with pytest.raises(UserError, match="afterlens convert reflection -o BUNDLE.*--bundle"):
        restore(REFLECTION, [photo_path], tmp_path / "out.png", runtime="tflite")
    with pytest.raises(UserError, match="no model.json here"):
        restore(REFLECTION, [photo_path], tmp_path / "out.png", runtime="coreml", bundle=tmp_path)
