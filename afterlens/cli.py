"""The console command: the verbs, their exit codes, and one line for each error.

    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

Each verb is one file in `verbs/`: it parses its arguments, calls one function of the library and shows what that
returns. Heavy libraries (PyTorch, TensorFlow, coremltools) are imported inside the verb that needs them, so that
`afterlens --help` answers at once. Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a gate
failed or an input was skipped, 2 bad usage or input, 70 a bug of ours, 130 interrupted, 141 the reader of stdout
went away, 143 terminated.
"""

import contextlib
import io
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer

from afterlens.help import Program, Verb
from afterlens.training.media.errors import GateFailed, InputsSkipped, UserError
from afterlens.verbs.align import align
from afterlens.verbs.bench import bench
from afterlens.verbs.compare import compare
from afterlens.verbs.convert import convert
from afterlens.verbs.enroll import enroll
from afterlens.verbs.evaluate import evaluate
from afterlens.verbs.heads import heads
from afterlens.verbs.info import info
from afterlens.verbs.lint import lint
from afterlens.verbs.live import live
from afterlens.verbs.mark import mark
from afterlens.verbs.psf import psf
from afterlens.verbs.report import report
from afterlens.verbs.restore import restore
from afterlens.verbs.train import train
from afterlens.verbs.triplets import triplets
from afterlens.verbs.verify import verify

app = typer.Typer(
    cls=Program,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

    Train networks that restore photos, convert them to TFLite and Core ML, and prove that the result is right.

    Exit codes: 0 done, 1 a gate failed or an input was skipped, 2 bad usage or input.
    """,
)
for verb in (
    train,
    evaluate,
    align,
    psf,
    heads,
    triplets,
    enroll,
    restore,
    mark,
    convert,
    verify,
    lint,
    bench,
    compare,
    report,
    live,
    info,
):
    app.command(cls=Verb)(verb)


LONGEST = 2000
"""Characters of an error message: a line that quotes a whole file helps nobody."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"afterlens {version('afterlens')}")
        raise typer.Exit


@app.callback()
def program(  # noqa: D103 - a docstring would replace the help above
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class _Stderr:
    """stderr that may be full or closed: what cannot be said there must not change the exit code."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    _open_closed_streams()
    # File names need not be valid text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, _Stderr):
        sys.stderr = _Stderr(sys.stderr)
    # So that `kill` removes half-written files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(prog_name="afterlens", standalone_mode=False) or 0
        sys.stdout.flush()
    except UserError as error:
        code = _fail(2, str(error))
    except GateFailed as error:
        code = _fail(1, f"gate failed: {error}")
    except InputsSkipped as error:
        code = _fail(1, str(error))
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):  # Typer ends with 1 there
            raise
        code = _without_reader()
    except BrokenPipeError:
        code = _without_reader()
    except OSError as error:  # a full disk, a name that is too long, a file that may not be read
        _drop_output()
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        code = _fail(2, f"{place}{error.strerror or error}")
    except MemoryError:
        code = _fail(2, _MEMORY)
    except typer.TyperException as error:  # wrong options and arguments; no message once the help was shown
        message = error.format_message()
        code = _fail(2, f"{message} (see `{_help_of(error)}`)") if message else 2
    except Exception as error:
        if os.environ.get("AFTERLENS_DEBUG"):
            raise
        if isinstance(error, SystemError | RuntimeError | ImportError) and _says_memory(error):
            sys.exit(_fail(2, _MEMORY))
        kind = type(error).__name__
        code = _fail(70, f"internal error, please report it: {kind}: {error} (AFTERLENS_DEBUG=1 shows where)")
    if code == 130:
        _fail(130, "interrupted")
    sys.exit(code)


_MEMORY = "not enough memory; free some, or take smaller pictures"


def _says_memory(error: Exception) -> bool:
    """How PyTorch says it, libraries in C that return without an exception, and who loads a library."""
    signs = (
        "allocate memory",
        "without setting an exception",
        "without exception set",
        "failed to map segment",
    )
    return any(sign in str(error) for sign in signs)


def _open_closed_streams() -> None:
    """A shell's `>&-` closes a stream: Python has None for it then, and the next file to be opened takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - until the end


def _fail(code: int, message: str) -> int:
    line = " ".join(message.split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    return code


def _terminate(*_: object) -> NoReturn:
    """Leave, after ending all processes that were started: none must outlive this one."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:  # it has ended by itself
            continue
    sys.exit(143)


def _without_reader() -> int:
    """The exit code of a program whose reader went away, as shells give it for SIGPIPE."""
    _drop_output()
    return 141


def _drop_output() -> None:
    """What is still to be printed on stdout cannot be: Python would fail with it at its end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'afterlens'} --help"
