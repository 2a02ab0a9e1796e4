"""Files proved in an environment of their own. The emulators take minutes; here this machine's Python takes their place."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afterlens.conversion.bundle.contract import Artifact, Bundle, read_bundle, write_contract
from afterlens.conversion.emulated import machines, prove
from afterlens.conversion.emulated.machines import Machine
from afterlens.training.media.errors import GateFailed, UserError

XNNPACK = r"Created TensorFlow Lite (XNNPACK) delegate"
HERE = Machine("here", [sys.executable], {}, "cpu", XNNPACK, floats_only=False)


def only(bundle: Bundle, variant: str) -> Bundle:
    """The bundle with one TFLite file of it."""
    kept = tuple(a for a in bundle.contract.artifacts if (a.format, a.variant) == ("tflite", variant))
    return Bundle(bundle.folder, replace(bundle.contract, artifacts=kept))


def artifact(bundle: Bundle, **changed: object) -> Artifact:
    """The float32 file, otherwise."""
    return replace(only(bundle, "float32").contract.artifacts[0], **changed)  # type: ignore[arg-type]


def test_a_file_is_run_in_a_process_of_its_own_and_compared(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    prove.prove(HERE, [only(bundle, "float16")], as_json=True)
    document = json.loads(capsys.readouterr().out)
    (found,) = document["bundles"][str(bundle.folder)]
    assert (document["machine"], found["file"]) == ("here", "reflection_256x256_float16.tflite")
    assert found["ran_on"].endswith("XNNPACK") and found["fault"] is None
    assert found["max_error_here"] == 0.0, "the same LiteRT on the same machine"
    assert 100.0 > found["psnr"] >= found["floor"] == 45.0


def test_a_golden_output_that_is_not_reached_fails_with_both_numbers(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    one = only(bundle, "float16")
    strict = replace(one.contract, artifacts=(replace(one.contract.artifacts[0], self_test_floor_db=99.5),))
    with pytest.raises(
        GateFailed, match=r"_float16.tflite: \d\d\.\d\d dB from the golden output, at least 99.50"
    ):
        prove.prove(HERE, [Bundle(one.folder, strict)], as_json=False)
    assert "FAILED" in capsys.readouterr().out


def test_what_a_result_must_hold(bundle: Bundle) -> None:
    floats, integers = artifact(bundle), artifact(bundle, variant="mixed")
    assert prove.fault(floats, "XNNPACK", 45.0, 1e-5) is None
    assert (
        prove.fault(floats, "XNNPACK", 44.99, 0.0)
        == "44.99 dB from the golden output, at least 45.00 expected"
    )
    assert "2e-05 from what LiteRT computes on this machine" in (
        prove.fault(floats, "XNNPACK", 60.0, 2e-5) or ""
    )
    assert prove.fault(floats, "XNNPACK", 60.0, float("nan")), "not a number is not near"
    assert prove.fault(integers, "XNNPACK", 45.0, 0.02) is None, "integers are rounded otherwise elsewhere"
    assert "did not say" in (prove.fault(floats, None, 100.0, 0.0) or "")


def test_refusals_and_deaths_are_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"no model")
    inputs = {"image": np.zeros((2, 2, 3), np.float32)}
    with pytest.raises(GateFailed, match=r"^ai-edge-litert \S+ refuses it: "):
        prove.run_there(HERE, damaged, inputs)
    late = replace(HERE, python=["sh", "-c", "echo '{\"late\": true}'"])
    with pytest.raises(UserError, match=r"no result within the 20 s .* try again when it is idle$"):
        prove.run_there(late, damaged, inputs)
    killed = replace(HERE, python=["sh", "-c", "echo out of luck >&2; kill -9 $$"])
    with pytest.raises(GateFailed, match=r"^the process ended with SIGKILL: out of luck$"):
        prove.run_there(killed, damaged, inputs)


def test_gpus_get_the_float_files_and_other_machines_all(bundle: Bundle) -> None:
    both = tuple(artifact(bundle, file=f"{name}.tflite", variant=name) for name in ("float32", "mixed"))
    mixed = Bundle(bundle.folder, replace(bundle.contract, artifacts=both))
    assert [a.variant for a in prove.files(HERE, mixed)] == ["float32", "mixed"]
    assert [a.variant for a in prove.files(replace(HERE, floats_only=True), mixed)] == ["float32"]
    integers = Bundle(bundle.folder, replace(bundle.contract, artifacts=both[1:]))
    with pytest.raises(UserError, match=r"no float32.tflite or float16.tflite in it; convert again"):
        prove.files(replace(HERE, floats_only=True), integers)


def test_bundles_that_cannot_be_proved_end_with_code_2(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "MACHINES", {"gpu": lambda folder: HERE})
    monkeypatch.setattr(sys, "argv", ["prove", "gpu", str(own_bundle.folder)])
    (own_bundle.folder / "golden" / "256x256_input_image.png").unlink()
    with pytest.raises(SystemExit) as end:
        prove.main()
    assert end.value.code == 2
    older = tuple(replace(a, self_test_floor_db=None) for a in own_bundle.contract.artifacts)
    write_contract(own_bundle.folder, replace(own_bundle.contract, artifacts=older))
    with pytest.raises(UserError, match="has no self-test floor; convert again"):
        prove.row(HERE, read_bundle(own_bundle.folder), older[0])


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "SWIFTSHADER", tmp_path / "none")
    with pytest.raises(UserError, match=r"^not installed \(Debian's names\): chromium"):
        machines.gpu(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^not installed \(Debian's names\): qemu-user-static, debootstrap$"):
        machines.arm64(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_is_made_ready_once_and_again_when_its_wheels_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that would download are written down instead, and leave what they would leave."""
    ran: list[list[str]] = []

    def run(*command: str) -> None:
        ran.append([Path(command[0]).name, *command[1:]])
        if command[0] == "debootstrap":
            downloaded = Path(command[-1]) / "var" / "cache" / "apt" / "archives"
            downloaded.mkdir(parents=True)
            for name in ("python3.deb", "libstdc++6.deb", "lock"):
                (downloaded / name).touch()
        if "--target" in command:
            Path(command[command.index("--target") + 1]).mkdir(parents=True)

    monkeypatch.setattr(machines, "_run", run)
    monkeypatch.setattr(machines, "_require", lambda there: None)
    arm, gpu = machines.arm64(tmp_path), machines.gpu(tmp_path)
    root, own = tmp_path / "arm64" / "root", tmp_path / "arm64" / "packages"
    pips = [command for command in ran if "pip" in command]
    assert [command[command.index("--target") + 1] for command in pips] == [
        str(own),
        str(tmp_path / "gpu" / "packages"),
    ]
    for command, wheels in zip(pips, (machines.ARM64_WHEELS, machines.GPU_WHEELS), strict=True):
        assert command[-len(wheels) :] == list(wheels)
        # Nothing is built here, nor chosen for this interpreter.
        assert {"--no-deps", "--only-binary=:all:", "--python-version=3.11"} <= set(command)
    assert "--platform=manylinux_2_17_aarch64" in pips[0]
    assert not any(word.startswith("--platform") for word in pips[1])
    (bootstrap,) = [command for command in ran if command[0] == "debootstrap"]
    assert {"--foreign", "--arch=arm64"} <= set(bootstrap) and bootstrap[-2:] == ["bookworm", str(root)]
    assert [command[1:] for command in ran if command[0] == "dpkg-deb"] == [
        ["-x", str(root / "var/cache/apt/archives" / name), str(root)]
        for name in ("libstdc++6.deb", "python3.deb")
    ]
    assert arm.python[0] == "qemu-aarch64-static" and arm.python[-1] == str(root / "usr/bin/python3.11")
    assert arm.python[arm.python.index("-L") + 1] == str(root)
    assert arm.environment == {"PYTHONPATH": str(own)} and (arm.processor, arm.floats_only) == ("cpu", False)
    driver = json.loads(Path(gpu.environment["VK_ICD_FILENAMES"]).read_text())
    assert driver["ICD"]["library_path"] == str(machines.SWIFTSHADER)
    assert gpu.environment["PYTHONPATH"] == str(tmp_path / "gpu" / "packages")
    assert (gpu.python, gpu.processor, gpu.floats_only) == ([sys.executable], "gpu", True)

    before = len(ran)
    assert machines.arm64(tmp_path) == arm and len(ran) == before
    monkeypatch.setattr(machines, "ARM64_WHEELS", machines.ARM64_WHEELS[:2])
    machines.arm64(tmp_path)
    assert [command[-2:] for command in ran[before:]] == [list(machines.ARM64_WHEELS)]
    assert own.is_dir()
    (root / "complete").unlink()  # as if it had been stopped: it begins anew
    machines.arm64(tmp_path)
    assert [command[0] for command in ran[before + 1 :]] == ["debootstrap", "dpkg-deb", "dpkg-deb"]


def test_a_command_that_fails_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^sh -c echo one; echo two; exit 3 failed: two$"):
        machines._run("sh", "-c", "echo one; echo two; exit 3")
    machines._run("true")
