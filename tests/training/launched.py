"""What `accelerate launch` starts in test_loop.py: each process trains, resumes, and reports its own weights.

accelerate launch --multi_gpu --num_processes 2 tests/training/launched.py FOLDER
"""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from afterlens.training.loop import train
from afterlens.training.task import Objective, Task
from tests.training.runs import PHOTOS, TASK, TINY

OVERRIDES = [
    *TINY,
    "training.steps=4",
    "training.checkpoint_every=1",
    "training.keep=4",
    "loss.adversarial=0.01",
    "training.accumulate=2",
    "training.workers=1",
]


def digest(module: nn.Module) -> str:
    return hashlib.sha256(
        b"".join(value.numpy().tobytes() for value in module.state_dict().values())
    ).hexdigest()


def watched(task: Task, modules: list[nn.Module]) -> Task:
    """The task, with every module that it builds added to ``modules``: first the network, then the discriminator."""

    def build_network(recipe: object) -> nn.Module:
        modules.append(task.build_network(recipe))
        return modules[-1]

    def objective(*arguments: object) -> Objective:
        made = task.objective(*arguments)  # type: ignore[arg-type]
        modules.extend(discriminator.module for discriminator in made.discriminators.values())
        return made

    return dataclasses.replace(task, build_network=build_network, objective=objective)


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    modules: list[nn.Module] = []
    # Two runs here share one process group: joining a second one within the same launch can hang in Gloo.
    Accelerator.end_training = lambda self: None
    train(watched(TASK, modules), [PHOTOS], folder / "whole", overrides=OVERRIDES)
    told = {"network": digest(modules[0]), "discriminator": digest(modules[1])}
    (folder / f"rank{rank}.json").write_text(json.dumps(told))

    # The same again from the checkpoint in the middle.
    if rank == 0:
        shutil.copytree(folder / "whole", folder / "copy")
        for step in (3, 4):
            (folder / f"copy/checkpoints/step_{step:08d}.safetensors").unlink()
        (folder / "copy").rename(folder / "resumed")
    while not (folder / "resumed").exists():
        time.sleep(0.01)
    train(TASK, [PHOTOS], folder / "resumed", overrides=OVERRIDES, resume=True)
