"""Benchmark documents: the JSON that the host benchmark and the apps write, held against `schema.json`.

document = read_document(Path("bench.json"))
for result in document["results"]:
    print(result["id"], result["timing"]["p50_ms"])
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from afterlens.training.media.errors import UserError

SCHEMA_FILE = Path(__file__).with_name("schema.json")
SCHEMA_VERSION = 1


def read_document(path: Path) -> dict[str, Any]:
    """Read and check a benchmark document. Raises UserError, one line, where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}), expected a file of `afterlens bench`") from error
    check(document, str(path))
    return dict(document)


def check(document: Any, name: str) -> None:
    """Raise UserError, naming `name`, unless the document fits the schema, and ratios refer to single results."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    worst = best_match(Draft202012Validator(_schema()).iter_errors(document))
    if worst is not None:
        message = worst.message if len(worst.message) <= 200 else worst.message[:200] + "..."
        raise UserError(
            f"{name}: {worst.json_path}: {message}; expected what benchmarks/{SCHEMA_FILE.name} says"
        )
    ids = [result["id"] for result in document["results"]]
    if len(set(ids)) < len(ids):
        raise UserError(f"{name}: two results have the same id")
    for ratio in document["ratios"]:
        for key in ("result", "baseline"):
            if ratio[key] not in ids:
                raise UserError(f"{name}: the {key} {ratio[key]!r} of a ratio is not among the results")


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is too large")
    return number
