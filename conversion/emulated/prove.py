"""Proves a bundle's TFLite files on processors that this machine lacks (docs/android.md says what that is worth).

    python -m afterlens.conversion.emulated.prove gpu build/demo/udc           (what `make gpu` does)
    python -m afterlens.conversion.emulated.prove arm64 build/demo/udc --json  (what `make arm64` does)

Each file computes its golden input there. The outputs must reach the file's self-test floor against PyTorch's, and those of
float files must be what LiteRT computes here, on x86. Exit code 0: all do. 1: one does not, or is refused. 2: something
is missing. Times are not told: those of an emulator say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from afterlens.conversion.bundle.contract import Artifact, Bundle, GoldenFile, integrity_fault, read_bundle
from afterlens.conversion.bundle.difference import difference
from afterlens.conversion.bundle.layout import Value
from afterlens.conversion.bundle.proof import finite
from afterlens.conversion.bundle.runtimes import open_artifact
from afterlens.conversion.bundle.variants import find
from afterlens.conversion.emulated import run_file
from afterlens.conversion.emulated.machines import Machine, arm64, gpu
from afterlens.training.deployable import Port
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import read_photo

MACHINES = {"gpu": gpu, "arm64": arm64}
FOLDER = Path("build/emulated")
FLOAT_ERROR = 1e-5  # of the range, between two processors that compute in float32; 7.2e-7 was measured
SECONDS = 1800  # of one file


@dataclass(frozen=True)
class Row:
    """What became of one file.

    Attributes:
        file: its name.
        ran_on: what LiteRT said it ran on; None where it said nothing of the kind.
        psnr: dB from the golden output, for the worst output; None where there is no result.
        floor: dB that `psnr` must reach.
        psnr_here, max_error_here: how far it is from what LiteRT computes here; the error is a share of the range,
            None where a value is no finite number.
        fault: why it does not pass, one line.
    """

    file: str
    ran_on: str | None
    psnr: float | None
    floor: float
    psnr_here: float | None
    max_error_here: float | None
    fault: str | None


def main() -> None:
    """The commands above."""
    parser = argparse.ArgumentParser("python -m afterlens.conversion.emulated.prove", description=__doc__)
    parser.add_argument("machine", choices=MACHINES)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    try:
        bundles = [read_bundle(folder) for folder in options.bundles]
        prove(MACHINES[options.machine](FOLDER.resolve()), bundles, options.json)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except GateFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def prove(machine: Machine, bundles: list[Bundle], as_json: bool) -> None:
    """Run all, print all, and raise GateFailed for the first that does not pass."""
    rows = {
        bundle.folder: [row(machine, bundle, file) for file in files(machine, bundle)] for bundle in bundles
    }
    if as_json:
        results = {str(folder): [asdict(one) for one in found] for folder, found in rows.items()}
        print(json.dumps({"machine": machine.name, "bundles": results}, indent=2, allow_nan=False))
    else:
        print(machine.name)
        for found in rows.values():
            print("\n".join(map(line, found)))
    if faults := [
        f"{folder / one.file}: {one.fault}" for folder, found in rows.items() for one in found if one.fault
    ]:
        raise GateFailed(faults[0])


def files(machine: Machine, bundle: Bundle) -> list[Artifact]:
    """Those that are for such a machine. Raises UserError where there is none."""
    found = [
        artifact
        for artifact in bundle.contract.artifacts
        if artifact.format == "tflite" and (not machine.floats_only or is_float(artifact))
    ]
    if not found:
        wanted = "float32.tflite or float16.tflite" if machine.floats_only else "TFLite file"
        raise UserError(f"{bundle.folder}: no {wanted} in it; convert again with --variants")
    return found


def row(machine: Machine, bundle: Bundle, artifact: Artifact) -> Row:
    """One file there and here. Raises UserError where the bundle is damaged or older than self-test floors."""
    if artifact.self_test_floor_db is None:
        raise UserError(f"{bundle.path(artifact)}: has no self-test floor; convert again")
    inputs, golden = golden_values(bundle, artifact, "input"), golden_values(bundle, artifact, "output")
    here = open_artifact(bundle, artifact)(*inputs.values())
    floor = artifact.self_test_floor_db
    try:
        there, ran_on = run_there(machine, bundle.path(artifact), inputs)
    except GateFailed as refusal:
        return Row(artifact.file, None, None, floor, None, None, str(refusal))
    ports = [Port(spec.name, spec.shape, spec.range, kind=spec.kind) for spec in artifact.outputs]
    psnr = min(difference(port, there[port.name], golden[port.name]).psnr for port in ports)
    from_here = [difference(port, there[port.name], here[port.name]) for port in ports]
    psnr_here, error = min(one.psnr for one in from_here), max(one.max_error for one in from_here)
    wrong = fault(artifact, ran_on, psnr, error)
    return Row(artifact.file, ran_on, psnr, floor, psnr_here, finite(error), wrong)


def fault(artifact: Artifact, ran_on: str | None, psnr: float, error: float) -> str | None:
    """Why a result does not pass, or None. The arguments are those of `Row`."""
    if ran_on is None:
        return "LiteRT did not say that it used the processor that was asked for"
    if psnr < (artifact.self_test_floor_db or 0.0):
        return f"{psnr:.2f} dB from the golden output, at least {artifact.self_test_floor_db:.2f} expected"
    if is_float(artifact) and not error <= FLOAT_ERROR:
        return f"{error:.2g} from what LiteRT computes on this machine, at most {FLOAT_ERROR:g} expected"
    return None


def run_there(
    machine: Machine, file: Path, inputs: Mapping[str, Value]
) -> tuple[dict[str, Value], str | None]:
    """Outputs by name, and what ran. Raises GateFailed, one line, where the file is refused or the process dies, and
    UserError where this machine is too busy.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        batch = {name: value[None] for name, value in inputs.items()}
        np.savez(folder / "inputs.npz", **batch)
        command = [*machine.python, run_file.__file__, str(file), str(folder / "inputs.npz")]
        command += [str(folder / "outputs.npz"), machine.processor]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **machine.environment},
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise GateFailed(f"gave no result within {SECONDS} s") from error
        if done.returncode:
            raise GateFailed(death(done.returncode, done.stderr))
        said = json.loads(done.stdout.splitlines()[-1])
        if "late" in said:
            raise UserError(
                f"{file}: no result within the 20 s that LiteRT waits for a GPU; a busy machine is too slow in its "
                "place, try again when it is idle"
            )
        if "refused" in said:
            raise GateFailed(f"{said['runtime']} refuses it: {said['refused']}")
        with np.load(folder / "outputs.npz") as outputs:
            found = {name: np.asarray(value[0], np.float32) for name, value in outputs.items()}
    ran_on = re.search(machine.evidence, done.stderr)
    return found, f"{said['runtime']}, {said['machine']}, {ran_on[1]}" if ran_on else None


def death(code: int, stderr: str) -> str:
    """One line on a process that ended with neither a result nor a refusal."""
    last = " ".join(stderr.splitlines()[-1:]).strip()
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process ended with {how}: {last}"


def golden_values(bundle: Bundle, artifact: Artifact, role: str) -> dict[str, Value]:
    """The golden inputs or outputs of an artifact by name, in its order, without their batch dimension."""
    found = {}
    for spec in artifact.inputs if role == "input" else artifact.outputs:
        entry = next((one for one in bundle.contract.golden if is_of(one, artifact, role, spec.name)), None)
        if entry is None:
            raise UserError(
                f"{bundle.folder}: no golden {role} {spec.name!r} for {artifact.file}; convert again"
            )
        if damage := integrity_fault(bundle.folder, entry):
            raise UserError(f"{damage}; convert again")
        path = bundle.path(entry)
        value = read_photo(path).rgb if entry.encoding == "png" else np.fromfile(path, "<f4")
        found[spec.name] = np.asarray(value, np.float32).reshape(spec.shape[1:])
    return found


def is_of(entry: GoldenFile, artifact: Artifact, role: str, name: str) -> bool:
    """Whether a golden file is that of a port. Its name tells the size of the graph, an output may have another."""
    graph = f"golden/{artifact.width}x{artifact.height}_"
    return entry.role == role and entry.tensor == name and entry.file.startswith(graph)


def is_float(artifact: Artifact) -> bool:
    """Whether it holds no integers."""
    variant = find(artifact.format, artifact.variant)
    return variant is not None and variant.is_float


def line(one: Row) -> str:
    """For people."""
    if one.psnr is None:
        return f"  {one.file}: {one.fault}"
    text = f"{one.psnr:.2f} dB from the golden output (at least {one.floor:.2f}), "
    error = "not finite" if one.max_error_here is None else f"at most {one.max_error_here:.1e}"
    text += f"{one.psnr_here:.1f} dB and {error} from x86; {one.ran_on}"
    return f"  {one.file}: {text}{f' – FAILED: {one.fault}' if one.fault else ''}"


if __name__ == "__main__":
    main()
