"""The tables behind the summary: comparison with PyTorch, sizes, inputs and outputs, and where the network comes from."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from afterlens.conversion.bundle.contract import Artifact, Contract
from afterlens.conversion.bundle.labels import megabytes
from afterlens.conversion.bundle.proof import Proof
from afterlens.conversion.bundle.variants import FORMATS, label
from afterlens.conversion.report.templates import FAIL, Cell, Table, state_cell

_EXECUTORS = {"conversion.mil": "our Core ML executor"}


def proof_table(proof: Proof, changed: Collection[str]) -> tuple[str, Table]:
    """A note and the comparison with PyTorch. `changed`: files that are not the ones that were proved."""
    others = f" (and on: {', '.join(proof.others)})" if proof.others else ""
    note = (
        f"Each file was run on {len(proof.photos)} photo{'s' if len(proof.photos) != 1 else ''}{others}, and "
        "compared with PyTorch in float32 on the same input. The worst picture is shown; the full range is 1. "
        f"Gates: {'; '.join(_gates(proof))}."
    )
    rows = [
        (
            Cell(entry.file, code=True),
            Cell(
                _EXECUTORS.get(entry.runtime, entry.runtime) if entry.runtime else "not run", entry.provenance
            ),
            _error(entry.max_error),
            _error(entry.mean_error),
            "–" if entry.psnr is None else f"{entry.psnr:.1f}",
            "–" if entry.levels is None else str(entry.levels),
            Cell("changed since the proof", "", FAIL) if entry.file in changed else state_cell(entry.passed),
        )
        for entry in proof.artifacts
    ]
    columns = ("file", "run by", "max error>", "mean error>", "worst PSNR dB>", "levels>", "")
    return note, Table(columns, rows)


def _gates(proof: Proof) -> list[str]:
    variants = {entry.variant for entry in proof.artifacts}
    errors = [
        f"largest error at most {gate:g} ({v})" for v, gate in proof.gates.max_error.items() if v in variants
    ]
    decibels = [
        f"PSNR at least {gate:g} dB ({v})" for v, gate in proof.gates.min_psnr.items() if v in variants
    ]
    apart = max(proof.gates.max_levels.values(), default=255)
    levels = f"float files at most {apart} of 255 levels apart after rounding to 8 bits"
    return [*errors, *decibels, levels]


def _error(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def size_table(artifacts: Sequence[Artifact]) -> Table:
    """What each file weighs and what it takes to run it."""
    rows = [
        (
            Cell(artifact.file, code=True),
            FORMATS[artifact.format],
            label(artifact.format, artifact.variant),
            _size(artifact),
            megabytes(artifact.bytes),
            f"{artifact.parameters:,}",
            f"{artifact.macs / 1e9:.2f}",
            artifact.minimum_runtime,
        )
        for artifact in artifacts
    ]
    columns = ("file", "format", "variant", "size px>", "bytes>", "parameters>", "GMACs>", "runs from")
    return Table(columns, rows)


def port_table(artifacts: Sequence[Artifact]) -> Table:
    """Inputs and outputs, those of equal artifacts named once."""
    seen: dict[tuple[str, ...], None] = {}
    for artifact in artifacts:
        for role, ports in (("input", artifact.inputs), ("output", artifact.outputs)):
            for port in ports:
                row = (
                    f"{FORMATS[artifact.format]} {_size(artifact)}",
                    role,
                    port.name,
                    " × ".join(str(side) for side in port.shape),
                    port.layout,
                    port.dtype,
                    f"{port.range[0]:g} to {port.range[1]:g}",
                    port.colour_space,
                    port.meaning,
                )
                seen[row] = None
    rows: list[list[str | Cell]] = [[*row[:2], Cell(row[2], code=True), *row[3:]] for row in seen]
    columns = ("files", "", "name", "shape>", "layout", "type", "range>", "colour", "meaning")
    return Table(columns, rows)


def provenance(contract: Contract) -> Mapping[str, Any]:
    """Where the network comes from; the digests of the files; the recipe."""
    rest = dict(contract.provenance)
    recipe, tools = rest.pop("recipe"), rest.pop("tools")
    first = ("checkpoint sha256", rest.pop("checkpoint_sha256"))
    pairs = [first, ("training data", rest.pop("data_licence"))]
    pairs += [(key.replace("_", " "), _plain(value)) for key, value in rest.items()]
    pairs.append(("tools", ", ".join(f"{name} {version}" for name, version in tools.items())))
    return {
        "provenance": pairs,
        "sums": "\n".join(f"{artifact.sha256}  {artifact.file}" for artifact in contract.artifacts),
        "recipe": json.dumps(recipe, indent=2, ensure_ascii=False),
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _size(artifact: Artifact) -> str:
    return f"{artifact.width}x{artifact.height}"
