"""proof.json read back: what `afterlens verify` found, for those that show it or compare it.

    proof = read_proof(Path("build/bundle/proof.json"))
    for artifact in proof.artifacts:
        print(artifact.file, artifact.passed, artifact.quality and artifact.quality.drop)

The file may come from a download: anything unexpected in it is one `UserError`. Proofs of before the judgement against
ground truth have no `quality` and no `provenance`, and are read too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import Bundle
from afterlens.training.media.errors import UserError

PROOF_FILE = "proof.json"
MAX_PROOF_BYTES = 64 << 20

MEASURED, EXECUTED = "measured-host", "reference-execution"
"""Where a number comes from: the real runtime on this host, or our own executor of Core ML programs."""

_PROVENANCES = (MEASURED, EXECUTED, "measured-device", "inferred")
_HEATMAP = re.compile(r"heatmaps/[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\.png")


@dataclass(frozen=True)
class Tile:
    """The part of a picture that lost most, in pixels of the artifact's size."""

    x: int
    y: int
    width: int
    height: int
    drop: float  # dB


@dataclass(frozen=True)
class Worst:
    """The picture that lost most."""

    image: str
    drop: float  # dB
    tile: Tile | None
    heatmap: str | None  # "heatmaps/....png" in the bundle; it need not be there


@dataclass(frozen=True)
class Judged:
    """One picture against its ground truth."""

    image: str
    psnr: float  # dB, at most 100, as all of them
    ssim: float | None
    drop: float  # PyTorch's PSNR against the truth less the artifact's


@dataclass(frozen=True)
class Quality:
    """One artifact against ground truth: means over the pictures."""

    budget: float | None  # largest drop allowed, dB
    psnr: float
    ssim: float | None
    reference_psnr: float  # of PyTorch in float32
    reference_ssim: float | None
    input_psnr: float | None  # of the pictures as they came
    drop: float
    passed: bool
    worst: Worst | None
    rows: tuple[Judged, ...]


@dataclass(frozen=True)
class Row:
    """One output on one picture, against PyTorch."""

    image: str
    output: str
    psnr: float
    mean_error: float
    levels: int | None


@dataclass(frozen=True)
class Proven:
    """What was found of one file. Numbers are those of the worst picture and output; None: it could not be run."""

    file: str
    format: str
    variant: str
    width: int
    height: int
    sha256: str
    bytes: int
    runtime: str | None
    passed: bool
    max_error: float | None
    mean_error: float | None
    psnr: float | None
    levels: int | None
    provenance: str
    rows: tuple[Row, ...]
    quality: Quality | None


@dataclass(frozen=True)
class Found:
    """proof.json, as far as anybody reads it."""

    task: str
    passed: bool
    failures: tuple[str, ...]
    max_error: Mapping[str, float]  # gates, by variant
    min_psnr: Mapping[str, float]
    max_levels: int
    photos: tuple[str, ...]
    others: tuple[str, ...]  # names of the pictures beside the photos
    pairs: tuple[str, ...]  # pictures with a ground truth
    artifacts: tuple[Proven, ...]


def read_proof(path: Path) -> Found:
    """Read a proof.json. Raises UserError, one line, where it cannot be read or is none."""
    try:
        if path.stat().st_size > MAX_PROOF_BYTES:
            raise UserError(f"{path}: larger than {MAX_PROOF_BYTES} bytes, this is no {PROOF_FILE}")
        return _found(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{path}: cannot be read as a proof ({reason}); run `afterlens verify` again"
        ) from error


def proof_of(bundle: Bundle) -> Found | None:
    """The proof of a bundle, None where it was not verified. Raises UserError where it is of other files."""
    path = bundle.folder / PROOF_FILE
    if not path.exists():
        return None
    proof = read_proof(path)
    hashes = {artifact.file: artifact.sha256 for artifact in proof.artifacts}
    for artifact in bundle.contract.artifacts:
        if proof.passed and hashes.get(artifact.file) != artifact.sha256:
            raise UserError(
                f"{path}: does not cover {artifact.file} as it is now; run `afterlens verify` again"
            )
    return proof


def _found(document: Any) -> Found:
    gates = document["gates"]
    artifacts = tuple(_proven(entry) for entry in document["artifacts"])
    photos = tuple(str(photo["name"]) for photo in document["photos"])
    images = {row.image for artifact in artifacts for row in artifact.rows}
    quality = document.get("quality") or {"pairs": []}
    return Found(
        str(document.get("task", "")),
        document["passed"] is True,
        tuple(str(line) for line in document["failures"]),
        {str(variant): _number(limit) for variant, limit in gates["max_error"].items()},
        {str(variant): _number(limit) for variant, limit in gates["min_psnr_db"].items()},
        int(gates["max_levels"]),
        photos,
        tuple(sorted(images - set(photos))),
        tuple(str(name) for name in quality["pairs"]),
        artifacts,
    )


def _proven(entry: Mapping[str, Any]) -> Proven:
    rows = tuple(
        Row(
            str(row["image"]),
            str(row["output"]),
            _decibels(row["psnr"]),
            _number(row["mean_error"]),
            None if row["levels"] is None else int(row["levels"]),
        )
        for row in entry["rows"]
    )
    formats = {".tflite": "tflite", ".mlpackage": "coreml"}
    file = str(entry["file"])
    format_ = formats[Path(file).suffix]
    provenance = entry.get("provenance", MEASURED if format_ == "tflite" else EXECUTED)
    if provenance not in _PROVENANCES:
        raise ValueError(f"provenance {provenance!r}")
    return Proven(
        file,
        format_,
        str(entry["variant"]),
        int(entry["width"]),
        int(entry["height"]),
        str(entry["sha256"]),
        max(1, int(entry["bytes"])),
        None if entry["runtime"] is None else str(entry["runtime"]),
        entry["passed"] is True,
        _number_or_none(entry["max_error"]),
        max((row.mean_error for row in rows), default=None),
        None if entry["psnr"] is None else _decibels(entry["psnr"]),
        max((row.levels for row in rows if row.levels is not None), default=None),
        str(provenance),
        rows,
        None if entry.get("quality") is None else _quality(entry["quality"]),
    )


def _quality(entry: Mapping[str, Any]) -> Quality:
    worst = entry.get("worst")
    return Quality(
        _number_or_none(entry["budget"]),
        _decibels(entry["psnr"]),
        _number_or_none(entry["ssim"]),
        _decibels(entry["reference_psnr"]),
        _number_or_none(entry["reference_ssim"]),
        _number_or_none(entry.get("input_psnr")),
        _decibels(entry["drop"]),
        entry["passed"] is True,
        None if worst is None else _worst(worst),
        tuple(
            Judged(
                str(row["image"]),
                _decibels(row["psnr"]),
                _number_or_none(row["ssim"]),
                _decibels(row["drop"]),
            )
            for row in entry["rows"]
        ),
    )


def _worst(entry: Mapping[str, Any]) -> Worst:
    tile, heatmap = entry.get("tile"), entry.get("heatmap")
    if heatmap is not None and not _HEATMAP.fullmatch(heatmap):
        raise ValueError(f"heat-map {heatmap!r}, expected a PNG in heatmaps/")
    x, y, width, height = (0 if tile is None else int(tile[side]) for side in ("x", "y", "width", "height"))
    return Worst(
        str(entry["image"]),
        _decibels(entry["drop"]),
        None if tile is None else Tile(x, y, width, height, _decibels(tile["drop"])),
        heatmap,
    )


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _decibels(value: Any) -> float:
    number = _number(value)
    if abs(number) > 1000:
        raise ValueError(f"{value!r} dB")
    return number


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)
