import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import Artifact, Bundle, digest
from afterlens.conversion.bundle.reference import compute
from afterlens.conversion.bundle.runtimes import (
    CoremlModel,
    open_artifact,
    open_model,
    port_faults,
    to_levels,
)
from afterlens.conversion.convert import fit
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError
from tests.conversion.verify import mutations


@pytest.fixture
def picture(photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """(256, 256, 3), of a real photo, in exact 8-bit steps."""
    return to_levels(fit(photo, 256, 256)).astype(np.float32) / np.float32(255)


def of_kind(bundle: Bundle, kind: str, variant: str) -> Artifact:
    (artifact,) = (a for a in bundle.contract.artifacts if (a.format, a.variant) == (kind, variant))
    return artifact


@pytest.mark.parametrize(
    ("kind", "variant", "tolerance"),
    [("tflite", "float32", 1e-4), ("tflite", "float16", 5e-3), ("coreml", "float16", 5e-3 + 0.5 / 255)],
)
def test_every_artifact_computes_what_pytorch_does(
    bundle: Bundle,
    deployable: Deployable,
    picture: NDArray[np.float32],
    kind: str,
    variant: str,
    tolerance: float,
) -> None:
    outputs = open_artifact(bundle, of_kind(bundle, kind, variant))(picture)
    expected = compute(deployable, {"image": picture})
    assert outputs.keys() == expected.keys()
    for name, output in outputs.items():
        assert output.shape == (256, 256, 3) and output.dtype == np.float32
        worst = np.abs(output - expected[name]).max()
        print(name, worst)
        assert worst <= tolerance
    if kind == "coreml":  # an app gets 8-bit pictures
        levels = outputs["restored"] * 255
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


def test_the_number_of_threads_changes_nothing_but_rounding(
    bundle: Bundle, picture: NDArray[np.float32]
) -> None:
    artifact = of_kind(bundle, "tflite", "float32")
    one, two = (open_artifact(bundle, artifact, threads)(picture)["restored"] for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_results_outlive_the_next_run(bundle: Bundle, picture: NDArray[np.float32]) -> None:
    run = open_artifact(bundle, of_kind(bundle, "tflite", "float32"))
    first = run(picture)["restored"]
    kept = first.copy()
    run(np.zeros_like(picture))
    np.testing.assert_array_equal(first, kept)


def test_core_ml_takes_the_nearest_8_bit_picture(bundle: Bundle, picture: NDArray[np.float32]) -> None:
    run = open_artifact(bundle, of_kind(bundle, "coreml", "float16"))
    between = np.clip(picture + np.float32(0.4 / 255), 0, 1)
    np.testing.assert_array_equal(run(between)["restored"], run(picture)["restored"])


@pytest.mark.parametrize("kind", ["tflite", "coreml"])
def test_a_picture_of_another_size_is_refused(bundle: Bundle, kind: str) -> None:
    run = open_artifact(bundle, of_kind(bundle, kind, "float16"))
    with pytest.raises(UserError, match=r"input 'image' got shape \(256, 128, 3\), expected \(256, 256, 3\)"):
        run(np.zeros((256, 128, 3), np.float32))


@pytest.mark.parametrize("kind", ["tflite", "coreml"])
def test_a_file_that_changed_is_not_opened(own_bundle: Bundle, kind: str) -> None:
    artifact = of_kind(own_bundle, kind, "float16")
    mutations.flip_a_bit(own_bundle.path(artifact))
    with pytest.raises(UserError, match="sha256"):
        open_artifact(own_bundle, artifact)


def test_a_truncated_tflite_file_ends_in_one_line_and_not_in_a_crash(bundle: Bundle, tmp_path: Path) -> None:
    data = bundle.path(of_kind(bundle, "tflite", "float32")).read_bytes()
    paths = [tmp_path / f"{share}.tflite" for share in (0.0, 0.001, 0.02, 0.5, 0.9, 0.999)]
    for path in paths:
        path.write_bytes(data[: int(len(data) * float(path.stem))])
    # In a process of its own: LiteRT dies of a bus error when such a file is opened the usual way.
    program = (
        "import sys; from pathlib import Path; from afterlens.conversion.bundle.runtimes import TfliteModel\n"
        "for path in sys.argv[1:]:\n"
        "    try: TfliteModel(Path(path))\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"UserError {path}: cannot be loaded by LiteRT")


@pytest.mark.parametrize("file", ["weights/weight.bin", "model.mlmodel"])
def test_a_truncated_core_ml_package_ends_in_one_line(own_bundle: Bundle, file: str) -> None:
    artifact = of_kind(own_bundle, "coreml", "float16")
    path = own_bundle.path(artifact) / "Data" / "com.apple.CoreML" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sha256, size = digest(own_bundle.path(artifact))
    with pytest.raises(UserError) as caught:
        open_artifact(own_bundle, replace(artifact, sha256=sha256, bytes=size))
    assert "\n" not in str(caught.value) and artifact.file in str(caught.value)


def test_what_the_contract_says_is_compared_with_what_the_file_is(bundle: Bundle) -> None:
    for artifact in bundle.contract.artifacts:
        model = open_model(artifact, bundle.path(artifact))
        assert port_faults(model, artifact) == []
        renamed = replace(artifact.outputs[0], name="other")
        faults = port_faults(model, replace(artifact, outputs=(renamed, *artifact.outputs[1:])))
        assert len(faults) == 2
        assert "output 'other' is absent" in faults[0] and "the contract says absent" in faults[1]


def test_the_executor_tells_the_two_ends_of_float16_rounding_apart(
    bundle: Bundle, picture: NDArray[np.float32]
) -> None:
    artifact = of_kind(bundle, "coreml", "float16")
    model = CoremlModel(bundle.path(artifact))
    stored, exact = (
        model.run({"image": picture}, eight_bit=False, round_storage=rounded)["restored"]
        for rounded in (True, False)
    )
    worst = np.abs(stored - exact).max()
    print(worst)
    assert 0 < worst < 5e-3


def test_levels_are_the_nearest() -> None:
    values = np.array([-1, 0, 0.49 / 255, 0.51 / 255, 0.5, 254.6 / 255, 1, 2], np.float32)
    assert to_levels(values).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]
