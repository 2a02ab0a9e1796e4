"""Training runs in processes of their own, so that tests can kill them, starve them of disk and join several."""

import io
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors.torch import load_file

import afterlens.training.checkpoint
import afterlens.training.runlog
from afterlens.samples import CALIBRATION
from afterlens.training.loop import train
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import TASKS

PHOTOS = CALIBRATION[0].parent
TASK = TASKS["reflection"]

# A network of 16 channels on 32-pixel crops: a step takes milliseconds.
TINY = (
    "training.steps=8",
    "training.batch=2",
    "training.crop=32",
    "training.learning_rate=0.001",
    "training.warmup=2",
    "training.precision=no",
    "training.workers=0",
    "training.validation_photos=1",
    "training.validate_every=4",
    "training.checkpoint_every=2",
    "network.widths=[16, 16, 16]",
    "network.depths=[1, 1, 1]",
    "network.decoder_widths=[16, 16]",
)

# A process forked from one that has imported everything starts at once; importing takes seconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])
torch.optim.AdamW([torch.zeros(1)])  # imports PyTorch's compiler, which takes seconds as well


def start(
    out: Path,
    *overrides: str,
    data: Sequence[Path] = (PHOTOS,),
    resume: bool = False,
    die: str = "",
    largest_file: int = resource.RLIM_INFINITY,
) -> tuple[BaseProcess, Connection]:
    """Starts a run of TINY + ``overrides``; the connection will hold its error, "" if it ends well.

    ``die``: "writing NAME" kills it when half of the file NAME is written, "after NAME" when NAME has just been renamed
    into place. ``largest_file``: a write beyond this many bytes fails as on a full disk.
    """
    ours, theirs = _processes.Pipe(duplex=False)
    process = _processes.Process(
        target=_run, args=(theirs, out, overrides, list(data), resume, die, largest_file), daemon=False
    )
    process.start()
    theirs.close()
    return process, ours


def finish(process: BaseProcess, connection: Connection) -> str:
    """Waits for a run of ``start`` and returns its error; "killed" if it was."""
    process.join()
    return "killed" if process.exitcode == -signal.SIGKILL else connection.recv()


def run(out: Path, *overrides: str, **options: object) -> str:
    """``start`` and ``finish``."""
    return finish(*start(out, *overrides, **options))  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    """What two equal runs must agree on, bit for bit: every tensor of the last checkpoint and of the weights."""
    state = max((out / "checkpoints").iterdir())
    files = {"state": state, "best": out / "best.safetensors", "last": out / "last.safetensors"}
    found = {
        f"{which} {name}": tensor.numpy().tobytes()
        for which, path in files.items()
        for name, tensor in load_file(path).items()
    }
    return found | {"name": state.name.encode(), "metrics.csv": (out / "metrics.csv").read_bytes()}


def _run(
    connection: Connection,
    out: Path,
    overrides: Sequence[str],
    data: list[Path],
    resume: bool,
    die: str,
    largest_file: int,
) -> None:
    torch.set_num_threads(1)
    # For the loader processes, as in any run; here each would start a server of its own.
    multiprocessing.set_start_method("fork", force=True)
    # What the run says goes nowhere: pytest's captured output is a file, and the limit would hold for that as well.
    sys.stderr = io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if die:
        _die_at(die)
    try:
        train(TASK, data, out, overrides=[*TINY, *overrides], resume=resume)
        assert "tensorflow" not in sys.modules, "training must not import TensorFlow"
        connection.send("")
    except UserError as error:
        connection.send(f"UserError: {error}")
    except BaseException:
        connection.send(traceback.format_exc())


def _die_at(moment: str) -> None:
    when, name = moment.split()
    atomic_path = afterlens.training.checkpoint.atomic_path

    @contextmanager
    def dying(path: Path) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            yield temporary
            if path.name == name and when == "writing":
                os.truncate(temporary, temporary.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        if path.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (afterlens.training.checkpoint, afterlens.training.runlog):
        module.atomic_path = dying  # type: ignore[attr-defined]
