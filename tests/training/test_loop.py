"""The training loop: resuming after SIGKILL, several processes, accumulation, and what can go wrong."""

import csv
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from afterlens.samples import CAPTURED
from afterlens.training.checkpoint import load_checkpoint, save_checkpoint
from afterlens.training.gains import mean_gain
from afterlens.training.loop import StepSampler, learning_rate, train
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.task import ReflectionRecipe
from afterlens.training.samples import CAPTURED_KIND
from afterlens.training.state import TrainingState
from afterlens.training.task import Sample
from afterlens.training.trained import load_network
from tests.training import runs
from tests.training.launched import OVERRIDES
from tests.training.runs import PHOTOS, TASK, TINY

RECIPE = read_recipe(ReflectionRecipe, TASK.recipe_path, TINY)
PLAIN = ("training.steps=9", "training.validate_every=4", "training.checkpoint_every=3")
# Everything that has a state: discriminator, accumulation, a loader process that runs ahead.
FULL = (*PLAIN, "loss.adversarial=0.01", "training.accumulate=2", "training.workers=1")


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps precision and devices for a whole process, in which other tests want others."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# --- resuming -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Reference:
    contents: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert (
        runs.run(out, *PLAIN, "training.steps=1") == ""
    )  # starts the server of processes, so that it isn't timed
    shutil.rmtree(out)
    start = time.monotonic()
    assert runs.run(out, *FULL) == ""
    return Reference(runs.contents(out), time.monotonic() - start)


def has_checkpoint(out: Path) -> bool:
    return any((out / "checkpoints").glob("step_*"))


def assert_equal(got: dict[str, bytes], expected: dict[str, bytes]) -> None:
    different = [name for name in expected if got.get(name) != expected[name]]
    assert got.keys() == expected.keys() and not different, (
        f"{len(different)} differ, such as {different[:3]}"
    )


def test_run_killed_while_writing_resumes_to_the_same_bits(tmp_path: Path, uninterrupted: Reference) -> None:
    out = tmp_path / "run"
    for resume, moment in (
        (False, "writing step_00000006.safetensors"),  # from 3 again
        (True, "writing best.safetensors"),  # at step 4
        (True, "after best.safetensors"),  # the best weights are ahead of the last checkpoint
        (True, "after step_00000006.safetensors"),
        (True, "writing metrics.csv"),  # at step 8
    ):
        assert runs.run(out, *FULL, resume=resume, die=moment) == "killed", moment
    assert runs.run(out, *FULL, resume=True) == ""
    assert_equal(runs.contents(out), uninterrupted.contents)
    assert not list(out.rglob(".*")), "left over"


def test_run_killed_at_random_moments_resumes_to_the_same_bits(
    tmp_path: Path, uninterrupted: Reference
) -> None:
    out, outcomes = tmp_path / "run", []
    for _ in range(4):
        process, connection = runs.start(out, *FULL, resume=has_checkpoint(out))
        process.join(random.uniform(0.1, 0.7) * uninterrupted.seconds)
        process.kill()
        outcomes.append(runs.finish(process, connection))
        print(outcomes[-1], "with", sorted(path.name for path in (out / "checkpoints").glob("*")))
    assert set(outcomes) <= {"killed", ""} and "killed" in outcomes
    assert runs.run(out, *FULL, resume=has_checkpoint(out)) == ""
    assert_equal(runs.contents(out), uninterrupted.contents)
    assert not list(out.rglob(".*")), "left over"


def test_no_process_outlives_a_killed_run(tmp_path: Path) -> None:
    process, connection = runs.start(tmp_path / "run", "training.steps=1000000", "training.workers=1")
    run = psutil.Process(process.pid)
    while not (tmp_path / "run/metrics.csv").exists():  # until then the loader has made samples
        assert process.is_alive(), runs.finish(process, connection)
        time.sleep(0.05)
    started = run.children(recursive=True)
    assert len(started) >= 2, "the fork server and a loader process"
    process.kill()
    assert runs.finish(process, connection) == "killed"
    assert not psutil.wait_procs(started, timeout=30.0)[1]


def test_resuming_is_exact_in_bfloat16(tmp_path: Path) -> None:
    overrides = (*PLAIN, "training.precision=bf16")
    assert runs.run(tmp_path / "whole", *overrides) == ""
    assert runs.run(tmp_path / "killed", *overrides, die="writing step_00000006.safetensors") == "killed"
    assert runs.run(tmp_path / "killed", *overrides, resume=True) == ""
    assert_equal(runs.contents(tmp_path / "killed"), runs.contents(tmp_path / "whole"))


def test_another_seed_gives_other_bits(tmp_path: Path, uninterrupted: Reference) -> None:
    assert runs.run(tmp_path / "run", *FULL, "training.seed=2") == ""
    other = runs.contents(tmp_path / "run")
    same = [
        name for name, value in other.items() if value == uninterrupted.contents[name] and "step" not in name
    ]
    assert not [name for name in same if name.endswith("weight") and "head" not in name], same


def test_loss_scale_is_part_of_the_state(tmp_path: Path) -> None:
    # fp16 runs on GPUs only, so its scale is tried by itself.
    def state(scale: float) -> TrainingState:
        objective = TASK.objective(RECIPE, torch.device("cpu"))
        made = TrainingState(Accelerator(cpu=True), TASK.build_network(RECIPE), objective, RECIPE.training)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        made.scaler.scale(torch.ones(1))  # its state exists from the first use on
        return made

    state(512.0).save(tmp_path / "state.safetensors", {})
    restored = state(2.0)
    restored.restore(tmp_path / "state.safetensors", {})
    assert restored.scaler.get_scale() == 512.0


# --- several processes, several micro-batches ---------------------------------------------------------------


def test_two_processes_stay_equal_and_resume_exactly(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    script = str(Path(__file__).parent / "launched.py")
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=root,
        env=environment,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    # Each process tells what its own network and discriminator ended as.
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert_equal(runs.contents(tmp_path / "resumed"), runs.contents(tmp_path / "whole"))
    assert load_checkpoint(tmp_path / "whole/best.safetensors")[1]["processes"] == 2

    # Two processes with two micro-batches of 2 see what one process sees in a batch of 8.
    one = (*OVERRIDES, "training.accumulate=1", "training.batch=8")
    assert runs.run(tmp_path / "one", *one) == ""
    assert_close(tmp_path / "whole", tmp_path / "one")
    assert done.stderr.count("held-out dB") == 2, "only the main process reports"


def assert_close(one: Path, other: Path) -> None:
    """The same weights and gradients up to rounding; a batch of 5 instead of 6 makes the weights 2e-4 apart."""
    a, b = (load_file(max((out / "checkpoints").iterdir())) for out in (one, other))
    apart = torch.cat([(a[name] - b[name]).abs().flatten() for name in a if name.startswith("network.")])
    print(f"network: mean difference {apart.mean():.1e}, worst {apart.max():.1e}")
    assert apart.mean() < 1e-6

    # The discriminator's first gradients are so small that Adam turns rounding into whole steps. But Adam's first
    # moment after one step is the gradient itself, times a constant.
    a, b = (load_file(out / "checkpoints/step_00000001.safetensors") for out in (one, other))
    names = [name for name in a if name.startswith("optimizer.discriminator.") and name.endswith("exp_avg")]
    c, d = (torch.cat([state[name].flatten() for name in names]) for state in (a, b))
    print(f"discriminator: relative difference {(c - d).norm() / c.norm():.1e} of its gradient")
    assert (c - d).norm() < 1e-4 * c.norm()


def test_accumulated_gradients_equal_one_large_batch(tmp_path: Path) -> None:
    overrides = (
        "training.steps=4",
        "training.checkpoint_every=1",
        "training.keep=4",
        "loss.adversarial=0.01",
    )
    assert runs.run(tmp_path / "large", *overrides, "training.batch=6") == ""
    assert runs.run(tmp_path / "small", *overrides, "training.batch=2", "training.accumulate=3") == ""
    assert_close(tmp_path / "large", tmp_path / "small")


def test_processes_and_steps_share_out_the_samples() -> None:
    settings = RECIPE.training.model_copy(update={"steps": 5, "batch": 3, "accumulate": 2})
    batches = [list(StepSampler(settings, 0, process, 2)) for process in (0, 1)]
    seen = [index for both in zip(*batches, strict=True) for batch in both for index in batch]
    assert seen == list(range(5 * 3 * 2 * 2))
    assert list(StepSampler(settings, 2, 1, 2)) == batches[1][4:], "from step 2 on"
    assert len(StepSampler(settings, 2, 1, 2)) == 6


def test_rate_warms_up_and_follows_half_a_cosine() -> None:
    settings = RECIPE.training.model_copy(update={"steps": 100, "warmup": 10, "learning_rate": 0.5})
    got = [learning_rate(settings, step) for step in range(100)]
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
    expected = [0.05 * step for step in range(1, 11)]
    for _ in range(90):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_averaged_weights_follow_the_recursion(tmp_path: Path) -> None:
    decay = 0.3
    overrides = (
        "training.steps=3",
        "training.checkpoint_every=1",
        "training.validate_every=1",
        f"training.ema={decay}",
    )
    assert runs.run(tmp_path, *overrides) == ""
    name = "encoder.stem.parametrizations.weight.original1"
    torch.manual_seed(0)
    states = [load_file(tmp_path / f"checkpoints/step_{step:08d}.safetensors") for step in (1, 2, 3)]
    for step in (2, 3):
        short = min(decay, (1 + step) / (10 + step))
        before, now = states[step - 2], states[step - 1]
        expected = short * before[f"average.{name}"].numpy() + (1 - short) * now[f"network.{name}"].numpy()
        np.testing.assert_allclose(now[f"average.{name}"].numpy(), expected, rtol=1e-5, atol=1e-7)
    best, metadata = load_checkpoint(tmp_path / "best.safetensors")
    assert torch.equal(best[name], states[metadata["step"] - 1][f"average.{name}"])


def test_gradients_are_clipped_after_accumulation(tmp_path: Path) -> None:
    """Scaled down as a whole: to the norm that was asked, in the direction that they had."""
    overrides = ("training.steps=1", "training.accumulate=2", "loss.adversarial=0.01")
    # Adam's first moment after one step is (1 - beta1) times the gradient that it was given.
    assert runs.run(tmp_path / "clipped", *overrides, "training.clip=0.001") == ""
    assert runs.run(tmp_path / "whole", *overrides, "training.clip=1e9") == ""
    states = [
        load_file(tmp_path / name / "checkpoints/step_00000001.safetensors") for name in ("clipped", "whole")
    ]
    for optimizer, beta in (("optimizer.network.", 0.9), ("optimizer.discriminator.", 0.5)):
        names = [name for name in states[0] if name.startswith(optimizer) and name.endswith("exp_avg")]
        clipped, whole = (
            torch.cat([state[name].flatten() for name in names]) / (1 - beta) for state in states
        )
        print(f"{optimizer} {whole.norm():.4f} clipped to {clipped.norm():.6f}")
        assert float(whole.norm()) > 0.002
        torch.testing.assert_close(clipped, whole * (0.001 / whole.norm()), rtol=1e-3, atol=1e-9)


# --- validation ---------------------------------------------------------------------------------------------


def sample(kind: int, before: float, after: float) -> Sample:
    """A grey target, an input with ``before`` dB and a result with ``after`` dB; 0 stands for no error."""
    target = torch.full((3, 8, 8), 0.5)
    made = {
        name: target + (10.0 ** (-dB / 20.0) if dB else 0.0)
        for name, dB in (("input", before), ("result", after))
    }
    return {**made, "target": target, "kind": torch.tensor(kind)}


def test_score_is_the_mean_gain_of_the_kinds_not_of_the_samples() -> None:
    samples = [
        sample(0, 20.0, 26.0),
        sample(2, 0, 39.0),  # clean, damaged
        sample(2, 0, 0),  # clean, untouched
        sample(2, 0, 60.0),  # clean, changed so little that nobody sees it
        sample(0, 24.0, 26.0),
        sample(3, 44.0, 43.0),
        sample(3, 48.0, 45.5),  # a fault that cannot be seen, neither before nor after
    ]
    loader: DataLoader[Sample] = DataLoader(samples, batch_size=2)  # type: ignore[arg-type]
    kinds = ["shadow", "stain", "clean", "region"]
    found = mean_gain(torch.nn.Identity(), loader, ["result"], kinds)
    assert found.metrics == {
        "validation_gain": found.score,
        "validation_gain_shadow": pytest.approx((6.0 + 2.0) / 2, abs=1e-3),
        "validation_gain_stain": None,
        "validation_gain_clean": pytest.approx(-6.0 / 3, abs=1e-3),
        "validation_gain_region": pytest.approx(-1.0 / 2, abs=1e-3),
        "validation_psnr": pytest.approx((26 + 39 + 45 + 45 + 26 + 43 + 45) / 7, abs=1e-3),
        "input_psnr": pytest.approx((20 + 45 + 45 + 45 + 24 + 44 + 45) / 7, abs=1e-3),
    }
    assert found.score == pytest.approx((4.0 - 2.0 - 0.5) / 3, abs=1e-3)


def test_captured_pairs_alone_decide_where_there_are_any() -> None:
    samples = [sample(0, 20.0, 26.0), sample(CAPTURED_KIND, 20.0, 21.0), sample(CAPTURED_KIND, 24.0, 27.0)]
    loader: DataLoader[Sample] = DataLoader(samples, batch_size=2)  # type: ignore[arg-type]
    found = mean_gain(torch.nn.Identity(), loader, ["result"], ["shadow"])
    assert found.score == pytest.approx(2.0, abs=1e-3)
    assert found.metrics["validation_gain_captured"] == found.score
    assert found.metrics["validation_gain_shadow"] == pytest.approx(6.0, abs=1e-3)


def test_best_weights_are_those_of_the_highest_gain(tmp_path: Path) -> None:
    overrides = [*TINY, "training.validate_every=1", "training.checkpoint_every=1", "training.keep=8"]
    train(TASK, [PHOTOS], tmp_path, overrides=overrides)
    with (tmp_path / "metrics.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["validation_gain"]))
    kept = load_file(tmp_path / "best.safetensors")
    states = load_file(tmp_path / f"checkpoints/step_{int(best['step']):08d}.safetensors")
    assert all(torch.equal(value, states[f"average.{name}"]) for name, value in kept.items())


def test_a_run_on_captured_pairs_is_selected_on_held_out_pairs(tmp_path: Path) -> None:
    overrides = [*TINY, "training.steps=4", "training.validate_every=2", "training.validation_pairs=1"]
    overrides += [f"synthesis.pairs={CAPTURED}", "synthesis.pairs_ratio=0.5"]
    train(TASK, [PHOTOS], tmp_path, overrides=overrides)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(row["validation_gain"] == row["validation_gain_captured"] for row in rows)
    metadata = load_checkpoint(tmp_path / "best.safetensors")[1]
    assert metadata["data"]["pairs"] == 1 and metadata["data"]["held_out_pairs"] == 1
    best = max(rows, key=lambda row: (float(row["validation_gain"]), int(row["step"])))
    assert metadata["step"] == int(best["step"])


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


def test_initial_weights_are_where_fine_tuning_starts(finished: Path, tmp_path: Path) -> None:
    train(
        TASK,
        [PHOTOS],
        tmp_path,
        overrides=[*TINY, "training.steps=1", "training.learning_rate=1e-9"],
        initial=finished / "best.safetensors",
    )
    start, end = load_file(finished / "best.safetensors"), load_file(tmp_path / "best.safetensors")
    assert max(float((start[name] - end[name]).abs().max()) for name in start) < 1e-7
    assert load_checkpoint(tmp_path / "best.safetensors")[1]["initial"] == "best.safetensors"


def test_weights_of_a_part_of_the_network_will_do_and_it_is_said(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_file(finished / "best.safetensors")
    part = {name: value for name, value in whole.items() if name.startswith("encoder.")}
    assert 0 < len(part) < len(whole)
    save_checkpoint(tmp_path / "part.safetensors", part, {"task": "reflection"})
    train(
        TASK,
        [PHOTOS],
        tmp_path / "run",
        overrides=[*TINY, "training.steps=1", "training.learning_rate=1e-9"],
        initial=tmp_path / "part.safetensors",
    )
    end = load_file(tmp_path / "run" / "best.safetensors")
    assert max(float((part[name] - end[name]).abs().max()) for name in part) < 1e-7
    assert f"has {len(part)} of the network's {len(whole)} weights" in " ".join(
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
        (wrong_task, "other.safetensors: is a checkpoint of task 'deblur', expected 'reflection'"),
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
        (["training.stepz=5"], "recipe.toml: training: unknown key 'stepz', expected one of accumulate"),
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
    with pytest.raises(UserError, match="cannot write .*file"):
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
