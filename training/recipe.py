"""Recipes: a TOML file a task, read into small typed dataclasses; an unknown key is an error.

recipe = read_recipe(ReflectionRecipe, Path("training/reflection/recipe.toml"), ["training.steps=100"])
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from afterlens.training.media.errors import UserError

R = TypeVar("R")


@dataclass(frozen=True)
class TrainingRecipe:
    """The ``[training]`` table, the same for every task."""

    steps: int  # optimizer steps
    batch: int  # samples a micro-batch and process; a step takes batch x accumulate x processes
    crop: int  # side of the square samples in pixels
    learning_rate: float
    warmup: int  # steps of linear warm-up before the cosine
    weight_decay: float
    clip: float  # largest norm of the gradient
    ema: float  # decay of the averaged weights
    accumulate: int  # micro-batches a step
    precision: str  # "no" (float32), "bf16" or "fp16" (fp16 needs a GPU)
    seed: int
    workers: int  # loader processes; 0 = samples are made in between the steps
    validation_photos: int  # photos held out of training, picked by the hash of their names
    validate_every: int  # steps
    checkpoint_every: int  # steps
    keep: int  # checkpoints kept

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        for key in (
            "steps",
            "batch",
            "accumulate",
            "validation_photos",
            "validate_every",
            "checkpoint_every",
            "keep",
        ):
            require(key, getattr(self, key), getattr(self, key) >= 1, "1 or more")
        for key in ("warmup", "workers", "weight_decay"):
            require(key, getattr(self, key), 0 <= getattr(self, key) < math.inf, "zero or more")
        for key in ("learning_rate", "clip"):
            require(key, getattr(self, key), 0.0 < getattr(self, key) < math.inf, "above zero")
        require("crop", self.crop, self.crop >= 16, "16 or more")
        require("ema", self.ema, 0.0 <= self.ema < 1.0, "a decay from 0 to below 1")
        require(
            "precision", self.precision, self.precision in ("no", "bf16", "fp16"), '"no", "bf16" or "fp16"'
        )


def require(key: str, value: object, holds: bool, expected: str) -> None:
    """For a recipe's ``__post_init__``: ValueError that says what was got and what was expected, unless ``holds``."""
    if not holds:
        raise ValueError(f"{key} is {value!r}, expected {expected}")


def read_recipe(kind: type[R], path: Path, overrides: Sequence[str] = ()) -> R:
    """Reads ``path`` into the dataclass ``kind``; ``overrides`` are "table.key=value" with a TOML value.

    Raises:
        UserError: for a missing file, bad TOML, an unknown or missing key, a value of the wrong type or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: recipe not readable ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML recipe ({error})") from error
    for override in overrides:
        _apply(table, override)
    return build(kind, table, str(path))


def build(kind: type[R], table: Mapping[str, Any], where: str) -> R:
    """Builds the dataclass ``kind`` from a nested mapping; the errors of ``read_recipe``, naming ``where``."""
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in table:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}, expected one of {', '.join(sorted(known))}")
    for key in sorted(known):
        if key not in table:
            raise UserError(f"{where}: key {key!r} is missing")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:  # from the dataclass's own __post_init__
        raise UserError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}, expected a table")
        return build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            raise UserError(f"{where} is {value!r}, expected a list of {len(items)}")
        return tuple(_value(item, v, where) for item, v in zip(items, value, strict=True))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}, expected a table")
        return {str(key): _value(typing.get_args(hint)[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{where} is {value!r}, expected {hint.__name__}")
    return value


def _apply(table: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise UserError(f"override {override!r}: expected table.key=value, for example training.steps=1000")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()  # a bare word is a string
    *parents, key = name.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"override {override!r}: {parent!r} is not a table")
    table[key] = value
