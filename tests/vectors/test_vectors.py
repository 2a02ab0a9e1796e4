"""The vectors are current, and right by code that had no part in writing them."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.benchmarks.bench import statistics
from afterlens.benchmarks.document import check
from afterlens.conversion.bundle.contract import Artifact, GoldenFile, integrity_fault, read_bundle
from afterlens.conversion.bundle.difference import difference
from afterlens.training.deployable import Port
from afterlens.training.media.errors import UserError
from tests.vectors import contracts
from tests.vectors.write import FOLDER, vectors


def test_the_files_are_what_write_py_writes() -> None:
    written = vectors()
    found = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert found == set(written), "run python -m tests.vectors.write"
    for name, data in written.items():
        stored = (FOLDER / name).read_bytes()
        if name.startswith("golden/") and name.endswith(".png"):  # compressed by whatever zlib there is
            assert np.array_equal(pixels(stored), pixels(data)), f"{name}: run python -m tests.vectors.write"
        else:
            assert stored == data, f"{name}: run python -m tests.vectors.write"


def test_matrices_agree_with_a_walk_in_pixels() -> None:
    for case in load("geometry.json")["cases"]:
        for pixel in case["pixels"]:
            at = np.array([*np.divide(pixel["view"], case["view"]), 0, 1])
            for frame in ("artifact", "sensor"):
                matrix = np.reshape(case[f"{frame}_from_view"], (4, 4)).T
                got = (matrix @ at)[:2] * case[frame]
                assert got == pytest.approx(pixel[frame], abs=1e-4), (case, pixel)
            through = np.reshape(case["sensor_from_artifact"], (4, 4)).T @ [
                *np.divide(pixel["artifact"], case["artifact"]),
                0,
                1,
            ]
            assert through[:2] * case["sensor"] == pytest.approx(pixel["sensor"], abs=1e-4), (case, pixel)


def test_pixels_keep_their_shape_in_every_case() -> None:
    """Nothing is stretched: a step along x and a step along y of the view are as long in the sensor, at right angles."""
    for case in load("geometry.json")["cases"]:
        for frame in ("view", "artifact"):
            matrix = np.reshape(case[f"sensor_from_{frame}"], (4, 4)).T[:2, :2]
            steps = matrix / case[frame] * np.array(case["sensor"])[:, None]
            lengths = np.linalg.norm(steps, axis=0)
            assert lengths[0] == pytest.approx(lengths[1], rel=1e-5), case
            assert steps[:, 0] @ steps[:, 1] == pytest.approx(0, abs=1e-6), case
            mirrored = frame == "view" and case["mirrored"]
            assert (np.linalg.det(steps) < 0) == mirrored, case


def test_a_turned_phone_is_upright_again() -> None:
    """Most phones mount the back camera at 90 degrees and the front one at 270: held in the landscape that brings
    their long sides together (display rotation 90), neither frame needs a turn."""
    found = {
        (entry["sensor_orientation"], entry["display_rotation"], entry["front"]): entry["rotation"]
        for entry in load("geometry.json")["rotations"]
    }
    assert found[90, 0, False] == 90
    assert found[90, 90, False] == 0
    assert found[270, 0, True] == 270
    assert found[270, 90, True] == 0


def test_percentiles_are_those_of_the_host_benchmark() -> None:
    document = load("statistics.json")
    for entry in document["summaries"]:
        for name, value in statistics(entry["samples_ms"]).items():
            assert entry[name] == pytest.approx(value, abs=1e-8), (entry, name)
    for entry in document["warm_up"]:
        for name, value in statistics(entry["times_ms"][entry["warmup"] :]).items():
            assert entry["summary"][name] == pytest.approx(value, abs=1e-8), (entry, name)


def test_every_frame_is_processed_or_dropped() -> None:
    for entry in load("statistics.json")["live"]:
        assert len(entry["processed"]) + entry["dropped"] == len(entry["arrivals_ms"])
        assert entry["processed"] == sorted(set(entry["processed"]))
        assert entry["processed"][-1] == len(entry["arrivals_ms"]) - 1, "the newest is never dropped"


def test_valid_bundles_are_taken() -> None:
    for name in contracts.valid():
        bundle = read_bundle(FOLDER / "contracts" / "valid" / name)
        entries: list[Artifact | GoldenFile] = [*bundle.contract.artifacts, *bundle.contract.golden]
        for entry in entries:
            assert integrity_fault(bundle.folder, entry) is None


@pytest.mark.parametrize("name", sorted(contracts.broken()))
def test_a_broken_contract_is_refused(name: str, tmp_path: Path) -> None:
    shutil.copyfile(FOLDER / "contracts" / "broken" / f"{name}.json", tmp_path / "model.json")
    with pytest.raises(UserError):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", sorted(contracts.damaged()))
def test_a_damaged_bundle_is_refused_with_the_same_words(name: str) -> None:
    bundle = read_bundle(FOLDER / "contracts" / "damaged" / name)
    entries: list[Artifact | GoldenFile] = [*bundle.contract.artifacts, *bundle.contract.golden]
    faults = [integrity_fault(bundle.folder, entry) for entry in entries]
    line = load("contracts/expected.json")["damaged"][name]
    assert [fault for fault in faults if fault] == [str(bundle.folder / line)]


def test_the_benchmark_document_fits_the_schema() -> None:
    check(load("bench_expected.json")["document"], "bench_expected.json")


def test_golden_psnr_is_that_of_the_proof() -> None:
    for case in load("golden.json")["self_tests"]:
        shape = (case["height"], case["width"], 3)
        got, expected = (
            np.frombuffer((FOLDER / "golden" / case[name]).read_bytes(), "<f4").reshape(shape)
            for name in ("got", "expected")
        )
        found = difference(Port("restored", (1, 3, *shape[:2]), (0.0, 1.0)), got, expected)
        assert case["psnr_db"] == pytest.approx(found.psnr, abs=1e-5)
        assert case["passed"] == (found.psnr >= case["floor_db"] and not found.not_finite)


def test_an_amount_lies_between_the_frame_and_the_result() -> None:
    golden = load("golden.json")
    cases = {case["name"]: case for case in golden["frames"]}
    sensor = Image.open(FOLDER / "golden" / "sensor.png")
    for name in {entry["frame"] for entry in golden["amounts"]}:
        entries = sorted(
            (entry for entry in golden["amounts"] if entry["frame"] == name),
            key=lambda entry: entry["amount"],
        )
        assert [entry["amount"] for entry in entries] == [0, 0.5, 1]
        raw, half, restored = (
            pixels((FOLDER / "golden" / f"{entry['name']}_view.png").read_bytes()).astype(int)
            for entry in entries
        )
        assert np.abs(2 * half - raw - restored).max() <= 2, "each picture is rounded"
        assert np.abs(restored - raw).max() > 100
        drawn = warped(sensor, cases[name])
        line = slice(cases[name]["view"][0] // 2 - 1, cases[name]["view"][0] // 2 + 1)
        drawn[:, line] = 255
        assert np.abs(raw - drawn).max() <= 1
        # The output's range: a level of it is 1.25 of the screen, and its colours end where the screen's do.
        plain = pixels((FOLDER / "golden" / f"{name}_view.png").read_bytes()).astype(int)
        seen = (raw[:, line.stop :] > 0).any(-1)  # not the black around it
        wide = np.clip((plain[:, line.stop :] - 25.5) / 0.8, 0, 255)
        assert np.abs(restored[:, line.stop :] - wide)[seen].max() <= 1.25
        assert {0, 255} <= set(restored[:, line.stop :][seen].ravel())


def warped(sensor: Image.Image, case: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The raw view, by Pillow."""
    matrix = np.reshape(case["sensor_from_view"], (4, 4)).T[:2][:, [0, 1, 3]]
    scale = np.array([*(1 / np.array(case["view"])), 1])
    across, down = (matrix * scale * np.array(case["sensor"])[:, None]).tolist()
    picture = sensor.transform(
        tuple(case["view"]), Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR
    )
    return np.asarray(picture).astype(int)


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))
