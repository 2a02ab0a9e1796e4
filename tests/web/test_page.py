"""The page of `afterlens live` in Debian's Chromium: WebGL and WebGPU by its software renderer, a file for the camera."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from afterlens.benchmarks.document import read_document
from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.runtimes import TfliteModel
from tests.android import bundles
from tests.web.requirements import missing
from tests.web.site import PAGE, ROOT, WEB, browse, npm, served, write_camera

SAMPLES = ROOT / "afterlens" / "samples"
VECTORS = ROOT / "tests" / "vectors"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENOTCACHED")

Array = NDArray[Any]


@pytest.fixture(scope="module")
def built() -> None:
    """The packages are there, at the versions of package.json, and the page is built with the tests' own page."""
    if found := missing():
        pytest.skip(f"not installed (Debian's names; Node from 20.19): {', '.join(found)}")
    stamp = WEB / "node_modules" / ".installed"
    key = hashlib.sha256((WEB / "package.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != key:
        done = npm("install", "--no-audit", "--no-fund")
        if done.returncode and any(words in done.stderr for words in NO_NETWORK):
            pytest.skip(f"npm could not download what the page is built with: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr[-3000:]
        stamp.write_text(key)
    done = npm("run", "build", "--", "--mode", "test", "--outDir", str(PAGE), "--logLevel", "warn")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def live_bundles(built: None) -> list[Bundle]:
    """Of udc and deblur, the Android tests' own."""
    bundles.FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(bundles.FOLDER / ".lock"):
        return [bundles.bundle(task) for task in ("udc", "deblur")]


@pytest.fixture(scope="module")
def frame() -> Array:
    """What the camera sees, (720, 1280, 3) in 8 bits."""
    with Image.open(SAMPLES / "degraded" / "udc.jpg") as image:
        return np.asarray(image.convert("RGB").resize((1280, 720), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def camera(frame: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera that stands still, so that one frame can be compared with the next."""
    return write_camera(tmp_path_factory.mktemp("camera") / "still.y4m", [frame, frame], rate=6)


def rgba(text: str, width: int, height: int) -> Array:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[:, :, :3]


def psnr(one: Array, other: Array) -> float:
    """In dB, at most 100."""
    return float(-10 * np.log10(max(1e-10, np.mean((one / 255.0 - other / 255.0) ** 2))))


def test_the_core_gives_the_answers_of_the_vectors(built: None) -> None:
    done = npm("test")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "# fail 0" in done.stdout
    assert "# skipped 0" in done.stdout


def test_frames_are_drawn_as_in_the_vectors(built: None) -> None:
    golden = json.loads((VECTORS / "golden.json").read_text("utf-8"))
    cases = {case["name"]: case for case in golden["frames"]}
    plain = {"divider": golden["divider"], "line": golden["line_pixels"]}
    folder = VECTORS / "golden"
    with served([VECTORS / "contracts" / "valid" / "photo"]) as address:
        found = browse(
            "frames",
            address=address,
            frames=[
                *((case, plain) for case in golden["frames"]),
                *((cases[entry["frame"]], {**plain, **entry}) for entry in golden["amounts"]),
            ],
            sensor=folder / "sensor.png",
            plain=[],
        )
    assert len(found["pictures"]) == 16 + 6
    names = [(case["name"], case["name"]) for case in golden["frames"]]
    names += [(entry["name"], entry["frame"]) for entry in golden["amounts"]]
    for (name, frame), texts in zip(names, found["pictures"], strict=True):
        files = {"artifact": f"{frame}_artifact.png", "view": f"{name}_view.png"}
        for (kind, file), text in zip(files.items(), texts, strict=True):
            expected = np.asarray(Image.open(folder / file).convert("RGB")).astype(int)
            got = rgba(text, *cases[frame][kind])
            worst = np.abs(got - expected).max()
            assert worst <= 2, f"{file}: {worst} levels"


def test_at_all_of_the_change_nothing_of_the_frame_is_left_and_at_none_nothing_of_the_result(
    built: None,
) -> None:
    (case, *_) = json.loads((VECTORS / "golden.json").read_text("utf-8"))["frames"]
    # Every second value lies between two levels, so the smallest rounding error would show.
    halves = [value / 1024 for value in range(511)]
    all_of_it = {"divider": 0, "line": 0, "amount": 1, "range": [0, 510 / 1024]}
    none_of_it = {"divider": 0, "line": 0, "amount": 0}
    not_finite = [None, 0.5, 1000]
    with served([VECTORS / "contracts" / "valid" / "photo"]) as address:
        on_white, on_black, nothing = browse(
            "frames",
            address=address,
            frames=[],
            sensor=VECTORS / "golden" / "sensor.png",
            plain=[
                (case, 255, halves, all_of_it),
                (case, 0, halves, all_of_it),
                (case, 99, not_finite, none_of_it),
            ],
        )["plain"]
    assert on_white == on_black
    assert len(np.unique(rgba(on_black, *case["view"]))) > 100
    assert np.unique(rgba(nothing, *case["view"])).tolist() == [99]


def test_a_camera_s_frame_comes_out_as_from_python_s_litert(
    live_bundles: list[Bundle], camera: Path, frame: Array
) -> None:
    titles = [bundle.contract.title for bundle in live_bundles]
    # The deblurring network sees pictures upright. SwiftShader takes its time with shaders: the smallest network will do.
    cases: list[dict[str, Any]] = [
        {"network": titles[0], "file": "256x256 float32", "processor": "wasm", "rotations": [0, 90]},
        {"network": titles[0], "file": "256x256 mixed", "processor": "wasm", "rotations": [0]},
        {"network": titles[0], "file": "256x256 float32", "processor": "webgpu", "rotations": [0, 90]},
        {
            "network": titles[1],
            "file": "256x256 float16",
            "processor": "wasm",
            "rotations": [0, 90, 180, 270],
        },
    ]
    with served([bundle.folder for bundle in live_bundles]) as address:
        found = browse("live", address=address, camera=camera, cases=cases)
    middle = frame[232:488, 512:768]
    for case, one in zip(cases, found["found"], strict=True):
        bundle = live_bundles[titles.index(case["network"])]
        (artifact,) = (
            artifact
            for artifact in bundle.contract.artifacts
            if f"256x256 {artifact.variant}" == case["file"] and artifact.format == "tflite"
        )
        assert one["state"] == "ready", one
        assert artifact.file in one["runs"]
        assert ("WebGPU" if case["processor"] == "webgpu" else "wasm") in one["runs"]
        assert "self-test" in one["runs"]
        assert one["note"] == "", (
            "udc gets the middle of a frame of its own size; both gets what they were trained for"
        )
        model = TfliteModel(bundle.path(artifact))
        first = None
        for rotation, run in zip(case["rotations"], one["kept"], strict=True):
            inputs = {name: rgba(text, 256, 256) for name, text in run["inputs"].items()}
            (restored,) = model.run(
                {name: np.divide(value, 255, dtype=np.float32) for name, value in inputs.items()}
            ).values()
            (text,) = run["outputs"].values()
            got = np.frombuffer(base64.b64decode(text), "<f4").reshape(restored.shape)
            worst = float(np.abs(got - restored).max())
            print(case["file"], case["processor"], rotation, f"largest difference {worst:.2e}")
            # Integers round otherwise on other kernels.
            assert worst <= 1e-6 if artifact.variant != "mixed" else psnr(255 * got, 255 * restored) > 40
            assert np.ptp(got) > 0.3, "a picture, not a plain colour"
            seen = inputs[artifact.inputs[0].name].astype(int)
            if bundle.contract.task == "udc":  # the middle of the frame, unscaled, as it comes
                assert psnr(seen, middle) > 35
            first = seen if first is None else first
            upright = first if bundle.contract.task == "udc" else np.rot90(first, -rotation // 90)
            assert np.abs(seen - upright).max() <= 1, f"{case['file']} {rotation}"
            for other in inputs.values():  # the frame before, of a camera that stands still
                assert np.abs(other.astype(int) - seen).max() <= 1


def test_the_amount_says_how_much_of_the_change_is_shown(
    live_bundles: list[Bundle], camera: Path, tmp_path: Path
) -> None:
    with served([live_bundles[0].folder]) as address:
        found = browse(
            "amounts",
            address=address,
            camera=camera,
            photo=SAMPLES / "degraded" / "udc.jpg",
            other="256x256 float32",
            out=Path(os.environ.get("AFTERLENS_SCREENSHOTS", tmp_path)),
            viewport={"width": 390, "height": 780},
        )["found"]
    for source, pictures in found["pictures"].items():
        raw, none, half, restored = (levels(pictures[name]) for name in ("raw", "0", "50", "100"))
        change = np.abs(restored - raw).max()
        print(source, f"{raw.shape}, the network changes up to {change} levels")
        assert change > 40, source
        assert np.array_equal(none, raw), source
        assert np.abs(2 * half - raw - restored).max() <= 2, f"{source}: each picture is rounded"
    shown = [int(value) for value, *_ in found["said"]]
    assert shown == [100, *(100, 50, 0) * 2, 98, 98], "keys move it, and another file leaves it"
    assert all(
        said == [str(value), f"{value} %", f"{value} %"]
        for value, said in zip(shown, found["said"], strict=True)
    )
    other, photo = levels(found["other"]), found["pictures"]["photo"]
    wanted = 0.98 * levels(photo["100"]) + 0.02 * levels(photo["0"])
    assert np.abs(other - wanted).mean() < 1, "float32 makes nearly the same of the photo as mixed"
    assert found["width"] == 390, "nothing is wider than the phone"
    boxes = found["boxes"]
    for at, one in enumerate(boxes):
        assert one["left"] >= 0 and one["right"] <= 390 and one["bottom"] > one["top"], one
        for other_box in boxes[at + 1 :]:
            apart_across = one["right"] <= other_box["left"] or other_box["right"] <= one["left"]
            apart_down = one["bottom"] <= other_box["top"] or other_box["bottom"] <= one["top"]
            assert apart_across or apart_down, (one, other_box)


def levels(png: str) -> NDArray[np.int64]:
    """Of a PNG in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(np.int64)


def test_what_is_missing_is_said_in_a_sentence(live_bundles: list[Bundle], camera: Path) -> None:
    folders = [bundle.folder for bundle in live_bundles]
    with served(folders, only_local=False) as address:
        foreign = address.replace("localhost", "phone.test")
        device = ["--use-fake-device-for-media-stream", "--host-resolver-rules=MAP phone.test 127.0.0.1"]
        refused, insecure = browse(
            "troubles", camera=camera, flags=device, permissions=[], addresses=[address, foreign]
        )["found"]
        (absent,) = browse(
            "troubles", camera=camera, flags=["--use-fake-ui-for-media-stream"], permissions=["camera"],
            addresses=[address], pretended=True,
        )["found"]  # fmt: skip
    assert refused["message"].startswith("The camera is not allowed.")
    assert absent["message"].startswith("This computer has no camera.")
    for one in (refused, absent):
        assert one["state"] == "ready", "the network is ready for photos"
        assert "udc_256x256_mixed.tflite on CPU" in one["runs"], "what suits the CPU"
    assert refused["note"] == "This browser has no WebGPU here, so networks run on the CPU."
    assert absent["note"] == "The GPU refused: this browser has no WebGPU adapter for it. The CPU does it."
    assert insecure["state"] == "failed"
    assert "https" in insecure["message"] and "localhost" in insecure["message"]


def test_a_broken_bundle_is_said_in_a_sentence(
    live_bundles: list[Bundle], camera: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = live_bundles[0]
    for path in whole.folder.rglob("*"):
        if path.is_file():
            (broken / path.relative_to(whole.folder)).parent.mkdir(exist_ok=True)
            data = path.read_bytes()
            (broken / path.relative_to(whole.folder)).write_bytes(
                data[:-1] + bytes([data[-1] ^ 1]) if path.suffix == ".tflite" else data
            )
    with served([broken]) as address:
        (found,) = browse(
            "troubles", camera=camera, flags=["--use-fake-ui-for-media-stream"], permissions=["camera"],
            addresses=[address],
        )["found"]  # fmt: skip
    assert found["state"] == "failed"
    assert found["runs"].startswith("The network stopped: udc_256x256_")
    assert "its sha256 is" in found["runs"]


def test_photos_clips_self_tests_and_benchmark(
    live_bundles: list[Bundle], camera: Path, tmp_path: Path
) -> None:
    neither = tmp_path / "notes.jpg"
    neither.write_text("no photo")
    steps = [
        {"name": "camera"},
        {"name": "photo", "file": str(SAMPLES / "degraded" / "udc.jpg")},
        {"name": "clip", "file": str(clip(tmp_path))},
        {"name": "neither", "file": str(neither)},
        {"name": "test"},
        {"name": "benchmark"},
    ]
    out = Path(os.environ.get("AFTERLENS_SCREENSHOTS", tmp_path))
    with served([live_bundles[0].folder]) as address:
        found = browse(
            "tour",
            address=address,
            camera=camera,
            steps=steps,
            out=out,
            viewport={"width": 390, "height": 780},
        )["found"]
    assert found["neither"]["message"] == "This file is no photo or clip that the browser can show."
    assert found["neither_run"]["inputs"], "the clip before goes on"
    assert found["photo"]["message"] == found["clip"]["message"] == ""
    for artifact in live_bundles[0].contract.artifacts:
        if artifact.format == "tflite":
            assert f"256x256 {artifact.variant}" in found["test"]["results"]
    assert found["test"]["results"].count("passed") == 3
    document = read_document(out / "benchmark.json")
    (result,) = document["results"]
    assert result["artifact"]["variant"] == "mixed", "what suits the CPU"
    assert (
        result["runtime"]["version"]
        == json.loads((WEB / "package.json").read_text())["dependencies"]["@litertjs/core"]
    )
    assert result["timing"]["runs"] == 30
    assert result["self_test"]["psnr"] >= result["self_test"]["floor"]
    assert result["live"]["seconds"] >= 10 and result["live"]["fps"] > 0
    with Image.open(out / "camera.png") as shot:
        assert shot.width == 390, "nothing is wider than the phone"
        pixels = np.asarray(shot.convert("RGB"))
    assert np.ptp(pixels[200:400]) > 100, "the picture is there"


def clip(folder: Path) -> Path:
    """Frames of a real clip as WebM, which Debian's Chromium plays."""
    import av

    path = folder / "hands.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        frames = [Image.open(file) for file in sorted((SAMPLES / "clips" / "hands").glob("*.jpg"))]
        stream.width, stream.height = frames[0].width // 2 * 2, frames[0].height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for image in frames * 5:
            for packet in stream.encode(av.VideoFrame.from_image(image.convert("RGB"))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_memory_stays_as_it_is(live_bundles: list[Bundle], camera: Path) -> None:
    with served([live_bundles[0].folder]) as address:
        before, after = browse("memory", address=address, camera=camera, after=[20, 90])["found"]
    growth = {key: (after[key] - before[key]) / 1e6 for key in ("heap", "resident")}
    frames = after["frames"] - before["frames"]
    print(
        f"{frames} frames, growth in MB: {growth}; {(after['cpu'] - before['cpu']) / frames:.3f} s of CPU each"
    )
    # Each frame's output has 0.8 MB: 48 MB if they were kept.
    assert frames >= 60
    assert growth["heap"] < 5
    assert growth["resident"] < 40
