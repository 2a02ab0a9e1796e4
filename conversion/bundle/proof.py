"""proof.json: what `afterlens verify` found, written and read by the same classes.

    proof = read_proof(Path("build/bundle/proof.json"))
    for artifact in proof.artifacts:
        print(artifact.file, artifact.passed, artifact.quality and artifact.quality.drop)

The file may come from a download: anything unexpected in it is one `UserError`. `proof.schema.json` is generated from
these classes (`python -m afterlens.schemas`).
"""

from __future__ import annotations

import math
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from afterlens.conversion.bundle.contract import Bundle, FileName, Format, VariantName
from afterlens.conversion.bundle.strict_json import (
    STRICT,
    Count,
    Positive,
    Sha256,
    Side,
    document_of,
    json_text,
    parse,
    read_json,
)
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

PROOF_FILE = "proof.json"
SCHEMA_FILE = Path(__file__).with_name("proof.schema.json")
SCHEMA_VERSION = 2
MAX_PROOF_BYTES = 64 << 20

MEASURED: Literal["measured-host"] = "measured-host"
"""Where a number comes from: the real runtime on this host."""

EXECUTED: Literal["reference-execution"] = "reference-execution"
"""Or our own executor of Core ML programs."""

Provenance = Literal["measured-host", "reference-execution", "measured-device", "inferred"]
Error = Annotated[float, Field(ge=0)]
Decibels = Annotated[float, Field(ge=-1000, le=1000)]
Ssim = Annotated[float, Field(ge=-1.001, le=1.001)]
HeatMap = Annotated[str, Field(pattern=r"^heatmaps/[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\.png$")]


@dataclass(frozen=True, config=STRICT)
class Place:
    """The one value of an output that is furthest off, in the output's own units."""

    where: str
    """Of an image "x 11, y 7, B", of anything else "index 3", without the batch dimension."""
    got: float | None
    """Null: not a finite number."""
    expected: float | None

    def __str__(self) -> str:
        got, expected = ("not finite" if v is None else f"{v:.6g}" for v in (self.got, self.expected))
        return f"{self.where}: got {got}, expected {expected}"


@dataclass(frozen=True, config=STRICT)
class OutputRow:
    """One output of one artifact on one picture, against PyTorch. Errors are shares of the output's range."""

    image: str
    output: str
    max_error: Error
    mean_error: Error
    psnr: Decibels
    """dB, at most 100, as all of them."""
    stored_error: Error | None
    """Like max_error, against PyTorch with weights as the file stores them; null: not compared."""
    levels: Count | None
    """Largest difference after both are rounded to 8 bits; null: not an image."""
    lowest: float | None
    """Of what the artifact computed; null: not a finite number."""
    highest: float | None
    worst: Place
    faults: tuple[str, ...]
    """One line for each gate that failed."""


@dataclass(frozen=True, config=STRICT)
class Tile:
    """The part of a picture that lost most, in pixels of the artifact's size."""

    x: Count
    y: Count
    width: Side
    height: Side
    drop: Decibels


@dataclass(frozen=True, config=STRICT)
class EvaluatedImage:
    """One picture of one artifact against ground truth. PSNR in dB; `reference_*` is PyTorch's own."""

    image: str
    psnr: Decibels
    ssim: Ssim
    reference_psnr: Decibels
    reference_ssim: Ssim
    input_psnr: Decibels
    """Of the picture as it came."""
    drop: Decibels
    """reference_psnr less psnr."""
    fidelity: Decibels
    """PSNR against PyTorch."""
    tile: Tile


@dataclass(frozen=True, config=STRICT)
class Worst:
    """The picture that lost most."""

    image: str
    drop: Decibels
    tile: Tile
    heatmap: HeatMap | None
    """In the bundle; it need not be there."""


@dataclass(frozen=True, config=STRICT)
class Quality:
    """One artifact against ground truth: means over the pictures."""

    budget: Decibels | None
    """Largest drop allowed, dB; null: none."""
    psnr: Decibels
    ssim: Ssim
    reference_psnr: Decibels
    reference_ssim: Ssim
    input_psnr: Decibels
    drop: Decibels
    passed: bool
    worst: Worst
    rows: Annotated[tuple[EvaluatedImage, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class ProvenArtifact:
    """What was found of one file. Numbers are those of the worst picture and output; null: it could not be run."""

    file: FileName
    format: Format
    variant: VariantName
    width: Side
    height: Side
    sha256: Sha256
    bytes: Positive
    runtime: str | None
    passed: bool
    faults: tuple[str, ...]
    """What is wrong with the file itself; those of its outputs are in `rows`."""
    max_error: Error | None
    psnr: Decibels | None
    provenance: Provenance
    quality: Quality | None
    """Null: not evaluated."""
    rows: tuple[OutputRow, ...]

    @property
    def mean_error(self) -> float | None:
        """Of the worst picture and output; None: it could not be run."""
        return max((row.mean_error for row in self.rows), default=None)

    @property
    def levels(self) -> int | None:
        """Of the worst picture and output; None: there is none."""
        return max((row.levels for row in self.rows if row.levels is not None), default=None)


def _distinct(artifacts: tuple[ProvenArtifact, ...]) -> tuple[ProvenArtifact, ...]:
    if len({artifact.file for artifact in artifacts}) < len(artifacts):
        raise ValueError("the same file is named twice")
    return artifacts


@dataclass(frozen=True, config=STRICT)
class Gates:
    """The limits that were applied (`afterlens.conversion.bundle.variants`), by variant name."""

    max_error: dict[str, Error]
    max_stored_error: dict[str, Error]
    min_psnr: dict[str, Decibels]
    max_levels: dict[str, Count]
    range_slack: Error
    max_flat_levels: dict[str, Count] = field(default_factory=dict)
    """On pictures of one colour; older proofs have none."""


@dataclass(frozen=True, config=STRICT)
class Photo:
    """A real photo that every artifact was run on."""

    name: str
    sha256: Sha256


@dataclass(frozen=True, config=STRICT)
class GroundTruth:
    """What the artifacts were evaluated by."""

    pairs: tuple[str, ...]
    """Names of the pictures with a ground truth."""
    budgets: dict[str, float]
    """By variant name, dB."""


@dataclass(frozen=True, config=STRICT)
class Proof:
    """What `afterlens verify` found about a bundle: every artifact against PyTorch, and against ground truth."""

    task: str
    version: str
    passed: bool
    failures: tuple[str, ...]
    """All of them, one line each, the most telling first."""
    checkpoint_sha256: Sha256
    gates: Gates
    photos: tuple[Photo, ...]
    images: tuple[str, ...]
    """All pictures that the artifacts were run on: the photos, test images made of the first, the golden input."""
    ground_truth: GroundTruth
    golden_files: Count
    tools: dict[str, str]
    artifacts: Annotated[tuple[ProvenArtifact, ...], Field(min_length=1), AfterValidator(_distinct)]
    schema_version: Literal[2] = 2

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the pictures beside the photos: test images and the golden input."""
        photos = {photo.name for photo in self.photos}
        return tuple(image for image in self.images if image not in photos)


PROOF: TypeAdapter[Proof] = TypeAdapter(Proof)


def read_proof(path: Path) -> Proof:
    """Read a proof.json. Raises UserError, one line, where it cannot be read or is of an older version."""
    remedy = "cannot be read as a proof, run `afterlens verify` again"
    document = read_json(path, max_bytes=MAX_PROOF_BYTES, remedy=remedy)
    if isinstance(document, dict) and document.get("schema_version", 1) == 1 and "gates" in document:
        raise UserError(f"{path}: is a proof of an older version of afterlens; run `afterlens verify` again")
    return parse(PROOF, document, str(path), remedy=remedy)


def write_proof(path: Path, proof: Proof) -> None:
    """Write a proof.json, whole or not at all. Raises UserError where it cannot be written."""
    text = json_text(document_of(PROOF, proof))
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def proof_of(bundle: Bundle) -> Proof | None:
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


def finite(value: float) -> float | None:
    """A number for the file; None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
