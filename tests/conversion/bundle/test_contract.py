"""model.json: round trip, violations, untrusted names, digests."""

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Artifact,
    Bundle,
    Contract,
    GoldenFile,
    ProofResult,
    ProofSummary,
    TensorSpec,
    add_proof,
    digest,
    integrity_fault,
    read_bundle,
    write_contract,
)
from afterlens.training.media.errors import UserError


def _contract(folder: Path) -> Contract:
    """A contract with one artifact and one golden file, which are written too."""
    (folder / "golden").mkdir(parents=True)
    (folder / "net.tflite").write_bytes(b"not a model, but its digest is known")
    (folder / "golden" / "in.png").write_bytes(b"picture")
    image = TensorSpec("image", (1, 4, 6, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "photo")
    artifact = Artifact(
        file="net.tflite",
        format="tflite",
        variant="float32",
        width=6,
        height=4,
        sha256=hashlib.sha256(b"not a model, but its digest is known").hexdigest(),
        bytes=36,
        minimum_runtime="TensorFlow Lite 2.3.0",
        inputs=(image,),
        outputs=(replace(image, name="restored", meaning="clean photo"),),
        parameters=10,
        macs=1000,
    )
    golden = GoldenFile(
        "golden/in.png", "input", "image", "png", (4, 6, 3), *digest(folder / "golden" / "in.png")
    )
    provenance = {
        "checkpoint_sha256": "0" * 64,
        "recipe": {"steps": 4},
        "data_licence": "CC BY 4.0",
        "tools": {"torch": "2.13.0"},
    }
    return Contract("reflection", "Reflections – removed", "1.0.0", (artifact,), (golden,), provenance)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_contract(tmp_path / "bundle", _contract(tmp_path / "bundle"))
    return tmp_path / "bundle"


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    change(document)
    (folder / CONTRACT_FILE).write_text(json.dumps(document), "utf-8")


def _refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_was_written_is_read_back_equal(tmp_path: Path) -> None:
    contract = _contract(tmp_path)
    write_contract(tmp_path, contract)
    assert read_bundle(tmp_path) == Bundle(tmp_path, contract)

    proven = replace(contract, proof=ProofSummary(True, 3, (ProofResult("net.tflite", True, 2e-7, 100.0),)))
    write_contract(tmp_path, proven)
    assert read_bundle(tmp_path).contract == proven


def test_a_bundle_of_version_1_is_read_as_images(folder: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        document["schema_version"] = 1
        del document["proof"]
        for spec in (*document["artifacts"][0]["inputs"], *document["artifacts"][0]["outputs"]):
            del spec["kind"]
        height, width, _ = document["golden"][0].pop("shape")
        document["golden"][0].update(width=width, height=height)

    now = read_bundle(folder)
    _edit(folder, older)
    assert read_bundle(folder) == now


def _of_version_1(document: dict[str, Any]) -> None:
    document["schema_version"] = 1
    height, width, _ = document["golden"][0].pop("shape")
    document["golden"][0].update(width=width, height=height)


def _without_later_keys(document: dict[str, Any]) -> None:
    del document["camera_frame"], document["artifacts"][0]["self_test_floor_db"]


@pytest.mark.parametrize("older", [_of_version_1, _without_later_keys, lambda document: None])
def test_a_proof_changes_nothing_else_of_a_contract(
    folder: Path, older: Callable[[dict[str, Any]], object]
) -> None:
    """What a bundle does not say, such as whether a camera's frames may be scaled, no proof can know."""
    _edit(folder, older)
    before = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    proof = ProofSummary(True, 3, (ProofResult("net.tflite", True, 2e-7, 100.0),))
    add_proof(read_bundle(folder), proof)
    after = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    assert {**after, "proof": None} == before
    assert read_bundle(folder).contract.proof == proof


def test_a_contract_that_was_changed_during_the_proof_gets_none(folder: Path) -> None:
    bundle = read_bundle(folder)
    _edit(folder, lambda d: d["artifacts"][0].update(sha256="1" * 64))
    with pytest.raises(UserError, match="was changed while its files were proved; verify again"):
        add_proof(bundle, ProofSummary(True, 3, ()))
    assert read_bundle(folder).contract.proof is None


def test_what_is_written_fits_the_committed_schema(folder: Path) -> None:
    from jsonschema import Draft202012Validator

    from afterlens.conversion.bundle.contract import SCHEMA_FILE

    validator = Draft202012Validator(json.loads(SCHEMA_FILE.read_text("utf-8")))
    document = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    assert list(validator.iter_errors(document)) == []
    for broken in (
        {**document, "schema_version": 1},
        {**document, "task": "../x"},
        {**document, "golden": 3},
    ):
        assert list(validator.iter_errors(broken))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["artifacts"][0].update(width=6.0), "artifacts[0].width"),
        (lambda d: d["artifacts"][0].update(bytes=10**30), "artifacts[0].bytes"),
        (lambda d: d["artifacts"][0].update(macs=True), "artifacts[0].macs"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(range=[0, 10**400]), "artifacts[0].inputs[0].range"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(shape=[]), "artifacts[0].inputs[0].shape"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(kind="audio"), "artifacts[0].inputs[0].kind"),
        (lambda d: d.update(artifacts={}), "artifacts"),
        (lambda d: d.pop("task"), "task"),
        (lambda d: d.update(task="Reflection removal"), "task"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.update(schema_version=3), "schema_version"),
        (lambda d: d["artifacts"].clear(), "artifacts"),
        (lambda d: d["artifacts"][0].update(format="onnx"), "artifacts[0].format"),
        (lambda d: d["artifacts"][0].update(sha256="ABC"), "artifacts[0].sha256"),
        (lambda d: d["artifacts"][0].update(bytes="36"), "artifacts[0].bytes"),
        (lambda d: d["artifacts"][0].update(width=0), "artifacts[0].width"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(range=[0]), "artifacts[0].inputs[0].range"),
        (lambda d: d["artifacts"][0]["outputs"][0].update(layout="NCHW"), "artifacts[0].outputs[0].layout"),
        (lambda d: d["provenance"].pop("data_licence"), "data_licence"),
        (lambda d: d["golden"][0].update(role="both"), "golden[0].role"),
    ],
)
def test_a_violation_of_the_schema_is_one_line_that_names_the_place(
    folder: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    _edit(folder, change)
    assert named in _refused(folder)


@pytest.mark.parametrize(
    "name",
    ["../net.tflite", "/etc/hostname", "sub/net.tflite", "..", ".", "", "a\\b", "net\0", ".hidden", "C:net"],
)
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    _edit(folder, lambda d: d["artifacts"][0].update(file=name))
    assert "artifacts[0].file" in _refused(folder)


@pytest.mark.parametrize(
    "name", ["golden/../net.tflite", "/etc/hostname", "net.tflite", "golden/a/b", "golden/"]
)
def test_golden_names_stay_in_their_folder(folder: Path, name: str) -> None:
    _edit(folder, lambda d: d["golden"][0].update(file=name))
    assert "golden[0].file" in _refused(folder)


@pytest.mark.parametrize("link", ["net.tflite", "golden"])
def test_links_are_refused(folder: Path, tmp_path: Path, link: str) -> None:
    (folder / link).rename(tmp_path / "elsewhere")
    (folder / link).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in _refused(folder)


def test_a_file_named_twice_is_refused(folder: Path) -> None:
    _edit(folder, lambda d: d["artifacts"].append(d["artifacts"][0]))
    assert "twice" in _refused(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": NaN}',
        "[" * 100_000,
        '{"a": 1e999}',
        '"\\ud800"',
        "\N{BYTE ORDER MARK}{}",
    ],
)
def test_broken_json_is_one_line(folder: Path, text: str) -> None:
    (folder / CONTRACT_FILE).write_text(text, "utf-8")
    assert CONTRACT_FILE in _refused(folder)


def test_a_contract_of_4_mb_is_read_and_a_larger_one_is_not(folder: Path) -> None:
    path = folder / CONTRACT_FILE
    path.write_bytes(path.read_bytes().ljust(4 << 20))
    read_bundle(folder)
    with path.open("a") as file:
        file.write(" ")
    assert "larger than 4194304 bytes" in _refused(folder)


def test_bytes_that_are_no_text_are_one_line(folder: Path) -> None:
    (folder / CONTRACT_FILE).write_bytes(b"\xff\xfe\x00")
    assert CONTRACT_FILE in _refused(folder)


def test_a_folder_without_a_contract_is_named(tmp_path: Path) -> None:
    assert "afterlens convert" in _refused(tmp_path)


def test_nothing_against_the_schema_can_be_made_or_written(tmp_path: Path) -> None:
    contract = _contract(tmp_path)
    wrong: list[Callable[[], Contract]] = [
        lambda: replace(contract, task="No Task"),
        lambda: replace(contract, artifacts=(replace(contract.artifacts[0], file="../net.tflite"),)),
        lambda: replace(contract, provenance={**contract.provenance, "data_licence": 3}),
        lambda: replace(
            contract, proof=ProofSummary(True, 1, (ProofResult("net.tflite", True, 0.0, float("inf")),))
        ),
    ]
    for make in wrong:
        with pytest.raises(ValueError, match="validation error"):
            make()
    with pytest.raises(UserError, match="cannot be written as JSON"):
        write_contract(tmp_path, replace(contract, provenance={**contract.provenance, "more": math.nan}))
    assert not (tmp_path / CONTRACT_FILE).exists()


def test_an_intact_bundle_has_no_fault(folder: Path) -> None:
    contract = read_bundle(folder).contract
    assert integrity_fault(folder, contract.artifacts[0]) is None
    assert integrity_fault(folder, contract.golden[0]) is None


def test_a_changed_file_a_cut_one_and_an_edited_digest_are_told_apart(folder: Path) -> None:
    artifact = read_bundle(folder).contract.artifacts[0]
    path = folder / artifact.file
    original = path.read_bytes()

    path.write_bytes(original.replace(b"known", b"Known"))
    assert "sha256" in (integrity_fault(folder, artifact) or "")
    path.write_bytes(original[:-1])
    assert "35 bytes" in (integrity_fault(folder, artifact) or "")
    path.unlink()
    assert "missing" in (integrity_fault(folder, artifact) or "")

    path.write_bytes(original)
    _edit(folder, lambda d: d["artifacts"][0].update(sha256="1" * 64))
    assert "1" * 64 in (integrity_fault(folder, read_bundle(folder).contract.artifacts[0]) or "")


def test_a_folders_digest_is_what_sha256sum_makes_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "net.mlpackage"
    files = {
        "Manifest.json": b"{}",
        "Data/model": b"graph",
        "Data/weights/weight.bin": bytes(1000),
        "Data.txt": b"",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    names = sorted(files, key=str.encode)
    listing = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    assert digest(folder) == (hashlib.sha256(listing).hexdigest(), sum(map(len, files.values())))


def test_a_folders_digest_sees_content_names_and_places(tmp_path: Path) -> None:
    folder = tmp_path / "net.mlpackage"
    (folder / "Data").mkdir(parents=True)
    file = folder / "Data" / "weight.bin"
    file.write_bytes(b"weights")
    seen = {digest(folder)[0]}
    file.write_bytes(b"Weights")
    seen.add(digest(folder)[0])
    file.rename(folder / "Data" / "weights.bin")
    seen.add(digest(folder)[0])
    (folder / "Data" / "weights.bin").rename(folder / "weights.bin")
    seen.add(digest(folder)[0])
    assert len(seen) == 4
    file.symlink_to("/etc/hostname")
    with pytest.raises(UserError, match="link"):
        digest(folder)
