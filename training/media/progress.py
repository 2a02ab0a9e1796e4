"""The progress bar on stderr: the current step, how much is done, and the time left.

with progress_bar() as progress:
    task = progress.add_task("verify", total=9)
    progress.advance(task)
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


def progress_bar(
    *columns: ProgressColumn, console: Console | None = None, auto_refresh: bool = True
) -> Progress:
    """A progress bar, used as a context manager; ``columns`` are appended to the usual ones.

    Args:
        auto_refresh: False where a redrawing thread would disturb a measurement.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),  # file names may contain brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        *columns,
        console=console or Console(stderr=True),
        auto_refresh=auto_refresh,
        refresh_per_second=3,
    )
