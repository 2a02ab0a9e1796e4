"""The tasks, by name."""

from __future__ import annotations

from afterlens.training.beard.task import TASK as BEARD
from afterlens.training.deblur.task import TASK as DEBLUR
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.task import TASK as REFLECTION
from afterlens.training.swap.task import TASK as SWAP
from afterlens.training.task import Task
from afterlens.training.udc.task import TASK as UDC

TASKS: dict[str, Task] = {task.name: task for task in (REFLECTION, UDC, DEBLUR, BEARD, SWAP)}


def find_task(name: str) -> Task:
    """The task called ``name``; UserError that lists them all if there is none."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]
