"""Help that opens with a command to paste: the first line of a verb's docstring."""

import os
import shlex
import shutil
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from afterlens.samples import FOLDER


class _OpensWithExample:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.example, _, kwargs["help"] = cleandoc(kwargs["help"]).partition("\n\n")
        super().__init__(*args, **kwargs)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        typer.echo(as_pasted(self.example))
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Verb(_OpensWithExample, TyperCommand):
    """`afterlens VERB`."""


class Program(_OpensWithExample, TyperGroup):
    """`afterlens` itself."""


def as_pasted(example: str) -> str:
    """The example with the program and the bundled pictures named as they can be reached from this directory."""
    samples = shlex.quote(os.path.relpath(FOLDER))
    return example.replace("afterlens ", f"{_program()} ").replace("afterlens/samples", samples)


def _program() -> str:
    """Not everybody has activated the environment."""
    if shutil.which("afterlens") is not None:
        return "afterlens"
    started = Path(sys.argv[0])
    if started.name == "__main__.py":  # python -m afterlens
        return f"{shlex.quote(sys.executable)} -m afterlens"
    return shlex.quote(os.path.relpath(started))
