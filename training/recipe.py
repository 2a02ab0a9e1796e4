"""Recipes: a TOML file for each task, read into small frozen models; unknown keys are errors.

recipe = read_recipe(ReflectionRecipe, Path("training/reflection/recipe.toml"), ["training.steps=100"])
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from afterlens.training.media.errors import UserError


class Recipe(BaseModel):
    """A recipe or one of its tables: every key must be known and of its type, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


R = TypeVar("R", bound=Recipe)


def expect(holds: Callable[[Any], bool], expected: str) -> AfterValidator:
    """The range of a key, to annotate its type with: ``Count`` below is an int of 1 or more."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


def require(key: str, value: object, holds: bool, expected: str) -> None:
    """For rules that need several keys: ValueError that says what was got and what was expected, unless ``holds``."""
    if not holds:
        raise ValueError(f"{key} is {value!r}, expected {expected}")


def require_weight(key: str, *terms: float) -> None:
    """For a table of loss terms: ValueError unless one of them has a weight, so that there is something to learn from."""
    require(key, sum(terms), sum(terms) > 0.0, "a weight for one of its terms")


# Larger integers do not fit into the libraries that take them.
Count = Annotated[int, expect(lambda n: 1 <= n < 2**31, "1 or more, and below 2^31")]
WholeNumber = Annotated[int, expect(lambda n: 0 <= n < 2**31, "zero or more, and below 2^31")]
Weight = Annotated[float, expect(lambda x: 0.0 <= x < math.inf, "zero or more")]
Positive = Annotated[float, expect(lambda x: 0.0 < x < math.inf, "above zero")]
Share = Annotated[float, expect(lambda x: 0.0 <= x <= 1.0, "a share from 0 to 1")]


class TrainingRecipe(Recipe):
    """The ``[training]`` table, the same for every task."""

    steps: Count  # optimizer steps
    batch: Count  # samples in a micro-batch of one process; a step takes batch x accumulate x processes
    crop: Annotated[int, expect(lambda n: n >= 16, "16 or more")]  # side of the square samples in pixels
    learning_rate: Positive
    warmup: WholeNumber  # steps of linear warm-up before the cosine
    weight_decay: Weight
    clip: Positive  # largest norm of the gradient
    ema: Annotated[
        float, expect(lambda x: 0.0 <= x < 1.0, "a decay from 0 to below 1")
    ]  # of averaged weights
    accumulate: Count  # micro-batches in a step
    precision: Literal["no", "bf16", "fp16"]  # "no" is float32; fp16 needs a GPU
    seed: int
    workers: WholeNumber  # loader processes; 0 = samples are made between the steps
    validation_photos: Count  # photos held out, picked by the hash of their groups
    validation_pairs: Count = 8  # captured pairs held out likewise, where there are any
    validate_every: Count  # steps
    checkpoint_every: Count  # steps
    keep: Count  # checkpoints kept


def require_crop(training: TrainingRecipe, multiple: int) -> None:
    """ValueError unless a network whose input's sides are multiples of ``multiple`` can take the crops."""
    crop = training.crop
    require("training.crop", crop, crop % multiple == 0, f"a multiple of {multiple}")


def read_recipe(kind: type[R], path: Path, overrides: Sequence[str] = ()) -> R:
    """Reads ``path`` into the model ``kind``; ``overrides`` are "table.key=value" with a TOML value.

    Raises:
        UserError: for a missing file, bad TOML, an unknown or missing key, a value of the wrong type or out of range.
    """
    recipe = build(kind, read_table(path), str(path))
    if not overrides:
        return recipe
    table = read_table(path)
    for override in overrides:
        _apply(table, override)
    return build(kind, table, " ".join(f"-s {override}" for override in overrides))


def read_table(path: Path) -> dict[str, Any]:
    """The tables of a recipe file as they are. Raises UserError where it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: recipe not readable ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML recipe ({error})") from error


def build(kind: type[R], table: Mapping[str, Any], where: str) -> R:
    """Builds the model ``kind`` from a nested mapping; the errors of ``read_recipe``, naming ``where``."""
    try:
        # As JSON, whose lists may become tuples even where types are strict.
        return kind.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        first = min(error.errors(), key=_precedence)
        raise UserError(f"{where}: {_explained(kind, first)}") from error


def _precedence(error: ErrorDetails) -> tuple[int, int, str]:
    """Outer tables come first; a mistyped key is named before the one that is missing in its place."""
    rank = 0 if error["type"] == "extra_forbidden" else 1 if _lacks_key(error) else 2
    return len(error["loc"]), rank, str(error["loc"])


def _lacks_key(error: ErrorDetails) -> bool:
    """Of a list that is too short, pydantic calls the item missing."""
    return error["type"] == "missing" and isinstance(error["loc"][-1], str)


_TYPES = {
    "int_type": "int",
    "float_type": "float",
    "string_type": "str",
    "bool_type": "bool",
    "model_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
}


def _explained(kind: type[Recipe], error: ErrorDetails) -> str:
    """One line for one of pydantic's errors: the table, the key, what was got and what was expected."""
    names = [part for part in error["loc"] if isinstance(part, str)]  # numbers are places in a list
    tables: list[str] = []
    while names and (inner := _table(kind, names[0])) is not None:
        # An error of the table itself ("training is 5") names it as a key, one inside it as the place.
        if len(names) == 1 and error["type"] != "value_error":
            break
        kind = inner
        tables.append(names.pop(0))
    place = "".join(f"{table}: " for table in tables)
    key, given, context = ".".join(names), error["input"], error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return f"{place}unknown key {key!r}, expected one of {', '.join(sorted(kind.model_fields))}"
    if _lacks_key(error):
        return f"{place}key {key!r} is missing"
    if error["type"] == "value_error":
        reason = str(context["error"])
        return f"{place}{key} is {given!r}, {reason}" if names else f"{place}{reason}"
    if error["type"] == "literal_error":
        wanted = context["expected"].replace("'", '"')
    elif error["type"] in ("missing", "too_long"):
        wanted = f"a list of {len(get_args(kind.model_fields[key].annotation))}"
    else:
        wanted = _TYPES.get(error["type"], error["msg"])
    return f"{place}{key} is {given!r}, expected {wanted}"


def _table(kind: type[Recipe], name: str) -> type[Recipe] | None:
    field = kind.model_fields.get(name)
    found = field.annotation if field is not None else None
    return found if isinstance(found, type) and issubclass(found, Recipe) else None


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
