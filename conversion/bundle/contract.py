"""The contract between converter and app: `model.json`, written and read by the classes below.

    bundle = read_bundle(Path("build/bundle"))
    for artifact in bundle.contract.artifacts:
        print(artifact.file, artifact.sha256, integrity_fault(bundle.folder, artifact) or "as converted")

`contract.schema.json`, which the apps read, is generated from these classes (`python -m afterlens.schemas`). A bundle is
untrusted input: it may come from a download. Names in it can only mean files inside its folder, links are refused, and
nothing in it is executed or unpickled.

(An *artifact* is a converted file; the *layer* is the reflection or shadow that a network takes out of a photo.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from afterlens.conversion.bundle.strict_json import (
    STRICT,
    Count,
    Positive,
    Sha256,
    Side,
    Text,
    document_of,
    fault,
    json_text,
    one_line,
    parse,
    read_json,
)
from afterlens.conversion.bundle.variants import NAMES, VARIANTS
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

CONTRACT_FILE = "model.json"
SCHEMA_FILE = Path(__file__).with_name("contract.schema.json")
SIGNATURE = "serving_default"  # of every TFLite file
MAX_CONTRACT_BYTES = 4 << 20  # a real one has 20 kB
TASK_PATTERN = "^[a-z][a-z0-9_]{0,63}$"
PORT_PATTERN = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"

FileName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
GoldenName = Annotated[str, Field(pattern="^golden/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
PortName = Annotated[str, Field(pattern=PORT_PATTERN)]
Format = Literal["tflite", "coreml"]


def _known(variant: str) -> str:
    if variant not in NAMES:
        raise ValueError(f"expected one of {', '.join(NAMES)}, got {variant!r}")
    return variant


VariantName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(NAMES)})]


@dataclass(frozen=True, config=STRICT)
class TensorSpec:
    """One input or output of an artifact. Bind it by name: of TFLite's signature serving_default, or of the Core ML
    feature. Their order is not defined.
    """

    name: PortName
    shape: Annotated[tuple[Side, ...], Field(min_length=1, max_length=8)]
    """TFLite: with the batch dimension, images (1, H, W, 3). Core ML: images (H, W, 3), arrays with the batch."""
    layout: Literal["NHWC", "image", "array"]
    """NHWC: an image in a TFLite file. image: a picture object of the platform (CVPixelBuffer). array: plain numbers in
    C order.
    """
    dtype: Literal["float32", "uint8"]
    range: tuple[float, float]
    """Smallest and largest value."""
    colour_space: Text
    """Of an image, for example sRGB; "none" of anything else."""
    meaning: str
    """For the person who writes the app."""
    kind: Literal["image", "vector", "class"] = "image"
    """image: RGB. vector: numbers of any meaning. class: one score for each class."""


@dataclass(frozen=True, config=STRICT)
class Artifact:
    """One converted file (a Core ML package is a folder) of one fixed size."""

    file: FileName
    """Beside model.json. A Core ML package is a folder."""
    format: Format
    variant: Annotated[
        VariantName,
        Field(
            description="How weights and activations are stored. "
            + "; ".join(f"{v.format} {v.name}: {v.stored}" for v in VARIANTS)
        ),
    ]
    width: Side
    """Pixels, of the first image input."""
    height: Side
    sha256: Sha256
    """Of the file; of a folder, of the text that `sha256sum` prints for its files, named from within the folder and sorted
    by the bytes of their names.
    """
    bytes: Positive
    """Of the file, or of all files in the folder."""
    minimum_runtime: Text
    """The oldest that runs it."""
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    parameters: Count
    """Trained numbers."""
    macs: Count
    """Multiply-accumulates of the convolutions and matrix products of one run; element-wise operations are not counted."""
    self_test_floor_db: float | None = None
    """PSNR that every device must reach with this file on the golden inputs, for each of its outputs, with a peak of the
    output's range. Null where none is set: Core ML packages, and bundles that were converted before it existed.
    """


@dataclass(frozen=True, config=STRICT)
class GoldenFile:
    """A real input at one size, or what PyTorch computes from it in float32: every implementation can check itself
    against these.
    """

    file: GoldenName
    role: Literal["input", "output"]
    tensor: PortName
    """Name of the input or output."""
    encoding: Literal["png", "float32"]
    """png: 8-bit RGB, value / 255 (an input is exactly that, an output is rounded to it). float32: raw little-endian
    values in C order, no header.
    """
    shape: Annotated[tuple[Side, ...], Field(min_length=1, max_length=8)]
    """Images: (H, W, 3). Others: the port's shape, with the batch dimension."""
    sha256: Sha256
    bytes: Positive

    @property
    def height(self) -> int:
        """Pixels, of an image."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Pixels, of an image."""
        return self.shape[1] if len(self.shape) > 1 else 1


@dataclass(frozen=True, config=STRICT)
class CameraFrame:
    """Size of a camera's frames in the sensor's orientation."""

    width: Side
    height: Side


@dataclass(frozen=True, config=STRICT)
class ProofResult:
    """The worst case of one artifact over all photos and outputs."""

    file: FileName
    passed: bool
    max_error: Annotated[float, Field(ge=0)]
    """Largest absolute difference from PyTorch, as a share of the output's range."""
    psnr: float
    """dB, the peak is the output's range, at most 100."""


@dataclass(frozen=True, config=STRICT)
class ProofSummary:
    """What `afterlens verify` found, in short; the whole is in proof.json."""

    passed: bool
    images: Positive
    """Photos that every file was run on."""
    results: tuple[ProofResult, ...]


class _Provenance(TypedDict):
    """Where the weights come from. Further keys are allowed."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)  # type: ignore[misc]

    checkpoint_sha256: Sha256
    """Of the checkpoint file; of an external network, of its weights (weights_sha256 in conversion/external.py)."""
    recipe: dict[str, Any]
    """The recipe that the network was built and trained with."""
    data_licence: Text
    """Licence of the training photos."""
    tools: dict[str, str]
    """Name and version of everything that took part in the conversion."""
    reference: NotRequired[str]
    """package.module:function that an external network came from. For people: never to be imported because it stands here."""


_PROVENANCE: TypeAdapter[Any] = TypeAdapter(_Provenance)


def _checked(provenance: dict[str, Any]) -> dict[str, Any]:
    try:
        _PROVENANCE.validate_python(provenance)
    except ValidationError as error:
        raise ValueError(fault(error).removeprefix("$.")) from error
    return provenance


@dataclass(frozen=True, config=STRICT)
class Contract:
    """What an app needs to know about the converted files beside model.json. Apps hold no constants of their own: sizes,
    names, ranges and layouts are read here. Python, Kotlin and Swift validate against this schema.
    """

    task: Annotated[str, Field(pattern=TASK_PATTERN)]
    title: Text
    """For people."""
    version: Text
    """Of the task's deployable graph."""
    artifacts: Annotated[tuple[Artifact, ...], Field(min_length=1, max_length=256)]
    golden: Annotated[tuple[GoldenFile, ...], Field(max_length=256)]
    provenance: Annotated[dict[str, Any], AfterValidator(_checked), WithJsonSchema(_PROVENANCE.json_schema())]
    proof: ProofSummary | None = None
    """Null until the bundle was verified."""
    camera_frame: CameraFrame | None = None
    """The camera's frames that the network was trained for, where what it removes has a fixed number of pixels: it gets the
    middle of such a frame, unscaled and in the sensor's orientation. Null: any frame, scaled, and upright if the app likes.
    Bundles that were converted before it existed lack it, and do not say which.
    """
    schema_version: Literal[2] = 2


CONTRACT: TypeAdapter[Contract] = TypeAdapter(Contract)
_PROOF: TypeAdapter[ProofSummary] = TypeAdapter(ProofSummary)


@plain_dataclass(frozen=True)
class Bundle:
    """A bundle folder and its contract; the files it names are inside the folder, but may be damaged."""

    folder: Path
    contract: Contract

    def path(self, entry: Artifact | GoldenFile) -> Path:
        """Where an artifact or golden file lies."""
        return self.folder / entry.file


def read_bundle(folder: Path) -> Bundle:
    """Read and validate `folder/model.json`.

    Raises UserError, one line, for a folder that is not a bundle, a contract that violates the schema, or a name that
    leads out of the folder. Whether the files are intact is what `integrity_fault` says.
    """
    path = folder / CONTRACT_FILE
    contract = _parsed(_read(path), path)
    names = [artifact.file for artifact in contract.artifacts] + [golden.file for golden in contract.golden]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: the same file is named twice; convert again")
    for name in names:
        _refuse_links(folder, name)
    return Bundle(folder, contract)


def write_contract(folder: Path, contract: Contract) -> None:
    """Write `folder/model.json`, whole or not at all.

    Raises UserError where the provenance cannot be written as JSON or the disk is full.
    """
    path = folder / CONTRACT_FILE
    try:
        text = json_text(document_of(CONTRACT, contract))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be written as JSON ({one_line(error)})") from error
    _write(path, text)


def add_proof(bundle: Bundle, proof: ProofSummary) -> None:
    """Write what was proved into `model.json`, whole or not at all, and leave everything else in it as it is.

    A key that an older bundle lacks stays absent: its default would say more than its converter knew.

    Raises UserError where model.json is no longer what `bundle` was read from, or the disk is full.
    """
    path = bundle.folder / CONTRACT_FILE
    document = _read(path)
    if _parsed(document, path) != bundle.contract:
        raise UserError(f"{path}: was changed while its files were proved; verify again")
    _write(path, json_text({**document, "proof": document_of(_PROOF, proof)}))


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of a file, or of a folder such as an `.mlpackage`.

    A folder's is the SHA-256 of what `sha256sum` prints for its files, named from within the folder and sorted by
    the bytes of their names, so that it can be checked without us:
    `cd X.mlpackage && find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`.

    Raises UserError for a missing path or a link, OSError where a file cannot be read.
    """
    if path.is_symlink() or not path.exists():
        raise UserError(
            f"{path}: expected a file or folder, got {'a link' if path.is_symlink() else 'nothing'}"
        )
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
    names = {
        file.relative_to(path).as_posix().encode(): file for file in path.rglob("*") if not _is_folder(file)
    }
    listing, total = hashlib.sha256(), 0
    for name, file in sorted(names.items()):
        sha256, size = digest(file)
        listing.update(sha256.encode() + b"  " + name + b"\n")
        total += size
    return listing.hexdigest(), total


def integrity_fault(folder: Path, entry: Artifact | GoldenFile) -> str | None:
    """One line that says how a file differs from what was converted, or None if it does not."""
    path = folder / entry.file
    if not path.exists():
        return f"{path}: is missing"
    try:
        sha256, size = digest(path)
    except (UserError, OSError) as error:
        return one_line(error)
    if size != entry.bytes:
        return f"{path}: has {size} bytes, {CONTRACT_FILE} says {entry.bytes}"
    if sha256 != entry.sha256:
        return f"{path}: its sha256 is {sha256}, {CONTRACT_FILE} says {entry.sha256}"
    return None


def _read(path: Path) -> dict[str, Any]:
    """The document in model.json, of whatever version."""
    if not path.is_file():
        raise UserError(
            f"{path.parent}: no {CONTRACT_FILE} here, expected a bundle written by `afterlens convert`"
        )
    document = read_json(path, max_bytes=MAX_CONTRACT_BYTES, remedy="convert again")
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in (1, 2) or not isinstance(version, int):
        raise UserError(f"{path}: schema_version is {version!r}, expected 1 or 2; convert again")
    found: dict[str, Any] = document
    return found


def _parsed(document: dict[str, Any], path: Path) -> Contract:
    if document["schema_version"] == 1:
        document = _from_version_1(document)
    return parse(
        CONTRACT, document, str(path), remedy=f"expected what {SCHEMA_FILE.name} says, convert again"
    )


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def _from_version_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Bundles of before ports had a kind: all of them images. What is malformed stays so, for `parse` to name."""
    golden = document.get("golden")
    entries = [
        {**{k: v for k, v in entry.items() if k not in ("width", "height")}, "shape": _shape(entry)}
        if isinstance(entry, dict)
        else entry
        for entry in (golden if isinstance(golden, list) else [])
    ]
    return {**document, "schema_version": 2, "golden": entries if isinstance(golden, list) else golden}


def _shape(entry: Mapping[str, Any]) -> list[Any]:
    return [entry.get("height"), entry.get("width"), 3]


def _refuse_links(folder: Path, name: str) -> None:
    """The schema keeps `..` and absolute names out; a link could still lead anywhere."""
    parts = Path(name).parts
    for depth in range(1, len(parts) + 1):
        if folder.joinpath(*parts[:depth]).is_symlink():
            raise UserError(
                f"{folder / name}: is a link; a bundle holds its own files only, do not use this one"
            )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
