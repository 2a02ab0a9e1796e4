"""The contract between converter and app: `model.json`, read and written against `contract.schema.json`.

    bundle = read_bundle(Path("build/bundle"))
    for artifact in bundle.contract.artifacts:
        print(artifact.file, artifact.sha256, integrity_fault(bundle.folder, artifact) or "as converted")

A bundle is untrusted input: it may come from a download. Names in it can only mean files inside its folder, links
are refused, and nothing of it is executed or unpickled.

(An *artifact* is a converted file; the *layer* is the reflection or shadow that a network takes out of a photo.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

CONTRACT_FILE = "model.json"
SCHEMA_FILE = Path(__file__).with_name("contract.schema.json")
SIGNATURE = "serving_default"  # of every TFLite file
MAX_CONTRACT_BYTES = 4 << 20  # a real one has 20 kB


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an artifact; bound by name.

    TFLite: layout "NHWC", shape (1, H, W, 3), float32. Core ML: layout "image", shape (H, W, 3), uint8.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    dtype: str
    range: tuple[float, float]
    colour_space: str
    meaning: str


@dataclass(frozen=True)
class Artifact:
    """One converted file (a Core ML package is a folder) of one fixed size."""

    file: str
    format: str  # "tflite" | "coreml"
    variant: str  # "float32" | "float16"
    width: int  # pixels
    height: int
    sha256: str  # see `digest`
    bytes: int
    minimum_runtime: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    macs: int  # of convolutions and matrix products; element-wise operations are not counted


@dataclass(frozen=True)
class GoldenFile:
    """A real photo or an output that PyTorch computed from it in float32."""

    file: str  # "golden/..."
    role: str  # "input" | "output"
    tensor: str  # name of the input or output
    encoding: str  # "png": 8-bit RGB, value / 255; "float32": raw little-endian (H, W, 3)
    width: int
    height: int
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ProofResult:
    """The worst case of one artifact over all photos and outputs."""

    file: str
    passed: bool
    max_error: float  # largest absolute difference from PyTorch, in units of [0, 1]
    psnr: float  # dB, peak 1.0, at most 100


@dataclass(frozen=True)
class Proof:
    """What `afterlens verify` found, in short; the whole is in proof.json."""

    passed: bool
    images: int
    results: tuple[ProofResult, ...]


@dataclass(frozen=True)
class Contract:
    """All of model.json."""

    task: str
    title: str
    version: str
    artifacts: tuple[Artifact, ...]
    golden: tuple[GoldenFile, ...]
    provenance: Mapping[str, Any]  # checkpoint_sha256, recipe, data_licence, tools, and more
    proof: Proof | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle folder and its contract; the files it names are inside the folder, but may be damaged."""

    folder: Path
    contract: Contract

    def path(self, entry: Artifact | GoldenFile) -> Path:
        """Where an artifact or golden file lies."""
        return self.folder / entry.file


def read_bundle(folder: Path) -> Bundle:
    """Read and validate `folder/model.json`.

    Raises UserError, one line, for a folder that is no bundle, a contract against the schema, or a name that
    leads out of the folder. Whether the files are intact is `integrity_fault`'s business.
    """
    path = folder / CONTRACT_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: no {CONTRACT_FILE} here, expected a bundle written by `afterlens convert`"
        )
    try:
        if path.stat().st_size > MAX_CONTRACT_BYTES:
            raise UserError(
                f"{path}: larger than {MAX_CONTRACT_BYTES} bytes, this is no bundle's {CONTRACT_FILE}"
            )
        document = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({_line(error)}); convert again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    _validate(document, path)
    contract = _from_json(document)
    names = [artifact.file for artifact in contract.artifacts] + [golden.file for golden in contract.golden]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: the same file is named twice; convert again")
    for name in names:
        _refuse_links(folder, name)
    return Bundle(folder, contract)


def write_contract(folder: Path, contract: Contract) -> None:
    """Write `folder/model.json`, validated first, whole or not at all.

    Raises UserError where the contract is against the schema or the disk is full.
    """
    path = folder / CONTRACT_FILE
    document: dict[str, Any] = {"schema_version": 1, **asdict(contract)}
    if contract.proof is None:
        del document["proof"]
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be written as JSON ({_line(error)})") from error
    _validate(json.loads(text), path)  # what was written, not the tuples in memory
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


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
        return _line(error)
    if size != entry.bytes:
        return f"{path}: has {size} bytes, {CONTRACT_FILE} says {entry.bytes}"
    if sha256 != entry.sha256:
        return f"{path}: its sha256 is {sha256}, {CONTRACT_FILE} says {entry.sha256}"
    return None


def _validate(document: Any, path: Path) -> None:
    """Raise UserError with the deepest violation of the schema."""
    from jsonschema.exceptions import best_match

    worst = best_match(_validator().iter_errors(document))
    if worst is not None:
        where = worst.json_path.removeprefix("$.")
        message = worst.message if len(worst.message) < 200 else worst.message[:200] + "..."
        raise UserError(f"{path}: {where}: {message}; expected what conversion/{SCHEMA_FILE.name} says")


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _from_json(document: dict[str, Any]) -> Contract:
    proof = document.get("proof")
    return Contract(
        task=document["task"],
        title=document["title"],
        version=document["version"],
        artifacts=tuple(
            Artifact(**{**entry, "inputs": _tensors(entry["inputs"]), "outputs": _tensors(entry["outputs"])})
            for entry in document["artifacts"]
        ),
        golden=tuple(GoldenFile(**entry) for entry in document["golden"]),
        provenance=document["provenance"],
        proof=None
        if proof is None
        else Proof(
            proof["passed"], proof["images"], tuple(ProofResult(**result) for result in proof["results"])
        ),
    )


def _tensors(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(**{**entry, "shape": tuple(entry["shape"]), "range": tuple(entry["range"])})
        for entry in entries
    )


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


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
