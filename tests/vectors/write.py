"""Writes the vectors that Python, Kotlin, Swift and TypeScript share: `python -m tests.vectors.write`.

They are frozen: a change here is a change of what every app must do. test_vectors.py fails where the files differ from
what this writes. docs/vectors.md defines the conventions.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.vectors import benchmark, contracts, geometry, golden, timing

FOLDER = Path(__file__).parent


def vectors() -> dict[str, bytes]:
    """Every file, by its path in this folder."""
    return {
        "geometry.json": lines(geometry.document()),
        "statistics.json": lines(timing.document()),
        "bench_expected.json": contracts.text_of(benchmark.document()),
        "golden.json": lines(golden.document()),
        **{f"golden/{name}": data for name, data in golden.files().items()},
        **{f"contracts/{name}": data for name, data in contracts.files().items()},
    }


def lines(document: dict[str, Any]) -> bytes:
    """JSON with one entry a line, so that a difference can be read."""
    parts = []
    for key, value in document.items():
        rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else None
        parts.append(f"{json.dumps(key)}: " + (json.dumps(value) if rows is None else f"[\n{rows}\n]"))
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def main() -> None:
    """Replace the files."""
    for folder in ("contracts", "golden"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
    for name, data in vectors().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
