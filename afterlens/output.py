"""What a verb prints: one table or one JSON document on stdout; all else goes to stderr."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(result: Any, as_json: bool, view: "Callable[[], RenderableType]") -> None:
    """Print `result` as JSON, or the view of it."""
    from rich.console import Console

    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        # Without a terminal nothing needs to be cut to fit.
        Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160).print(view())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    """A table of plain text."""
    from rich.table import Table
    from rich.text import Text

    view = Table(*columns)
    for row in rows:
        view.add_row(*(Text(cell, overflow="fold") for cell in row))  # Text: file names are no markup
    return view


@contextmanager
def library_output_on_stderr() -> Iterator[None]:
    """Within this context whatever libraries print, C++ ones too, goes to stderr: stdout is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
