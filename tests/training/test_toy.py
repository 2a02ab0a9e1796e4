"""A task with classes, people, several inputs, discriminators and a score of its own runs on the same loop as all."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from afterlens.benchmarks.evaluation.quality import evaluate
from afterlens.conversion.examples import refuse_unreal, task_examples
from afterlens.training.checkpoint import load_checkpoint
from afterlens.training.data import split_records
from afterlens.training.loop import StepSampler, train
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos
from afterlens.training.preview import contact_sheet
from afterlens.training.recipe import read_recipe
from afterlens.training.state import TrainingState
from afterlens.training.task import Outputs, Sample
from tests.training import toy
from tests.training.toy import TASK


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps precision and devices for a whole process, in which other tests want others."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "faces"
    toy.write_faces(folder, people=8)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    toy.write_judge(path)
    return f"styles.judge={path}"


@pytest.fixture(scope="module")
def finished(faces: Path, judge: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    train(TASK, [faces], out, overrides=[judge])
    AcceleratorState._reset_state(reset_partial_state=True)
    return out


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_is_selected_by_its_own_score_and_shows_its_own_metrics(finished: Path) -> None:
    found = rows(finished)
    assert len(found) == 8 and "psnr" not in found[0] and "input_psnr" not in found[0]
    scores = [float(row["validation_score"]) for row in found]
    assert len(set(scores)) == 8
    metadata = load_checkpoint(finished / "best.safetensors")[1]
    assert metadata["step"] == 1 + int(np.argmax(scores))
    assert set(metadata["metrics"]) == {"validation_score", "brightness_error"}
    assert load_checkpoint(finished / "last.safetensors")[1]["step"] == 8


def test_a_resumed_run_gives_the_same_bits(finished: Path, faces: Path, judge: str, tmp_path: Path) -> None:
    for step in (2, 6):  # before and after the second discriminator begins to learn
        out = tmp_path / f"from{step}"
        shutil.copytree(finished, out)
        for later in range(step + 2, 9, 2):
            (out / f"checkpoints/step_{later:08d}.safetensors").unlink()
        train(TASK, [faces], out, overrides=[judge], resume=True)
        AcceleratorState._reset_state(reset_partial_state=True)
        for name in ("best.safetensors", "last.safetensors", "checkpoints/step_00000008.safetensors"):
            whole, resumed = load_file(finished / name), load_file(out / name)
            assert whole.keys() == resumed.keys()
            assert all(torch.equal(value, resumed[key]) for key, value in whole.items()), (step, name)
        assert rows(out) == rows(finished)


def test_every_network_has_its_own_optimizer_and_start(finished: Path, faces: Path, judge: str) -> None:
    recipe = read_recipe(toy.ToyRecipe, TASK.recipe_path, [judge])
    made = TASK.objective(recipe, torch.device("cpu"))
    state = TrainingState(Accelerator(cpu=True), toy.StyleNetwork(), made, recipe.training)
    state.set_learning_rate(0.25)
    settings = {name: optimizer.param_groups[0] for name, optimizer in state.optimizers.items()}
    assert {name: group["lr"] for name, group in settings.items()} == {
        "network": 0.125,
        "early": 0.5,
        "late": 0.25,
    }
    assert {name: group["weight_decay"] for name, group in settings.items()} == {
        "network": 0.01,
        "early": 1e-4,
        "late": 1e-4,
    }
    assert settings["early"]["betas"] == (0.0, 0.9) and settings["network"]["betas"] == (0.9, 0.99)

    middle, end = (load_file(finished / f"checkpoints/step_{step:08d}.safetensors") for step in (4, 8))
    steps = {
        name: {float(s[f"optimizer.{name}.0.step"]) for s in (end,)} for name in ("network", "early", "late")
    }
    assert steps == {"network": {8.0}, "early": {8.0}, "late": {4.0}}
    assert not any(name.startswith("optimizer.late.") for name in middle)
    late = [row["late"] for row in rows(finished)]
    assert late[:4] == [""] * 4 and all(late[4:])


def test_discriminators_see_all_outputs_and_the_batch(faces: Path, judge: str, tmp_path: Path) -> None:
    import dataclasses

    seen: list[tuple[Outputs, Sample]] = []

    def watched(recipe: toy.ToyRecipe, device: torch.device) -> object:
        made = toy.objective(recipe, device)

        def watch(module: nn.Module, outputs: Outputs, batch: Sample) -> torch.Tensor:
            seen.append((outputs, batch))
            return made.discriminators["early"].loss(module, outputs, batch)

        early = dataclasses.replace(made.discriminators["early"], loss=watch)
        return dataclasses.replace(made, discriminators={"early": early})

    task = dataclasses.replace(TASK, objective=watched)  # type: ignore[arg-type]
    train(task, [faces], tmp_path, overrides=[judge, "training.steps=1", "training.accumulate=2"])
    assert len(seen) == 2
    for outputs, batch in seen:
        assert outputs["styled"].shape == (4, 3, 32, 32) and outputs["mask"].shape == (4, 1, 32, 32)
        assert batch.keys() == {"face", "style", "places", "worn"}


def test_people_are_on_one_side_and_every_batch_has_the_classes_in_their_ratio(
    faces: Path, judge: str
) -> None:
    recipe = read_recipe(toy.ToyRecipe, TASK.recipe_path, [judge])
    records = TASK.index(recipe, find_photos([faces]))
    training, held_out = split_records(records, recipe.training.validation_photos, 8)
    assert {r.group for r in training}.isdisjoint({r.group for r in held_out})
    assert (len(training), len(held_out)) == (18, 6)
    samples = TASK.training_set(recipe, training)
    for process in (0, 1):
        for batch in StepSampler(recipe.training, 3, process, 2):
            worn = Counter(int(samples[index]["worn"]) for index in batch)
            assert worn == {0: 2, 1: 1, 2: 1}


def test_another_helper_is_another_run(finished: Path, faces: Path, tmp_path: Path, judge: str) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = Path(judge.partition("=")[2])
    before = path.read_bytes()
    toy.write_judge(path, seed=1)
    try:
        with pytest.raises(UserError, match="another run: helpers.judge was"):
            train(TASK, [faces], tmp_path / "run", overrides=[judge], resume=True)
    finally:
        path.write_bytes(before)


def test_examples_hold_what_is_no_picture_as_it_is(faces: Path, judge: str) -> None:
    recipe = read_recipe(toy.ToyRecipe, TASK.recipe_path, [judge])
    graph = TASK.deployable(toy.StyleNetwork(), 32, 32)
    examples = task_examples(TASK, recipe, find_photos([faces]), graph, count=3, seed=1)
    assert [example.inputs["style"].tolist() for example in examples] == np.eye(3).tolist()
    for example in examples:
        assert example.ground_truth is None and example.inputs["face"].shape == (32, 32, 3)
        levels = example.inputs["face"] * 255.0
        assert np.abs(levels - np.rint(levels)).max() < 1e-3
        assert example.inputs["places"].shape == (6,)
    refuse_unreal(examples)


def test_what_needs_a_degradation_says_that_there_is_none(
    finished: Path, faces: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="toy has no kinds of degradation to show"):
        contact_sheet(TASK, [faces], tmp_path / "sheet.png")
    with pytest.raises(UserError, match="toy has no synthesis: give pairs"):
        evaluate(TASK, finished / "best.safetensors", faces, synthesize="beard")
    with pytest.raises(UserError, match="toy takes face, style, places: pairs of one input"):
        evaluate(TASK, finished / "best.safetensors", faces)
