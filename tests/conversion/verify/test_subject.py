"""What is said of one artifact: the worst first, and the numbers of the worst picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afterlens.conversion.bundle.contract import Artifact, Bundle, read_bundle
from afterlens.conversion.bundle.proof import OutputRow, Place
from afterlens.conversion.verify.quality import evaluate_quality, measure
from afterlens.conversion.verify.subject import Subject, proven, size_of
from tests.conversion.report.bundles import make_bundle


@pytest.fixture
def bundle(tmp_path: Path, photo_path: Path) -> Bundle:
    return read_bundle(make_bundle(tmp_path / "bundle", photo_path))


@pytest.fixture
def artifact(bundle: Bundle) -> Artifact:
    return next(entry for entry in bundle.contract.artifacts if entry.format == "tflite")


def row(image: str, error: float, psnr: float, levels: int | None, *faults: str) -> OutputRow:
    place = Place("x 1, y 2, R", 0.5, 0.4)
    return OutputRow(image, "restored", error, error / 2, psnr, None, levels, 0.0, 1.0, place, faults)


def test_the_file_itself_comes_first_then_its_budget_then_the_worst_picture(artifact: Artifact) -> None:
    picture = np.random.default_rng(0).random((16, 16, 3), np.float32) * 0.5 + 0.25
    off = measure("bad", picture + np.float32(0.1), picture, picture, picture)
    subject = Subject(
        artifact,
        None,
        ["one", "two"],
        [
            row("small", 0.01, 50.0, 2, "a"),
            row("none", 0.9, 40.0, 3),
            row("large", 0.2, 30.0, 1, "b", "c"),
            row("middle", 0.1, 60.0, None, "d"),
        ],
        evaluate_quality([off], 0.1),
    )
    said = [line.removeprefix(f"{artifact.file}: ") for line in subject.failures()]
    assert said[:2] == ["one", "two"]
    assert said[2].startswith("loses ")
    assert said[3:] == [
        "output 'restored', image large: b",
        "output 'restored', image large: c",
        "output 'restored', image middle: d",
        "output 'restored', image small: a",
    ]
    assert all(line.startswith(f"{artifact.file}: ") for line in subject.failures())
    within = replace(subject, faults=[], rows=[], quality=evaluate_quality([off], 90.0))
    assert within.failures() == []


def test_the_proof_has_the_numbers_of_the_worst_picture(bundle: Bundle, artifact: Artifact) -> None:
    rows = [row("a", 0.01, 50.0, 2), row("b", 0.2, 30.0, 1), row("c", 0.1, 60.0, None)]
    found = proven(bundle, Subject(artifact, None, [], rows))
    assert (found.max_error, found.psnr, found.mean_error, found.levels) == (0.2, 30.0, 0.1, 2)
    assert (found.passed, found.runtime, found.provenance) == (True, None, "measured-host")
    assert (found.file, found.sha256, found.bytes) == (artifact.file, artifact.sha256, artifact.bytes)
    nothing = proven(bundle, Subject(artifact, None, ["cannot be loaded"]))
    assert (nothing.max_error, nothing.psnr, nothing.mean_error, nothing.levels) == (None,) * 4
    assert not nothing.passed and nothing.faults == ("cannot be loaded",)
    package = replace(artifact, format="coreml", variant="float16")
    assert proven(bundle, Subject(package, None, [])).provenance == "reference-execution"


def test_sizes_are_height_and_width(artifact: Artifact) -> None:
    assert size_of(replace(artifact, height=3, width=5)) == (3, 5)
