"""The console command: the verbs, their exit codes, and one line for each error.

    afterlens restore reflection afterlens/samples/degraded/shadow.jpg -o build/shadow.png

Each verb is one file in `verbs/`: it parses its arguments, calls one function of the library and shows what that
returns. Heavy libraries (PyTorch, TensorFlow, coremltools) are imported inside the verb that needs them, so that
`afterlens --help` answers at once. Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a gate
failed, 2 bad usage or input, 70 a bug of ours, 130 interrupted, 143 terminated.
"""

import io
import os
import signal
import sys
from typing import NoReturn

import typer

from afterlens.help import Program, Verb
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.verbs.align import align
from afterlens.verbs.bench import bench
from afterlens.verbs.compare import compare
from afterlens.verbs.convert import convert
from afterlens.verbs.evaluate import evaluate
from afterlens.verbs.info import info
from afterlens.verbs.lint import lint
from afterlens.verbs.psf import psf
from afterlens.verbs.report import report
from afterlens.verbs.restore import restore
from afterlens.verbs.train import train
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

    Exit codes: 0 done, 1 a gate failed, 2 bad usage or input.
    """,
)
for verb in (train, evaluate, align, psf, restore, convert, verify, lint, bench, compare, report, info):
    app.command(cls=Verb)(verb)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    # File names need not be valid text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # So that `kill` removes half-written files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = app(prog_name="afterlens", standalone_mode=False) or 0
    except UserError as error:
        code = _fail(2, str(error))
    except GateFailed as error:
        code = _fail(1, f"gate failed: {error}")
    except typer.TyperException as error:  # wrong options and arguments; no message once the help was shown
        message = error.format_message()
        code = _fail(2, f"{message} (see `{_help_of(error)}`)") if message else 2
    except Exception as error:
        if os.environ.get("AFTERLENS_DEBUG"):
            raise
        kind = type(error).__name__
        code = _fail(70, f"internal error, please report it: {kind}: {error} (AFTERLENS_DEBUG=1 shows where)")
    if code == 130:
        _fail(130, "interrupted")
    sys.exit(code)


def _fail(code: int, message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'afterlens'} --help"
