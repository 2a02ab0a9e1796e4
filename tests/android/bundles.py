"""Bundles for the Android tests, and what Python's LiteRT computes with them: `python -m tests.android.bundles`.

Converting takes minutes, so they stay in build/android/bundles until the weights change.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from afterlens.conversion.bundle.contract import CONTRACT_FILE, Bundle, digest, read_bundle
from afterlens.conversion.bundle.runtimes import TfliteModel
from afterlens.conversion.restore.photo import open_runtime, restore_by_artifact
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo, write_png
from afterlens.training.tasks import find_task

FOLDER = Path(__file__).parents[2] / "build" / "android" / "bundles"
SAMPLES = Path(__file__).parents[2] / "afterlens" / "samples"
SIZE = "256x256"
PHOTO = (300, 420)  # height, width
FLOATS = "float32.tflite,float16.tflite"
# Deciding on "mixed" takes most of the time.
VARIANTS = {"udc": f"{FLOATS},mixed.tflite", "reflection": FLOATS, "deblur": FLOATS}


def main() -> None:
    """Bring every bundle up to date."""
    for task in VARIANTS:
        print(f"{task}: {bundle(task).folder}", file=sys.stderr)


def bundle(task: str) -> Bundle:
    """The bundle of a task, converted now if need be, with its references beside it."""
    folder = FOLDER / task
    found = current(folder, digest(find_task(task).pretrained)[0])
    if found is None:
        convert(task, folder)
        found = read_bundle(folder)
    write_references(found)
    return found


def current(folder: Path, checkpoint: str) -> Bundle | None:
    """The bundle that lies there, None where it is none, incomplete, or of other weights."""
    try:
        found = read_bundle(folder)
    except UserError:
        return None
    variants = {f"{artifact.variant}.{artifact.format}" for artifact in found.contract.artifacts}
    same = found.contract.provenance["checkpoint_sha256"] == checkpoint
    same = same and all(artifact.self_test_floor_db is not None for artifact in found.contract.artifacts)
    same = same and "camera_frame" in (folder / CONTRACT_FILE).read_text("utf-8")  # older ones lack it
    return found if same and variants >= set(VARIANTS[folder.name].split(",")) else None


def convert(task: str, folder: Path) -> None:
    """As a user does."""
    from afterlens import cli

    arguments = ["convert", task, "-o", str(folder), "--size", SIZE, "--variants", VARIANTS[task]]
    before, sys.argv = sys.argv, ["afterlens", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = before


def write_references(found: Bundle) -> None:
    """The outputs of every TFLite artifact for the golden inputs, as raw little-endian float32."""
    folder = FOLDER / "reference" / found.folder.name
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "of"
    key = hashlib.sha256((found.folder / "model.json").read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    for artifact in found.contract.artifacts:
        inputs = {
            golden.tensor: read_photo(found.path(golden)).rgb
            for golden in found.contract.golden
            if golden.role == "input" and (golden.width, golden.height) == (artifact.width, artifact.height)
        }
        for name, value in TfliteModel(found.path(artifact)).run(inputs).items():
            (folder / f"{artifact.file}.{name}.float32").write_bytes(
                np.ascontiguousarray(value, "<f4").tobytes()
            )
    write_photo(found, folder)
    stamp.write_text(key)


def write_photo(found: Bundle, folder: Path) -> None:
    """A photo larger than the artifact, and what `afterlens restore --runtime tflite` makes of it, unrounded."""
    photo = read_photo(SAMPLES / "degraded" / "udc.jpg").rgb[: PHOTO[0], : PHOTO[1]]
    write_png(folder / "photo.png", photo)
    choose = open_runtime(find_task(found.contract.task), found.folder, "tflite")
    fit, run = choose(*photo.shape[:2])
    others = [photo] * (len(fit.artifact.inputs) - 1)  # at the start of a clip
    restored = restore_by_artifact(photo, fit, run, *others)
    (folder / "photo.float32").write_bytes(np.ascontiguousarray(restored, "<f4").tobytes())


if __name__ == "__main__":
    main()
