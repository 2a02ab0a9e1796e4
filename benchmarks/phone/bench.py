"""How fast is an artifact on a connected phone: the app's own benchmark, started and awaited by adb.

    document = bench_on_phone(Path("build/udc"), minutes=10, out=Path("phone.json"))

The app and this program meet in the app's external files: a bundle in `bundles/NAME`, and in `benchmarks` either
NAME.json, which follows `schema.json`, or NAME.error.txt with one line (BenchmarkFolder.kt in android/lens). All of it
is removed from the phone again. No phone was at hand when this was written: docs/android.md says what was tried.
"""

from __future__ import annotations

import json
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from afterlens.benchmarks.compare_sides import plain
from afterlens.benchmarks.document import read_document
from afterlens.benchmarks.graphs import whole_artifacts
from afterlens.benchmarks.phone.adb import Phone, find_phone
from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Artifact,
    Bundle,
    GoldenFile,
    integrity_fault,
    read_bundle,
)
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

PACKAGE = "dev.afterlens"
ACTIVITY = f"{PACKAGE}/afterlens.app.ui.BenchmarkActivity"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"

PATIENCE = 900.0
"""Seconds that loading, runs and the live part may take, beside the sustained minutes."""

POLL = 2.0
"""Seconds between two looks at the phone: each of them costs it a little."""

VARIANTS = {
    "gpu": ("float16", "float32"),
    "cpu": ("mixed", "full_integer_quant", "dynamic_range_quant", "float32", "float16"),
}
"""As the app chooses (Opening.kt in android/lens)."""


@dataclass(frozen=True)
class _Job:
    """One benchmark on one phone, by the names of its files there."""

    phone: Phone
    name: str

    @property
    def bundle(self) -> str:
        return f"{FILES}/bundles/{self.name}"

    def result(self, ending: str) -> str:
        return f"{FILES}/benchmarks/{self.name}.{ending}"


def bench_on_phone(
    folder: Path,
    *,
    serial: str | None = None,
    apk: Path | None = None,
    size: tuple[int, int] | None = None,
    variant: str | None = None,
    accelerator: str = "cpu",
    threads: int = 1,
    runs: int = 30,
    warmup: int = 3,
    minutes: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Time one TFLite artifact of a bundle on a phone.

    Args:
        folder: the bundle.
        serial: of the phone; None for the only one.
        apk: app to install before.
        size: (width, height); None for the smallest.
        variant: None for the one that suits the accelerator best.
        accelerator: "cpu" or "gpu"; a GPU that refuses the artifact is an error.
        threads: of the CPU.
        runs, warmup: counted and uncounted runs.
        minutes: of a sustained run after them; 0 for none.
        out: JSON file to write.

    Returns: the document of `schema.json`, as the phone wrote it.

    Raises UserError, one line, for a damaged bundle, for whatever is wrong with adb or the phone, and for what the app
    reports.
    """
    for name, value, least, most in (
        ("threads", threads, 1, 64),
        ("runs", runs, 1, 100_000),
        ("warm-ups", warmup, 0, 100_000),
        ("minutes", minutes, 0, 24 * 60),
    ):
        if not least <= value <= most:
            raise UserError(f"got {value} {name}, expected {least} to {most}")
    if apk is not None and not apk.is_file():
        raise UserError(f"{apk}: no such file; expected an APK")
    bundle = read_bundle(folder)
    artifact = _chosen(bundle, size, variant, accelerator)
    golden = _golden(bundle, artifact)
    job = _Job(find_phone(serial), f"bench_{secrets.token_hex(4)}")
    extras = {
        "bundle": job.name,
        "document": job.name,
        "size": f"{artifact.width}x{artifact.height}",
        "variant": artifact.variant,
        "accelerator": accelerator,
        "threads": str(threads),
        "runs": str(runs),
        "warmup": str(warmup),
        "minutes": str(minutes),
    }
    console = Console(stderr=True)
    with console.status("looking for the app") as status:

        def say(line: str) -> None:
            text = Text(f"{job.phone.serial}: {plain(line)}")
            status.update(text)
            if not console.is_terminal:
                console.print(text)

        if apk is not None:
            say(f"installing {apk.name}")
            job.phone.install(apk)
        _require_app(job.phone)
        say("looking for its folder")
        _require_folder(job.phone)
        try:
            say(f"copying {artifact.file}")
            _push(job, bundle, artifact, golden)
            _start(job.phone, extras)
            _wait(job, time.monotonic() + PATIENCE + 60 * minutes, say)
            document = _pulled(job, artifact)
        finally:
            _remove(job, console)
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def _chosen(bundle: Bundle, size: tuple[int, int] | None, variant: str | None, accelerator: str) -> Artifact:
    if accelerator not in VARIANTS:
        raise UserError(f"accelerator {accelerator!r}: expected cpu or gpu")
    whole = whole_artifacts(bundle, size)  # the smallest first
    alike = {
        one.variant: one for one in whole if (one.width, one.height) == (whole[0].width, whole[0].height)
    }
    wanted = VARIANTS[accelerator] if variant is None else (variant,)
    for name in wanted:
        if name in alike:
            return alike[name]
    names, there = " or ".join(wanted), ", ".join(alike)
    raise UserError(f"{bundle.folder}: no {names} of {whole[0].width}x{whole[0].height}, there are {there}")


def _golden(bundle: Bundle, artifact: Artifact) -> list[GoldenFile]:
    """The golden files of the artifact's inputs and outputs."""
    shapes = {spec.name: tuple(spec.shape[1:]) for spec in (*artifact.inputs, *artifact.outputs)}
    found = [one for one in bundle.contract.golden if shapes.get(one.tensor) == tuple(one.shape)]
    for one in found:
        if fault := integrity_fault(bundle.folder, one):
            raise UserError(f"{fault}; convert again")
    return found


def _require_app(phone: Phone) -> None:
    # `pm path` fails, too, where there is no such app.
    if not phone.script(f"pm path {PACKAGE} || true").strip():
        raise UserError(f"the app {PACKAGE} is not on the phone {phone.serial}: give its APK with --apk")


def _require_folder(phone: Phone) -> None:
    """The app's external files. Only the system may make them: a folder of adb's own would be closed to the app."""
    there = f"[ -d {FILES} ] && echo there || true"
    if phone.script(there).strip():
        return
    _start(phone, {})  # without a request it makes the folder, and nothing else
    for _ in range(10):
        time.sleep(POLL)
        if phone.script(there).strip():
            return
    raise UserError(f"the app did not make {FILES} on the phone {phone.serial}: open it once, and run again")


def _push(job: _Job, bundle: Bundle, artifact: Artifact, golden: list[GoldenFile]) -> None:
    job.phone.shell("mkdir", "-p", f"{job.bundle}/golden")
    job.phone.push([bundle.folder / CONTRACT_FILE, bundle.path(artifact)], job.bundle)
    if golden:
        job.phone.push([bundle.path(one) for one in golden], f"{job.bundle}/golden")
    # The files belong to adb's user. Where the storage knows owners, the app must be allowed to read them.
    job.phone.script(f"chmod a+rX {FILES}/bundles 2>/dev/null; chmod -R a+rX {job.bundle} 2>/dev/null; true")


def _start(phone: Phone, extras: dict[str, str]) -> None:
    """In a fresh process, so that loading and memory are those of this run."""
    words = ["am", "start", "-S", "-n", ACTIVITY]
    for key, value in extras.items():
        words += ["--es", key, value]
    # Some versions print what is wrong and end with 0, others with a stack trace.
    lines = [line.strip() for line in phone.script(f"{shlex.join(words)} 2>&1; true").splitlines()]
    faults = [line for line in lines if line.startswith(("Error:", "java."))]
    if faults:
        raise UserError(
            f"the phone {phone.serial} does not start the benchmark: {plain(faults[0])}; install a current app with --apk"
        )


def _wait(job: _Job, until: float, say: Callable[[str], None]) -> None:
    """Return once the document is there. Raises UserError for the app's error, its end, or too long a wait."""
    document, error, progress = (
        shlex.quote(job.result(ending)) for ending in ("json", "error.txt", "progress.txt")
    )
    look = (
        f"if [ -e {document} ]; then echo done; elif [ -e {error} ]; then echo error; cat {error}; "
        f"elif pidof {PACKAGE} >/dev/null; then echo running; cat {progress} 2>/dev/null; else echo gone; fi; true"
    )
    gone, told = 0, ""
    while time.monotonic() < until:
        word, _, line = job.phone.script(look).strip().partition("\n")
        line = plain(" ".join(line.split()))
        if word == "done":
            return
        if word == "error":
            raise UserError(f"the phone {job.phone.serial}: {line or 'the app failed and does not say why'}")
        if word != "running":
            job.phone.require()
        # Right after the start there is no process yet.
        gone = 0 if word == "running" else gone + 1
        if gone > 3:
            raise UserError(
                f"the app ended on the phone {job.phone.serial} without a result; `adb logcat` tells more"
            )
        if line not in ("", told):
            say(line)
            told = line
        time.sleep(POLL)
    raise UserError(f"the phone {job.phone.serial} took too long; it was at: {told or 'its start'}")


def _pulled(job: _Job, artifact: Artifact) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="afterlens-phone-") as scratch:
        path = Path(scratch) / "phone.json"
        job.phone.pull(job.result("json"), path)
        document = read_document(path)
    timed = [result["artifact"]["sha256"] for result in document["results"]]
    if document["provenance"] == "measured-host" or timed != [artifact.sha256]:
        raise UserError(
            f"the phone {job.phone.serial} timed something else than {artifact.file}; install a current app"
        )
    return document


def _remove(job: _Job, console: Console) -> None:
    """Stop the app, and remove what was pushed and what it wrote. A phone that is gone keeps it, and it is said."""
    results = [job.result(ending) for ending in ("json", "error.txt", "progress.txt")]
    files = [job.bundle, *results, *(f"{name}.part" for name in results)]
    try:
        job.phone.shell("am", "force-stop", PACKAGE)
        job.phone.shell("rm", "-rf", *files)
    except UserError as error:
        console.print(Text(f"{job.bundle} may be left on the phone: {error}", style="yellow"))
