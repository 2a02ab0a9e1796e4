"""Reads JSON files that may come from strangers into typed classes, and writes the JSON Schema of those classes.

    proof = parse(PROOF, read_json(path, max_bytes=64 << 20, remedy="verify again"), str(path), remedy="verify again")

Everything unexpected is one `UserError` of one line: NaN, numbers beyond float64, wrong types, missing and unknown
keys. Types are strict: 256.0 is not an integer, and "1" is not a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from afterlens.training.media.errors import UserError

T = TypeVar("T")

STRICT = ConfigDict(
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    ser_json_inf_nan="constants",  # which `json_text` refuses, rather than a silent null
    use_attribute_docstrings=True,
    json_schema_serialization_defaults_required=True,
)
"""Of every class that is read from a file. The docstrings below the fields become descriptions in the schema."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]  # the integers that every JSON reader holds exactly
Positive = Annotated[int, Field(ge=1, le=2**53 - 1)]
Side = Annotated[int, Field(ge=1, le=16384)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def read_json(path: Path, *, max_bytes: int, remedy: str) -> Any:
    """The document in a JSON file. Raises UserError, which ends with `remedy`, where it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and a device has no end
            raise UserError(f"{path}: expected a file, got a folder or a device")
        if path.stat().st_size > max_bytes:
            raise UserError(f"{path}: larger than {max_bytes} bytes, this is no {path.name}")
        text = path.read_text("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({one_line(error)}); {remedy}") from error


def parse(adapter: TypeAdapter[T], document: Any, name: str, *, remedy: str) -> T:
    """The document as an object of its class. Raises UserError that names the first wrong place."""
    try:
        # As text: only there does pydantic take a list for a tuple and nothing else for what it is not.
        return adapter.validate_json(json.dumps(document, allow_nan=False))
    except ValidationError as error:
        raise UserError(f"{name}: {fault(error)}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not valid JSON ({one_line(error)}); {remedy}") from error


def fault(error: ValidationError) -> str:
    """The deepest thing that is wrong, as "$.artifacts[0].width: Input should be ..., got 0"."""
    worst = max(error.errors(include_url=False), key=lambda entry: len(entry["loc"]))
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in worst["loc"])
    got = "" if worst["type"] in ("missing", "value_error") else f", got {_short(worst['input'])}"
    return one_line(f"${place}: {worst['msg']}{got}")


def document_of(adapter: TypeAdapter[T], value: T) -> dict[str, Any]:
    """An object as the JSON document that is written of it."""
    document: dict[str, Any] = adapter.dump_python(value, mode="json")
    return document


def json_text(document: Mapping[str, Any]) -> str:
    """A document as text. Raises ValueError for a number that JSON does not have."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema_text(adapter: TypeAdapter[Any], title: str, mode: Literal["validation", "serialization"]) -> str:
    """The JSON Schema of a document, as it is committed beside the classes.

    Args:
        mode: "serialization" for documents that only we write: each key is there, whether or not it has a default.
    """
    schema = adapter.json_schema(mode=mode)
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps({**header, **_without_titles(schema), **header}, indent=2, ensure_ascii=False) + "\n"


def one_line(error: object) -> str:
    """A message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _without_titles(schema: Any) -> Any:
    """Pydantic repeats every name as a title; properties that are called so stay."""
    if isinstance(schema, Mapping):
        return {
            key: {name: _without_titles(value) for name, value in part.items()}
            if key in ("properties", "$defs")
            else _without_titles(part)
            for key, part in schema.items()
            if not (key == "title" and isinstance(part, str))
        }
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_without_titles(part) for part in schema]
    return schema


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:40]} is too large")
    return number
