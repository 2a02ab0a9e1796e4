"""The folder of a training run: its files, and what is refused."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from afterlens.training.checkpoint import load_checkpoint, save_checkpoint
from afterlens.training.loop import train
from afterlens.training.media.errors import UserError
from afterlens.training.task import Sample
from afterlens.training.trained import load_network
from tests.training import runs
from tests.training.runs import PHOTOS, TASK, TINY
from tests.training.test_loop import RECIPE, assert_equal

# --- files of a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps: checkpoints at 2, 4, 6 and 8, validation at 4 and 8."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert runs.run(out) == ""
    return out


def test_last_checkpoints_are_kept(finished: Path) -> None:
    names = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert names == [f"step_{step:08d}.safetensors" for step in (4, 6, 8)]


def test_the_last_averaged_weights_are_exported_beside_the_best(finished: Path, tmp_path: Path) -> None:
    last, metadata = load_checkpoint(finished / "last.safetensors")
    state = load_file(finished / "checkpoints/step_00000008.safetensors")
    assert all(torch.equal(value, state[f"average.{name}"]) for name, value in last.items())
    assert metadata["step"] == 8 and "validation_gain" in metadata["metrics"]
    assert not load_network(TASK, finished / "last.safetensors")[0].training
    overrides = [*TINY, "training.steps=1"]
    assert train(TASK, [PHOTOS], tmp_path / "a", overrides=overrides) == tmp_path / "a/best.safetensors"
    found = train(TASK, [PHOTOS], tmp_path / "b", overrides=overrides, weights="last")
    assert found == tmp_path / "b/last.safetensors" and found.is_file()


def test_best_weights_load_with_their_recipe_and_history(finished: Path) -> None:
    network, metadata = load_network(TASK, finished / "best.safetensors")
    assert not network.training
    assert metadata["data"] | {"sha256": ""} == {
        "photos": 2,
        "held_out": 1,
        "sha256": "",
        "licence": "not stated",
    }
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8"]
    best = max(rows, key=lambda row: float(row["validation_gain"]))
    # As in the recipe: a column for each kind, though the four samples of one photo are not of all six.
    kinds = [f"validation_gain_{kind}" for kind in RECIPE.synthesis.kinds]
    assert [name for name in best if "gain_" in name] == kinds
    named = {name: float(best[name]) for name in [*kinds, "validation_psnr", "input_psnr"] if best[name]}
    gains = [value for name, value in named.items() if name in kinds]
    assert 0 < len(gains) < len(kinds)
    assert float(best["validation_gain"]) == pytest.approx(sum(gains) / len(gains), abs=1e-4)
    assert metadata["metrics"] == pytest.approx(
        {"validation_gain": float(best["validation_gain"]), **named}, abs=1e-4
    )


def test_finished_run_resumes_to_nothing(finished: Path) -> None:
    before = runs.contents(finished)
    assert runs.run(finished, resume=True) == ""
    assert_equal(runs.contents(finished), before)


def test_rows_beyond_the_checkpoint_are_dropped(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "checkpoints/step_00000008.safetensors").unlink()
    with (out / "metrics.csv").open("a") as file:
        file.write("8,99,99,9,9,9,9\nhalf a li")
    assert runs.run(out, resume=True) == ""
    assert (out / "metrics.csv").read_text() == (finished / "metrics.csv").read_text()


def after_one_tiny_step(initial: Path, out: Path) -> dict[str, torch.Tensor]:
    """The weights after fine-tuning that changes nothing."""
    overrides = [*TINY, "training.steps=1", "training.learning_rate=1e-9"]
    return load_file(train(TASK, [PHOTOS], out, overrides=overrides, initial=initial))


def test_initial_weights_are_where_fine_tuning_starts(finished: Path, tmp_path: Path) -> None:
    start = load_file(finished / "best.safetensors")
    end = after_one_tiny_step(finished / "best.safetensors", tmp_path)
    assert max(float((start[name] - end[name]).abs().max()) for name in start) < 1e-7
    assert load_checkpoint(tmp_path / "best.safetensors")[1]["initial"] == "best.safetensors"


def test_weights_of_a_part_of_the_network_will_do_and_it_is_said(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_file(finished / "best.safetensors")
    part = {name: value for name, value in whole.items() if name.startswith("encoder.")}
    assert 0 < len(part) < len(whole)
    save_checkpoint(tmp_path / "part.safetensors", part, {"task": "reflection"})
    end = after_one_tiny_step(tmp_path / "part.safetensors", tmp_path / "run")
    assert max(float((part[name] - end[name]).abs().max()) for name in part) < 1e-7
    assert f"has {len(part)} of the network's {len(whole)} weights" in " ".join(
        capsys.readouterr().err.split()
    )


def test_parts_of_another_tasks_network_that_fit_will_do(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_file(finished / "best.safetensors")
    taken = {name: value + 0.5 for name, value in whole.items() if name.startswith("encoder.")}
    wider = {name: torch.zeros(99) for name in whole if name.startswith("background.")}
    fewer = {name: value for name, value in whole.items() if name.startswith("layer.")}
    fewer.popitem()
    other = {**taken, **wider, **fewer, "head.weight": torch.zeros(3)}
    save_checkpoint(tmp_path / "other.safetensors", other, {"task": "udc"})
    end = after_one_tiny_step(tmp_path / "other.safetensors", tmp_path / "run")
    assert max(float((taken[name] - end[name]).abs().max()) for name in taken) < 1e-6
    assert not any(torch.equal(end[name], value) for name, value in fewer.items() if value.dim() > 1)
    assert f"has {len(taken)} of the network's {len(whole)} weights" in " ".join(
        capsys.readouterr().err.split()
    )


# --- what can be wrong --------------------------------------------------------------------------------------


def wrong_pickle(folder: Path) -> Path:
    torch.save({"a": torch.zeros(3)}, folder / "weights.pth")
    return folder / "weights.pth"


def wrong_metadata(folder: Path) -> Path:
    save_file({"a": torch.zeros(3)}, folder / "bare.safetensors")
    return folder / "bare.safetensors"


def wrong_task(folder: Path) -> Path:
    save_checkpoint(folder / "other.safetensors", {"a": torch.zeros(3)}, {"task": "deblur"})
    return folder / "other.safetensors"


def wrong_network(folder: Path) -> Path:
    save_checkpoint(folder / "wide.safetensors", {"a": torch.zeros(3)}, {"task": "reflection"})
    return folder / "wide.safetensors"


def truncated(folder: Path) -> Path:
    network = TASK.build_network(RECIPE)
    save_checkpoint(folder / "whole.safetensors", network.state_dict(), {"task": "reflection"})
    data = (folder / "whole.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(data[: len(data) // 2])
    return folder / "half.safetensors"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wrong_pickle, "weights.pth: not a readable safetensors file"),
        (wrong_metadata, "bare.safetensors: got a safetensors file without afterlens metadata"),
        (
            wrong_task,
            "other.safetensors: is a checkpoint of task 'deblur', of which no part has the shape of one of",
        ),
        (wrong_network, "belongs to another task or recipe"),
        (truncated, "half.safetensors: not a readable safetensors file"),
        (lambda folder: folder / "none.safetensors", "none.safetensors: no such file"),
    ],
)
def test_wrong_initial_weights_are_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    initial = make(tmp_path)
    assert_refused(tmp_path / "run", message, initial=initial)


def assert_refused(out: Path, message: str, *overrides: str, data: Path = PHOTOS, **options: object) -> None:
    """One clear line, and nothing written."""
    with pytest.raises(UserError) as caught:
        train(TASK, [data], out, overrides=[*TINY, *overrides], **options)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value), str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.stepz=5"], "training: unknown key 'stepz', expected one of accumulate"),
        (["training.steps=0"], "training: steps is 0, expected 1 or more"),
        (["training.validation_photos=3"], "3 usable photos of which 3 are to be held out"),
        (["loss.feature=0.1", "loss.vgg_weights=none.safetensors"], "none.safetensors: no such file"),
        (
            ["synthesis.pairs_ratio=0.5", "synthesis.pairs=nowhere"],
            "nowhere: expected a folder of pairs, got nothing",
        ),
    ],
)
def test_wrong_recipe_is_refused(overrides: list[str], message: str, tmp_path: Path) -> None:
    assert_refused(tmp_path / "run", message, *overrides)


def test_missing_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "run", "empty: ", data=tmp_path / "empty")
    assert_refused(tmp_path / "run", "no such file or folder", data=tmp_path / "nowhere")
    (tmp_path / "empty/a.jpg").write_bytes(b"no photo at all")
    assert_refused(tmp_path / "run", "no usable photo among 1 files (the first: ", data=tmp_path / "empty")


def test_half_precision_without_a_gpu_is_refused(tmp_path: Path) -> None:
    assert "needs a GPU" in runs.run(tmp_path, "training.precision=fp16")


def test_run_folder_in_use_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a run already .*--resume"):
        train(TASK, [PHOTOS], finished, overrides=TINY)
    with pytest.raises(UserError, match="nothing to resume"):
        train(TASK, [PHOTOS], tmp_path / "none", overrides=TINY, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used as the folder of a run"):
        train(TASK, [PHOTOS], tmp_path / "file", overrides=TINY)


def test_resuming_another_run_is_refused(finished: Path, tmp_path: Path) -> None:
    before = runs.contents(finished)
    with pytest.raises(
        UserError, match=r"another run: recipe.training.learning_rate was 0.001, now 0.5; resume"
    ):
        train(TASK, [PHOTOS], finished, overrides=[*TINY, "training.learning_rate=0.5"], resume=True)
    shutil.copytree(PHOTOS, tmp_path / "photos")
    Image.open(PHOTOS / "room.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        tmp_path / "photos/room.jpg"
    )
    with pytest.raises(UserError, match=r"another run: data.sha256 was"):
        train(TASK, [tmp_path / "photos"], finished, overrides=TINY, resume=True)
    shutil.copy(finished / "best.safetensors", tmp_path / "step_00000099.safetensors")
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "step_00000099.safetensors").rename(tmp_path / "run/checkpoints/step_00000099.safetensors")
    with pytest.raises(UserError, match="not the state of a training run"):
        train(TASK, [PHOTOS], tmp_path / "run", overrides=TINY, resume=True)
    assert_equal(runs.contents(finished), before)


@pytest.mark.parametrize("largest", [100, 2_000, 100_000])
def test_full_disk_ends_the_run_and_leaves_nothing_half_written(largest: int, tmp_path: Path) -> None:
    # A limit on file sizes makes the same write fail that would fail on a full disk, with another errno.
    out = tmp_path / "run"
    outcome = runs.run(out, "training.checkpoint_every=1", largest_file=largest)
    assert outcome.startswith(f"UserError: cannot write {out}/") and outcome.endswith(": File too large"), (
        outcome
    )
    assert not list(out.rglob(".*")) and not list(out.rglob("*.safetensors"))
    events = list((out / "tensorboard").iterdir())
    assert sum(path.stat().st_size for path in events) <= largest
    # With space again, the run starts as if nothing had been.
    assert runs.run(out) == ""


def test_diverging_run_stops_before_it_saves_anything(tmp_path: Path) -> None:
    outcome = runs.run(tmp_path, "training.learning_rate=1e30", "training.checkpoint_every=1")
    assert outcome.startswith("UserError: training diverged"), outcome
    for path in (tmp_path / "checkpoints").iterdir():
        assert all(bool(value.isfinite().all()) for value in load_file(path).values()), path


class Broken(Dataset[Sample]):
    """A photo that vanished while the run was going on."""

    def __getitem__(self, index: int) -> Sample:
        raise UserError("holiday.jpg: no such file")


def test_error_in_a_loader_process_is_one_line(tmp_path: Path) -> None:
    broken = dataclasses.replace(TASK, training_set=lambda recipe, photos: Broken())
    with pytest.raises(UserError) as caught:
        train(broken, [PHOTOS], tmp_path, overrides=[*TINY, "training.workers=1"])
    assert str(caught.value) == "holiday.jpg: no such file"


def test_odd_photos_are_used_or_skipped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    room = Image.open(PHOTOS / "room.jpg")
    room.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(room.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    room.save(folder / "turned.jpg", exif=exif)
    room.quantize(32).save(folder / "moving.gif", save_all=True, append_images=[room.quantize(16)])
    room.resize((63, 200)).save(folder / "tiny.png")
    (folder / "cut.jpg").write_bytes((PHOTOS / "room.jpg").read_bytes()[:9000])
    (folder / "text.png").write_text("not a picture")

    train(TASK, [folder], tmp_path / "run", overrides=[*TINY, "training.steps=1"])
    said = capsys.readouterr().err
    assert "warning: skipped 3 of 7 files" in said
    assert "tiny.png: 63x200 pixels, expected both sides of 64 or more" in said
    assert "cut.jpg: the image is damaged" in said and "text.png: not an image" in said
    assert load_checkpoint(tmp_path / "run/best.safetensors")[1]["data"]["photos"] == 3
