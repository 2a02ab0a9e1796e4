"""The verbs that read and write bundles, on a real bundle: glue, exit codes, and what they leave behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.conversion.bundle.contract import Bundle, digest
from afterlens.training.deployable import Deployable

Cli = Callable[..., Any]  # the fixture `cli`: arguments -> code, stdout, stderr


def test_verify_bench_and_report_follow_each_other(
    cli: Cli, own_bundle: Bundle, checkpoint: Path, photo_path: Path, tmp_path: Path
) -> None:
    folder, times, page = own_bundle.folder, tmp_path / "bench.json", tmp_path / "report.html"

    verified = cli("verify", folder, photo_path, "-c", checkpoint, "--json")
    assert verified.code == 0, verified.stderr
    assert json.loads(verified.stdout) == json.loads((folder / "proof.json").read_text())

    timed = cli("bench", folder, "-c", checkpoint, "--runs", "2", "--warmup", "0", "-o", times, "--json")
    assert timed.code == 0, timed.stderr
    assert json.loads(timed.stdout) == json.loads(times.read_text())

    photo = f"{photo_path}={photo_path}"
    reported = cli("report", folder, "--bench", times, "--photo", photo, "-o", page, "--json")
    assert reported.code == 0, reported.stderr
    assert json.loads(reported.stdout) == {"report": str(page)}
    assert "room" in page.read_text()


def test_a_bundle_that_is_wrong_fails_with_1_and_shows_its_proof(
    cli: Cli, own_bundle: Bundle, checkpoint: Path, photo_path: Path
) -> None:
    artifact = own_bundle.contract.artifacts[0]
    files = [own_bundle.path(artifact), *own_bundle.path(artifact).rglob("*")]
    broken = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    broken.write_bytes(broken.read_bytes()[:-100])
    result = cli("verify", own_bundle.folder, photo_path, "-c", checkpoint, "--json")
    assert result.code == 1
    assert result.stderr.splitlines()[-1].startswith("error: gate failed: ")
    assert artifact.file in result.stderr.splitlines()[-1]
    proof = json.loads(result.stdout)
    assert proof["passed"] is False
    assert any(artifact.file in failure for failure in proof["failures"])


def test_a_failed_proof_is_shown_as_a_table_too(
    cli: Cli, own_bundle: Bundle, checkpoint: Path, photo_path: Path
) -> None:
    golden = own_bundle.path(own_bundle.contract.golden[0])
    golden.write_bytes(golden.read_bytes()[:-1])
    result = cli("verify", own_bundle.folder, photo_path, "-c", checkpoint)
    assert result.code == 1
    for artifact in own_bundle.contract.artifacts:
        assert artifact.file in result.stdout
    assert golden.name in result.stderr.splitlines()[-1]


def test_all_runtimes_restore_alike_at_the_size_of_the_artifact(
    cli: Cli, bundle: Bundle, checkpoint: Path, photo_path: Path, tmp_path: Path
) -> None:
    with Image.open(photo_path) as image:
        image.crop((100, 50, 356, 306)).save(tmp_path / "in.png")
    pictures = {}
    for runtime in ("torch", "tflite", "coreml"):
        out = tmp_path / f"{runtime}.png"
        options = ("--runtime", runtime, "--bundle", bundle.folder, "-c", checkpoint)
        result = cli("restore", "reflection", tmp_path / "in.png", "-o", out, *options)
        assert result.code == 0, result.stderr
        with Image.open(out) as image:
            pictures[runtime] = np.asarray(image, np.int16)
    for runtime in ("tflite", "coreml"):
        difference = np.abs(pictures[runtime] - pictures["torch"])
        assert difference.max() <= 2, f"{runtime}: max {difference.max()}, mean {difference.mean():.4f}"


def test_a_bundle_of_another_task_is_refused(
    cli: Cli, own_bundle: Bundle, photo_path: Path, tmp_path: Path
) -> None:
    path = own_bundle.folder / "model.json"
    path.write_text(path.read_text().replace('"task": "reflection"', '"task": "deblur"'))
    options = ("--runtime", "tflite", "--bundle", own_bundle.folder)
    result = cli("restore", "reflection", photo_path, "-o", tmp_path / "out.png", *options)
    assert result.code == 2
    assert "is a bundle of task 'deblur', expected 'reflection'" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_convert_hands_over_sizes_and_provenance(
    cli: Cli,
    bundle: Bundle,
    random_checkpoint: Path,
    photo_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[dict[str, Any]] = []

    # The conversion itself takes a minute and has tests of its own.
    def converted(graphs: list[Deployable], out: Path, provenance: dict[str, Any], **options: Any) -> Bundle:
        calls.append({"graphs": graphs, "out": out, "provenance": provenance, **options})
        return bundle

    monkeypatch.setattr("afterlens.conversion.convert.convert", converted)
    sizes = ("--size", "320x192", "--size", "64x96", "--size", "64x96")
    out = tmp_path / "bundle"
    options = ("-c", random_checkpoint, *sizes, "--photo", photo_path, "--json")
    result = cli("convert", "reflection", "-o", out, *options)
    assert result.code == 0, result.stderr
    first = bundle.contract.artifacts[0]
    assert json.loads(result.stdout)["artifacts"][0]["file"] == first.file
    (call,) = calls
    table = cli("convert", "reflection", "-o", out, *options[:-1]).stdout
    (row,) = (line.split("│")[1:-1] for line in table.splitlines() if first.file in line)
    numbers = [f"{first.bytes / 1e6:.2f}", f"{first.macs / 1e9:.2f}"]
    assert [cell.strip() for cell in row] == [first.file, first.format, *numbers]
    assert [graph.inputs[0].shape for graph in call["graphs"]] == [(1, 3, 192, 320), (1, 3, 96, 64)]
    assert (call["out"], call["golden_photo"]) == (out, photo_path)
    calibrated_on = call["examples"](call["graphs"][0], 2)
    assert [example.inputs["image"].shape for example in calibrated_on] == [(192, 320, 3)] * 2
    assert call["provenance"]["checkpoint_sha256"] == digest(random_checkpoint)[0]
    assert set(call["provenance"]["recipe"]) >= {"training", "network"}
    assert call["provenance"]["data_licence"] == "not stated"
