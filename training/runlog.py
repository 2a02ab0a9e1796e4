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

from training.events import EventFile
from training.images import atomic_path

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
        """After optimizer step ``step``: its weighted losses and, as "psnr", the batch's PSNR in dB."""
        now = time.monotonic()
        speed = (step - self._first) / max(now - self._start, 1e-9)
        left = timedelta(seconds=round((self.steps - step) / speed))
        # The most telling first: a narrow terminal cuts the end off.
        note = f"{left} left  {speed:.2f} it/s  PSNR {values['psnr']:.2f} dB  " + "  ".join(
            f"{name} {value:.4f}" for name, value in values.items() if name != "psnr"
        )
        self._progress.update(self._bar, completed=step, note=note)
        if not self.console.is_terminal and (now >= self._next_line or step == self.steps):
            self._next_line = now + _SECONDS_A_LINE
            self.line(f"step {step}/{self.steps}  {note}")
        if step % _STEPS_A_POINT == 0 or step == self.steps:
            self._events.add_scalars(step, {f"training/{name}": value for name, value in values.items()})

    def validation(
        self, step: int, score: float, source: float, values: Mapping[str, float], pictures: Tensor
    ) -> None:
        """After a validation: PSNR of results and inputs in dB, the step's ``values``, a ``(3, H, W)`` picture grid."""
        self.line(f"step {step}: held-out PSNR {score:.2f} dB (input {source:.2f} dB)")
        if not self._rows:
            self._rows.append(["step", "validation_psnr", "input_psnr", *values])
        self._rows.append(
            [str(step), f"{score:.4f}", f"{source:.4f}", *(f"{value:.6f}" for value in values.values())]
        )
        with atomic_path(self._csv) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(self._rows)
        self._events.add_scalars(step, {"validation/psnr": score, "validation/input_psnr": source})
        self._events.add_picture(step, "validation/input_result_target", pictures)

    def line(self, text: str) -> None:
        """One line, above the bar where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _rows_up_to(path: Path, step: int) -> list[list[str]]:
    """The header and the rows of metrics.csv up to ``step``; empty if there are none."""
    if step == 0 or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = csv.reader(file) or [[]]
    return [header, *(row for row in rows if row and row[0].isdigit() and int(row[0]) <= step)]
