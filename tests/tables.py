"""Tables for people, as their cells."""

import io

from rich.console import Console, RenderableType


def cells(view: RenderableType) -> list[list[str]]:
    """The rows below the header of all tables in what is printed."""
    console = Console(width=250, file=io.StringIO(), record=True)
    console.print(view)
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
