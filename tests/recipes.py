"""Recipes with few kinds of degradation, for tests that want to know which ones they get."""

from typing import Any

from afterlens.training.recipe import read_recipe
from afterlens.training.task import Task


def with_kinds(task: Task, *kinds: str) -> Any:
    """The task's recipe, of these kinds only and in this order."""
    shares = ", ".join(f"{kind} = 1.0" for kind in kinds)
    return read_recipe(task.recipe_type, task.recipe_path, [f"synthesis.kinds={{{shares}}}"])
