"""Files that were changed at random, as every verb reads them: read, or refused in one line. Seeds are fixed.

AFTERLENS_FUZZ=400 python -m pytest tests/conversion/test_fuzzed_inputs.py     # so many of each; 24 by default
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.benchmarks.document import read_document
from afterlens.conversion.bundle.contract import CONTRACT_FILE, Bundle, digest, read_bundle
from afterlens.conversion.bundle.proof import PROOF_FILE, read_proof
from afterlens.conversion.lint.graph import read_graph
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.operator_counts import operator_counts
from afterlens.training.media.clips import open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.task import TASK
from afterlens.training.trained import load_network
from afterlens.training.udc.psf import read_psf
from tests.clip_files import picture, write_clip
from tests.conversion.report.bundles import benchmark_of, make_evaluated_bundle

Cli = Callable[..., Any]
Read = Callable[[Path], object]

COUNT = int(os.environ.get("AFTERLENS_FUZZ", "24"))
HEAD = 20_000  # bytes of a large file that are changed: what follows are numbers
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "x" * 300,
    "../../etc/passwd",
    "\0",
    [],
    {},
    256.0,
    "\ud800",
]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to ten changes: bits turned, bytes zeroed, cut out, put in, moved; the end cut off."""
    found = bytearray(data[:HEAD])
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        at, other = (rng.randrange(max(1, len(found))) for _ in range(2))
        count = rng.choice((1, 4, 16, 64))
        match rng.randrange(7):
            case 0 if found:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at : at + count] = bytes(count)
            case 2:
                del found[at : at + count]
            case 3:
                found[at:at] = rng.randbytes(count)
            case 4:
                return bytes(found[:at])
            case 5:
                found[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0")
                )
            case _:
                found[at : at + 30] = found[other : other + 30]
    return bytes(found) + data[HEAD:]


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """A value or two replaced by an odd one, left out, or doubled; or changed bytes."""
    if rng.random() < 0.3:
        return changed_bytes(data, rng)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        places: list[tuple[Any, Any]] = []
        waiting = [document]
        while waiting:
            node = waiting.pop()
            keys = list(node) if isinstance(node, dict) else range(len(node))
            places += [(node, key) for key in keys]
            waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
        node, key = rng.choice(places)
        match rng.randrange(4):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.append(node[key])
            case _:
                node[key] = rng.choice(ODD)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def fuzz(path: Path, read: Read, change: Callable[[bytes, random.Random], bytes] = changed_bytes) -> None:
    """`read` on so many changed versions of a file; it takes the file itself."""
    data, found = path.read_bytes(), Counter[str]()
    read(path)
    for seed in range(COUNT):
        path.write_bytes(change(data, random.Random(seed)))
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                read(path)
        except UserError as error:
            assert str(error) and "\n" not in str(error).strip(), f"seed {seed}: {error}"
            found["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed} of {path.name}") from error
        else:
            found["read"] += 1
    path.write_bytes(data)
    print(path.name, dict(found))
    assert found["refused"]


IMAGES = {"png": {}, "jpeg": {}, "tiff": {"compression": "tiff_lzw"}, "webp": {}, "bmp": {}, "gif": {}} | {
    "jpeg2000": {},
    "avif": {},
    "ppm": {},
    "tga": {},
}


@pytest.mark.parametrize("kind", IMAGES)
def test_photos(tmp_path: Path, photo_path: Path, kind: str) -> None:
    file = io.BytesIO()
    Image.open(photo_path).resize((48, 32)).save(file, kind.upper(), **IMAGES[kind])
    path = tmp_path / f"photo.{kind}"
    path.write_bytes(file.getvalue())
    fuzz(path, read_photo)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("c.mp4", "libx264"),
        ("c.mkv", "libx264"),
        ("c.webm", "libvpx-vp9"),
        ("c.avi", "mpeg4"),
        ("c.ts", "mpeg2video"),
    ],
)
def test_clips(tmp_path: Path, name: str, codec: str) -> None:
    clip = write_clip(tmp_path / name, [picture(number) for number in range(6)], codec=codec)
    fuzz(clip, lambda path: [frame.shape for frame in open_clip(path)])


def test_checkpoints_recipes_and_psfs(tmp_path: Path, random_checkpoint: Path) -> None:
    weights = Path(shutil.copy(random_checkpoint, tmp_path))
    fuzz(weights, lambda path: load_network(TASK, path))
    recipe = Path(shutil.copy(TASK.recipe_path, tmp_path))
    fuzz(recipe, lambda path: read_recipe(TASK.recipe_type, path))
    np.save(tmp_path / "psf.npy", np.full((3, 5, 5), 1 / 25, np.float32))
    fuzz(tmp_path / "psf.npy", read_psf)


def test_contracts_proofs_and_timings(tmp_path: Path, photo_path: Path) -> None:
    folder = make_evaluated_bundle(tmp_path / "judged", photo_path)
    timings = tmp_path / "bench.json"
    timings.write_text(json.dumps(benchmark_of(folder)), "utf-8")
    fuzz(folder / CONTRACT_FILE, lambda path: read_bundle(path.parent), changed_json)
    fuzz(folder / PROOF_FILE, read_proof, changed_json)
    fuzz(timings, read_document, changed_json)


def test_tflite_files_and_packages(own_bundle: Bundle) -> None:
    def both(path: Path) -> None:
        read_graph(path)
        operator_counts(path)

    files = {artifact.format: own_bundle.path(artifact) for artifact in own_bundle.contract.artifacts}
    fuzz(files["tflite"], both)
    package = files["coreml"]

    def whole(_: Path) -> None:
        MilProgram.load(package)
        both(package)

    fuzz(package / "Manifest.json", whole, changed_json)
    fuzz(package / "Data/com.apple.CoreML/model.mlmodel", whole)
    fuzz(package / "Data/com.apple.CoreML/weights/weight.bin", whole)


def test_commands_on_changed_files(cli: Cli, tmp_path: Path, photo_path: Path) -> None:
    """The verbs that read a bundle: an exit code of ours, and one line."""
    folder = make_evaluated_bundle(tmp_path / "judged", photo_path)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    timings = tmp_path / "bench.json"
    timings.write_text(json.dumps(benchmark_of(folder)), "utf-8")
    for number, path in enumerate((folder / CONTRACT_FILE, folder / PROOF_FILE, timings) * 2):
        data = path.read_bytes()
        path.write_bytes(changed_json(data, random.Random(number)))
        for arguments in (
            ("compare", other, folder),
            ("report", folder, "--bench", timings, "-o", tmp_path / "report.html"),
            ("lint", folder),
            ("verify", folder),
            (
                "restore",
                "reflection",
                photo_path,
                "-o",
                tmp_path / "r.png",
                "--runtime",
                "tflite",
                "--bundle",
                folder,
            ),
        ):
            result = cli(*arguments)
            lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
            assert result.code in (0, 1, 2) and len(lines) == (result.code > 0), (
                number,
                path,
                arguments,
                result,
            )
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_a_tflite_file_with_the_digest_of_its_changes(cli: Cli, own_bundle: Bundle, seed: int) -> None:
    """Whoever can change a file can write its digest as well."""
    artifact = next(a for a in own_bundle.contract.artifacts if a.format == "tflite")
    path, contract = own_bundle.path(artifact), own_bundle.folder / CONTRACT_FILE
    path.write_bytes(changed_bytes(path.read_bytes(), random.Random(seed)))
    document = json.loads(contract.read_text("utf-8"))
    entry = next(entry for entry in document["artifacts"] if entry["file"] == artifact.file)
    entry["sha256"], entry["bytes"] = digest(path)
    document["artifacts"] = [entry]  # the others take their time
    contract.write_text(json.dumps(document), "utf-8")
    result = cli("lint", own_bundle.folder)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.code in (0, 1, 2) and len(lines) == (result.code > 0), result
