"""What a run shows on a terminal and elsewhere, and the files that it writes while it goes."""

import csv
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from afterlens.training import runlog
from afterlens.training.events import EventFile
from afterlens.training.media.errors import UserError
from afterlens.training.runlog import RunLog, tracked

VALUES = {"pixel": 0.25, "psnr": 21.5}


def metrics(gain: float) -> dict[str, float | None]:
    """Of a validation in which no sample was of the kind "stain"."""
    gains = {"validation_gain_shadow": gain + 1.0, "validation_gain_stain": None}
    return {"validation_gain": gain, **gains, "validation_psnr": 14.0 + gain, "input_psnr": 14.0}


def test_terminal_shows_a_live_bar(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    assert list(tracked(range(3), 3, "looking", console)) == [0, 1, 2]
    with RunLog(tmp_path, "train reflection", 20, 0, console) as log:
        for step in range(1, 21):
            log.step(step, VALUES)
        log.validation(20, metrics(4.0), VALUES, torch.rand(3, 8, 8))
    shown = screen.getvalue()
    for part in ("train reflection", "20/20", "it/s", "pixel 0.2500", "PSNR 21.50 dB", "0:00:00 left"):
        assert part in shown, (part, shown[-500:])
    line = "step 20: held-out dB: gain 4.00, gain shadow 5.00, psnr 18.00, input psnr 14.00"
    assert line in shown


def test_narrow_terminal_cuts_the_end_off(tmp_path: Path) -> None:
    screen = io.StringIO()
    with RunLog(tmp_path, "train", 100_000, 0, Console(file=screen, force_terminal=True, width=60)) as log:
        log.step(79, VALUES | {"reconstruction": 0.1, "layer": 0.2})
    last = screen.getvalue().split("\r")[-1]
    assert "79/100000" in last and "left" in last and "it/s" in last and "layer" not in last, last


def test_elsewhere_it_prints_a_line_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(runlog.time, "monotonic", lambda: clock[0])
    screen = io.StringIO()
    console = Console(file=screen, width=40)  # must not break lines either
    with RunLog(tmp_path, "train reflection", 100, 0, console) as log:
        for step in range(1, 101):
            clock[0] += 2.0
            log.step(step, VALUES)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 8, lines  # steps 1, 16, 31 ... 91, and the last
    assert lines[1] == "step 16/100  0:02:48 left  0.50 it/s  PSNR 21.50 dB  pixel 0.2500"
    assert lines[-1].startswith("step 100/100  0:00:00 left")
    assert "\x1b" not in screen.getvalue()


def test_metrics_of_steps_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    pictures = torch.rand(3, 8, 8)
    with RunLog(tmp_path, "train", 9, 0, console) as log:
        for step in (3, 6, 9):
            log.validation(step, metrics(step), VALUES, pictures)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("12,99,99,")
    with RunLog(tmp_path, "train", 9, 6, console) as log:
        log.validation(9, metrics(9.5), VALUES, pictures)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [(row["step"], row["validation_gain"]) for row in rows] == [
        ("3", "3.0000"),
        ("6", "6.0000"),
        ("9", "9.5000"),
    ]
    assert rows[0] == {
        "step": "3",
        "validation_gain": "3.0000",
        "validation_gain_shadow": "4.0000",
        "validation_gain_stain": "",
        "validation_psnr": "17.0000",
        "input_psnr": "14.0000",
        "pixel": "0.250000",
        "psnr": "21.500000",
    }
    with RunLog(tmp_path, "train", 9, 0, console) as log:
        log.validation(3, metrics(1.0), VALUES, pictures)
    assert len(list(csv.DictReader((tmp_path / "metrics.csv").open()))) == 1, "a new run starts anew"


def test_columns_of_an_older_version_stay_beside_the_new_ones(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,validation_psnr,input_psnr,pixel\n3,20.0,14.0,0.5\n6,9,9,9\n")
    with RunLog(tmp_path, "train", 9, 3, Console(file=io.StringIO())) as log:
        log.validation(6, metrics(6.0), VALUES, torch.rand(3, 8, 8))
    old, new = csv.DictReader((tmp_path / "metrics.csv").open())
    assert (old["validation_psnr"], old["pixel"], old["validation_gain"]) == ("20.0", "0.5", "")
    assert (new["validation_psnr"], new["pixel"], new["validation_gain"]) == ("20.0000", "0.250000", "6.0000")


def test_tensorboard_gets_the_gain_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, float] = {}
    monkeypatch.setattr(EventFile, "add_scalars", lambda self, step, values: seen.update(values))
    with RunLog(tmp_path, "train", 9, 0, Console(file=io.StringIO())) as log:
        log.validation(3, metrics(2.0), VALUES, torch.rand(3, 8, 8))
    assert seen == {
        "validation/gain": 2.0,
        "validation/gain_shadow": 3.0,
        "validation/psnr": 16.0,
        "validation/input_psnr": 14.0,
    }


def test_tensorboard_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # TensorBoard's own switch against importing TensorFlow, for the reader's sake.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = torch.rand(3, 6, 10)
    first = EventFile(tmp_path, 1)
    for step in (1, 2, 3):
        first.add_scalars(step, {"training/pixel": step / 8, "training/psnr": 20.0 + step})
    first.add_picture(2, "grid", picture)
    first.close()
    with first.path.open("ab") as file:
        file.write(b"\x18\x00\x00\x00")  # killed in the middle of a record
    first.path.rename(first.path.with_name("events.out.tfevents.0000000001.here"))  # as if started earlier
    second = EventFile(tmp_path, 3)
    second.add_scalars(3, {"training/pixel": 0.75})
    second.close()

    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("training/pixel")] == [
        (1, 0.125),
        (2, 0.25),
        (3, 0.75),
    ]
    image = read.Images("grid")[0]
    assert (image.step, image.width, image.height) == (2, 10, 6)
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)), np.float32) / 255
    np.testing.assert_allclose(pixels, picture.permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6)


def test_files_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*tensorboard.*: Not a directory"):
        RunLog(tmp_path / "file", "train", 9, 0, Console(file=io.StringIO()))
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    events = EventFile(tmp_path / "full", 1)
    events.close()
    size = events.path.stat().st_size
    events._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115, PTH123 - the device that is always full
    with pytest.raises(UserError, match="cannot write .*: No space left on device"):
        events.add_scalars(1, {"a": 1.0})
    assert events.path.stat().st_size <= size
