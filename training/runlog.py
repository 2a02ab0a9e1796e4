"""What a run shows and writes down while it goes: a bar or lines on stderr, metrics.csv, TensorBoard files."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, track
from rich.table import Column
from torch import Tensor

from afterlens.training.events import EventFile
from afterlens.training.media.images import atomic_path

T = TypeVar("T")

_SECONDS_A_LINE = 30.0  # where stderr is no terminal
_STEPS_A_POINT = 10  # in TensorBoard


def tracked(items: Iterable[T], total: int, title: str, console: Console) -> Iterable[T]:
    """The items, with a bar on ``console`` where that is a terminal, else with a line at the start."""
    if not console.is_terminal:
        console.print(f"{title} ({total})", highlight=False)
    return track(items, title, total=total, console=console, disable=not console.is_terminal, transient=True)


class RunLog:
    """The log of the run in the folder ``out``, for its main process; ``with`` closes it.

    Args:
        step: where the run goes on from. Rows of metrics.csv beyond it are dropped and TensorBoard forgets its points,
            since a resumed run writes them again.

    Raises:
        UserError: here and in every method if a file can't be written.
    """

    def __init__(self, out: Path, title: str, steps: int, step: int, console: Console) -> None:
        self.steps, self.console = steps, console
        self._csv = out / "metrics.csv"
        self._rows = _rows_up_to(self._csv, step)
        self._events = EventFile(out / "tensorboard", step + 1)
        self._start, self._first, self._next_line = time.monotonic(), step, 0.0

        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=len(title))),
            BarColumn(20),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(steps)) + 1)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._progress.add_task(title, total=steps, completed=step, note="")

    def __enter__(self) -> RunLog:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._events.close()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """After optimizer step ``step``: its weighted losses and what the task monitors, such as "psnr" in dB."""
        now = time.monotonic()
        speed = (step - self._first) / max(now - self._start, 1e-9)
        left = timedelta(seconds=round((self.steps - step) / speed))
        # The most telling first: a narrow terminal cuts the end off.
        psnr = f"PSNR {values['psnr']:.2f} dB  " if "psnr" in values else ""
        note = f"{left} left  {speed:.2f} it/s  {psnr}" + "  ".join(
            f"{name} {value:.4f}" for name, value in values.items() if name != "psnr"
        )
        self._progress.update(self._bar, completed=step, note=note)
        if not self.console.is_terminal and (now >= self._next_line or step == self.steps):
            self._next_line = now + _SECONDS_A_LINE
            self.line(f"step {step}/{self.steps}  {note}")
        if step % _STEPS_A_POINT == 0 or step == self.steps:
            self._events.add_scalars(step, {f"training/{name}": value for name, value in values.items()})

    def validation(
        self,
        step: int,
        metrics: Mapping[str, float | None],
        values: Mapping[str, float],
        pictures: Tensor,
        unit: str = "dB",
    ) -> None:
        """After a validation.

        Args:
            metrics: by column, the score first; None where there was nothing to measure.
            values: the step's losses.
            pictures: a grid, ``(3, H, W)``.
            unit: of the metrics; "" for none.
        """
        known = {name: value for name, value in metrics.items() if value is not None}
        told = (f"{name.removeprefix('validation_').replace('_', ' ')} {known[name]:.2f}" for name in known)
        self.line(f"step {step}: held-out{f' {unit}' if unit else ''}: {', '.join(told)}")
        row = {"step": str(step)} | {name: f"{known[name]:.4f}" if name in known else "" for name in metrics}
        self._rows.append(row | {name: f"{value:.6f}" for name, value in values.items()})
        # A run that an older version began has other columns: its own stay, the new ones join them.
        columns = dict.fromkeys(name for row in self._rows for name in row)
        with atomic_path(self._csv) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        tags = {f"validation/{name.removeprefix('validation_')}": value for name, value in known.items()}
        self._events.add_scalars(step, tags)
        self._events.add_picture(step, "validation/input_result_target", pictures)

    def line(self, text: str) -> None:
        """One line, above the bar where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _rows_up_to(path: Path, step: int) -> list[dict[str, str]]:
    """The rows of metrics.csv up to ``step``, by column; empty if there are none."""
    if step == 0 or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = csv.reader(file) or [[]]
    kept = [row for row in rows if row and row[0].isdigit() and int(row[0]) <= step]
    return [dict(zip(header, row, strict=False)) for row in kept]
