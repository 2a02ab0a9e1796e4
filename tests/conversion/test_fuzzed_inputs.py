"""Files that were changed at random, as every verb reads them: read, or refused in one line. Seeds are fixed.

AFTERLENS_FUZZ=400 python -m pytest tests/conversion/test_fuzzed_inputs.py     # so many of each; 24 by default
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import shutil
import sys
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
from afterlens.conversion.external import load_external
from afterlens.conversion.lint.graph import read_graph
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.restore.credentials import credentials_of, sign
from afterlens.page_server import open_server
from afterlens.samples import FACES
from afterlens.training.faces.labelled import ATTRIBUTES, _celeba, beard_classes
from afterlens.training.faces.portraits import read_labels
from afterlens.training.media.clips import open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection.task import TASK
from afterlens.training.swap.consent import consent_form, read_consent
from afterlens.training.swap.enrolled import read_identity
from afterlens.training.swap.own_triplets import CONSENT
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network
from afterlens.training.udc.psf import read_psf
from tests.clip_files import picture, write_clip
from tests.conversion.report.bundles import benchmark_of, make_evaluated_bundle
from tests.training.swap.test_consent import signed

Cli = Callable[..., Any]
EXTERNAL = """
import torch
from torch import nn
from afterlens.training.deployable import Deployable, Port
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, image):
        return (torch.clamp(image + 0.1 * self.a(image), 0, 1),)
def deployables():
    shape = (1, 3, 16, 16)
    port = (Port("image", shape, (0.0, 1.0)),), (Port("restored", shape, (0.0, 1.0)),)
    return Deployable(Net().eval(), "fuzzed", "Fuzzed", "1", *port)
"""
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


def test_what_face_networks_read(tmp_path: Path) -> None:
    """Labels of portraits, CelebA's list, the consent form, weights with an identity, and notes in pictures."""
    photo = Path(shutil.copy(FACES[0], tmp_path))
    labels = Path(shutil.copy(FACES[0].with_suffix(".json"), tmp_path))
    fuzz(labels, lambda path: read_labels(path.with_suffix(".jpg")), changed_json)
    (tmp_path / ATTRIBUTES).write_text(
        "2\n5_o_Clock_Shadow Goatee Mustache No_Beard Sideburns\n"
        f"{photo.name} -1 1 -1 -1 -1\nother.jpg 1 -1 -1 -1 -1\n"
    )

    def classes(_: Path) -> object:
        _celeba.cache_clear()
        return beard_classes([photo])

    fuzz(tmp_path / ATTRIBUTES, classes)
    consent = tmp_path / "consent.txt"
    consent.write_text(signed(consent_form()))
    fuzz(consent, read_consent)
    fuzz(Path(shutil.copy(find_task("swap").pretrained, tmp_path)), read_identity)


def test_notes_in_pictures(tmp_path: Path, photo_path: Path) -> None:
    """A note that cannot be read is no note, and no error: most pictures have none."""
    path = tmp_path / "changed.png"
    Image.open(photo_path).resize((48, 32)).save(path)
    sign(path, photo_path, "afterlens test")
    data, found = path.read_bytes(), Counter[bool]()
    for seed in range(COUNT):
        path.write_bytes(changed_bytes(data, random.Random(seed)))
        note = credentials_of(path)
        found[note is not None] += 1
    print(dict(found))
    assert found[True] and found[False]


def test_functions_of_external_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that is named for `convert`, as a slip of the keyboard leaves it."""
    source = tmp_path / "fuzzed_network.py"
    source.write_text(EXTERNAL)
    monkeypatch.syspath_prepend(tmp_path)

    def load(_: Path) -> object:
        sys.modules.pop("fuzzed_network", None)
        importlib.invalidate_caches()
        return load_external("fuzzed_network:deployables")

    # The cached bytecode of a source that changes within one second would be taken for the new one's.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    fuzz(source, load)


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


def test_commands_on_changed_pictures(cli: Cli, tmp_path: Path, photo_path: Path) -> None:
    """The verbs that read photos, labels, weights or pairs of a user's own."""
    folder = make_evaluated_bundle(tmp_path / "judged", photo_path)
    pairs = tmp_path / "pairs"
    for side in ("input", "target"):
        (pairs / side).mkdir(parents=True)
        Image.open(photo_path).resize((64, 48)).save(pairs / side / "a.png")
    small = pairs / "input" / "a.png"
    face = Path(shutil.copy(FACES[0], tmp_path / "face.jpg"))
    shutil.copy(FACES[0].with_suffix(".json"), face.with_suffix(".json"))
    consent = tmp_path / "consent.txt"
    consent.write_text(signed(consent_form()))
    swap = Path(shutil.copy(find_task("swap").pretrained, tmp_path / "swap.safetensors"))
    beard = Path(shutil.copy(find_task("beard").pretrained, tmp_path / "beard.safetensors"))
    person = tmp_path / "people" / "one"
    person.mkdir(parents=True)
    own = Path(shutil.copy(face, person / "a.jpg"))
    agreed = Path(shutil.copy(consent, person / CONSENT))
    out = tmp_path / "out"
    enroll = ("enroll", face, "--consent", consent, "-o", tmp_path / "me.safetensors", "-c", swap)
    restore = ("-o", out / "r.png")
    cases: list[tuple[Path, tuple[str | Path, ...]]] = [
        (face, enroll),
        (consent, enroll),
        (swap, enroll),
        *(
            (path, ("triplets", person.parent, "-o", out / "triplets", "-c", swap))
            for path in (own, agreed, swap)
        ),
        (swap, ("restore", "swap", face, *restore, "-c", swap)),
        (beard, ("restore", "beard", face, *restore, "--wanted", "full", "-c", beard)),
        (face, ("restore", "beard", face, *restore, "--wanted", "none")),
        (face, ("mark", face)),
        (face.with_suffix(".json"), ("evaluate", "beard", face)),
        (face, ("evaluate", "swap", tmp_path)),
        (small, ("evaluate", "reflection", pairs)),
        (small, ("align", pairs, "-o", out / "aligned")),
        (small, ("psf", small, "-o", out / "psf.npy")),
        (
            small,
            ("report", folder, "-o", out / "report.html", "--photo", f"{small}={pairs / 'target/a.png'}"),
        ),
    ]
    for number, (path, command) in enumerate(cases):
        data = path.read_bytes()
        # Cut off, so that every verb has to do with a file that it cannot read whole.
        path.write_bytes(data[: len(data) * random.Random(number).randrange(1, 95) // 100])
        one_line(cli(*command), (number, command))
        path.write_bytes(data)


def test_bundles_that_are_served_live(tmp_path: Path, photo_path: Path) -> None:
    folder = make_evaluated_bundle(tmp_path / "judged", photo_path)
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("page")

    def served(_: Path) -> None:
        server = open_server([folder], "127.0.0.1", 0, page)[0]
        with server:
            for found in server.files.values():
                assert isinstance(found, bytes) or found[0] in (page, folder)

    fuzz(folder / CONTRACT_FILE, served, changed_json)


def one_line(result: Any, what: object) -> None:
    """An exit code of ours, and an error's one line."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.code in (0, 1, 2) and len(lines) == (result.code > 0), (what, result)


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
            ("bench", folder, "--runs", "1"),
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
            one_line(cli(*arguments), (number, path, arguments))
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
    one_line(cli("lint", own_bundle.folder), seed)
