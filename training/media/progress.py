"""The progress bar on stderr: the current step, how much is done, and the time left.

with progress_bar() as progress:
    task = progress.add_task("verify", total=9)
    progress.advance(task)
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class _Bar(Progress):
    """A progress bar that vanishes where the work fails: the error is all that is left to read."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
            return
        self.live.transient = True
        self.live.stop()  # without the empty line that `stop` adds where there is no terminal


def progress_bar(
    *columns: ProgressColumn, console: Console | None = None, auto_refresh: bool = True
) -> Progress:
    """A progress bar, used as a context manager; ``columns`` are appended to the usual ones.

    Args:
        auto_refresh: False where a redrawing thread would disturb a measurement.
    """
    return _Bar(
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
