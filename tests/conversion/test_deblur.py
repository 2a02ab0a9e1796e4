"""The deblurring network takes the same road with two inputs: converted, counted, quantized and proven."""

import json
from pathlib import Path

import numpy as np
import pytest

from afterlens.conversion.bundle.contract import Bundle, digest
from afterlens.conversion.bundle.proof import PROOF_FILE
from afterlens.conversion.bundle.runtimes import open_artifact
from afterlens.conversion.convert import convert
from afterlens.conversion.examples import Example, task_examples
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.verify.verify import verify
from afterlens.samples import FRAMES
from afterlens.training.deblur.task import TASK
from afterlens.training.deployable import Deployable
from afterlens.training.media.images import read_photo
from afterlens.training.trained import load_network
from tests.recipes import with_kinds

HEIGHT, WIDTH = 72, 128  # the height is padded to 80
VARIANTS = ["float32.tflite", "float16.tflite", "mixed.tflite", "float16.mlpackage"]


@pytest.fixture(scope="module")
def graph() -> Deployable:
    return TASK.deployable(load_network(TASK, TASK.pretrained)[0], HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def bundle(graph: Deployable, photo_paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    def examples(wanted: Deployable, count: int) -> list[Example]:
        return task_examples(
            TASK, with_kinds(TASK, "shake", "object"), photo_paths, wanted, count=min(count, 8), seed=1
        )

    return convert(
        [graph],
        tmp_path_factory.mktemp("deblur") / "bundle",
        {"checkpoint_sha256": digest(TASK.pretrained)[0], "recipe": {}, "data_licence": "CC BY 4.0"},
        golden_photo=FRAMES[1],
        earlier=FRAMES[:1],
        variants=VARIANTS,
        examples=examples,
    )


def test_both_frames_are_named_and_no_warp_gather_or_scatter_is_left(bundle: Bundle) -> None:
    for artifact in bundle.contract.artifacts:
        assert [spec.name for spec in artifact.inputs] == ["current", "previous"]
        assert [spec.name for spec in artifact.outputs] == ["restored"]
        counts = operator_counts(bundle.path(artifact))
        assert counts.highest_rank == 4
        # Slices are those of the matching, which no delegate minds.
        bad = {"TRANSPOSE", "SPLIT", "GATHER", "GATHER_ND", "SCATTER_ND", "gather", "scatter", "resample"}
        assert not bad & set(counts.operators), counts.operators


def test_the_golden_input_is_two_frames_in_a_row(bundle: Bundle) -> None:
    golden = {entry.tensor: entry for entry in bundle.contract.golden if entry.role == "input"}
    assert set(golden) == {"current", "previous"}
    current, previous = (read_photo(bundle.path(golden[name])).rgb for name in ("current", "previous"))
    difference = np.abs(current - previous).max(axis=2)
    assert 0.001 < float((difference > 0.1).mean()) < 0.2, "hands move, the room does not"


def test_proven_on_consecutive_real_frames(
    graph: Deployable, bundle: Bundle, photo_paths: list[Path]
) -> None:
    judged = task_examples(TASK, with_kinds(TASK, "shake", "pan"), photo_paths, graph, count=2, seed=2)
    verify(
        bundle.folder,
        {(HEIGHT, WIDTH): graph},
        FRAMES,
        checkpoint=TASK.pretrained,
        examples={(HEIGHT, WIDTH): judged},
        budgets={"float16": 0.05, "mixed": 0.3},
    )
    proof = json.loads((bundle.folder / PROOF_FILE).read_text("utf-8"))
    assert len(proof["artifacts"]) == len(VARIANTS) and all(a["passed"] for a in proof["artifacts"])
    assert {frame.name for frame in FRAMES} <= set(proof["images"])


def test_frames_that_are_mixed_up_are_seen(bundle: Bundle) -> None:
    artifact = next(a for a in bundle.contract.artifacts if a.variant == "float32")
    run = open_artifact(bundle, artifact)
    golden = {e.tensor: e for e in bundle.contract.golden if e.encoding == "png" and e.role == "input"}
    frames = [read_photo(bundle.path(golden[spec.name])).rgb for spec in artifact.inputs]
    right, wrong = (run(*pictures)["restored"] for pictures in (frames, frames[::-1]))
    assert float(np.square(right - wrong).mean()) > 1e-4
