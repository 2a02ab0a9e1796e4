"""The bar that long work shows on stderr: what is being done, how much of it, and the time left.

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
    """A bar, to be used as a context; ``columns`` come after the usual ones.

    Args:
        auto_refresh: False where a thread that redraws would disturb what is measured.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),  # names of files, in which brackets are no markup
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        *columns,
        console=console or Console(stderr=True),
        auto_refresh=auto_refresh,
        refresh_per_second=3,  # is enough to look at
    )
