"""Packages that are damaged or hostile: each is refused with one line, whatever it asks for."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from afterlens.conversion.mil import package as reader
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import DATA_TYPES, TensorType, load_protobuf, read_package
from afterlens.training.media.errors import UserError
from tests.conversion.mil.programs import Save, normal

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
X = normal(4, 16)
WEIGHT, BIAS = normal(12, 16), normal(12)


@pytest.fixture(scope="module")
def sound(coremltools: ModuleType, save_program: Save) -> Path:
    """x (4, 16) -> linear with stored weights -> tile."""
    from coremltools.converters.mil.mil import Builder

    return save_program(
        lambda x: [Builder.tile(x=Builder.linear(x=x, weight=WEIGHT, bias=BIAS, name="lin"), reps=[2, 1])],
        {"x": X},
    )


@pytest.fixture
def package(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "copy.mlpackage"))


def refusal(path: Path) -> str:
    """The one line with which the package is refused, when it loads or when it runs."""
    with pytest.raises(UserError) as caught:
        MilProgram.load(path).run({"x": X})
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


def edit(package: Path, change: Callable[[Any, dict[str, Any]], None]) -> None:
    """Applies `change(block, operations by type)` to the program and writes it back."""
    model = load_protobuf().Model()
    model.ParseFromString((package / MODEL).read_bytes())
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    change(block, {operation.type: operation for operation in block.operations})
    (package / MODEL).write_bytes(model.SerializeToString())


def edit_manifest(package: Path, path: object) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path
    (package / "Manifest.json").write_text(json.dumps(manifest))


def test_the_sound_package_runs(sound: Path) -> None:
    (result,) = MilProgram.load(sound).run({"x": X}).values()
    np.testing.assert_allclose(result, np.tile(X @ WEIGHT.T + BIAS, (2, 1)), rtol=1e-4, atol=1e-5)


# The folder


@pytest.mark.parametrize(
    "path", ["../../outside", "/etc/passwd", "com.apple.CoreML/../../../outside", "..\\outside", "", 7, None]
)
def test_a_manifest_that_leads_out_of_the_package(package: Path, path: object) -> None:
    (package.parent / "outside").write_bytes((package / MODEL).read_bytes())
    edit_manifest(package, path)
    refusal(package)


def test_a_link_that_leads_out_of_the_package(package: Path) -> None:
    outside = package.parent / "outside"
    (package / MODEL).rename(outside)
    (package / MODEL).symlink_to(outside)
    assert "leads out" in refusal(package)


def test_a_weight_file_outside_of_the_package(package: Path) -> None:
    (package / WEIGHTS).rename(package.parent / "weight.bin")

    def lead_out(block: Any, operations: dict[str, Any]) -> None:
        for operation in block.operations:
            if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].blobFileValue.fileName = "@model_path/../../../weight.bin"

    edit(package, lead_out)
    assert "leads out" in refusal(package)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"rootModelIdentifier": "a"}', "[" * 100_000])
def test_a_damaged_manifest(package: Path, text: str) -> None:
    (package / "Manifest.json").write_text(text)
    assert "Manifest.json" in refusal(package)


@pytest.mark.parametrize("missing", ["Manifest.json", MODEL, WEIGHTS])
def test_a_missing_file(package: Path, missing: str) -> None:
    (package / missing).unlink()
    said = refusal(package)
    assert Path(missing).name in said
    assert missing == "Manifest.json" or "is missing; copy the whole folder" in said


@pytest.mark.parametrize(("file", "limit"), [("Manifest.json", 2**20), (MODEL, 2**29), (WEIGHTS, 2**33)])
def test_a_file_that_is_too_large_is_refused_unread(package: Path, file: str, limit: int) -> None:
    """It is sparse: read, its zeros would fill the memory."""
    os.truncate(package / file, limit + 1)
    assert f"{limit + 1} bytes, at most {limit} are expected" in refusal(package)


@pytest.mark.parametrize(
    ("file", "name"),
    [("Manifest.json", "MAX_MANIFEST_BYTES"), (MODEL, "MAX_MODEL_BYTES"), (WEIGHTS, "MAX_WEIGHT_BYTES")],
)
def test_a_file_of_just_the_limit_is_read(
    package: Path, file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (package / file).stat().st_size
    monkeypatch.setattr(reader, name, size)
    MilProgram.load(package).run({"x": X})
    monkeypatch.setattr(reader, name, size - 1)
    assert f"{size} bytes, at most {size - 1} are expected" in refusal(package)


@pytest.mark.parametrize(("rank", "reason"), [(16, "declares float32("), (17, "elements are allowed")])
def test_a_tensor_of_the_highest_rank_is_read(package: Path, rank: int, reason: str) -> None:
    """It is wrong all the same: the operator makes one of rank 2."""

    def deepen(block: Any, operations: dict[str, Any]) -> None:
        declared = operations["linear"].outputs[0].type.tensorType
        for _ in range(rank - 2):
            declared.dimensions.add().constant.size = 1
        declared.rank = rank

    edit(package, deepen)
    assert reason in refusal(package)


def test_not_a_package(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(b"TFL3")
    assert "expected a Core ML package" in refusal(file)
    assert "expected a Core ML package" in refusal(tmp_path / "absent.mlpackage")


def test_another_type_of_model(package: Path) -> None:
    model = load_protobuf().Model()
    model.identity.SetInParent()
    (package / MODEL).write_bytes(model.SerializeToString())
    assert "expected an ML Program" in refusal(package)


# The model


def test_a_truncated_model(package: Path) -> None:
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(package)


def test_noise_instead_of_a_model(package: Path) -> None:
    (package / MODEL).write_bytes(np.random.default_rng(0).bytes(4096))
    refusal(package)


def test_an_unknown_operator_is_refused_when_the_package_loads(package: Path) -> None:
    def rename(block: Any, operations: dict[str, Any]) -> None:
        operations["tile"].type = "made_up"

    edit(package, rename)
    with pytest.raises(UserError, match=r"made_up.* is not supported"):
        MilProgram.load(package)


def test_a_parameter_that_the_operator_does_not_have(package: Path) -> None:
    def rename(block: Any, operations: dict[str, Any]) -> None:
        operations["tile"].inputs["times"].CopyFrom(operations["tile"].inputs["reps"])

    edit(package, rename)
    assert "times" in refusal(package)


def test_a_missing_parameter(package: Path) -> None:
    def remove(block: Any, operations: dict[str, Any]) -> None:
        del operations["linear"].inputs["weight"]

    edit(package, remove)
    assert "weight" in refusal(package)


def test_a_value_that_is_never_computed(package: Path) -> None:
    def rename(block: Any, operations: dict[str, Any]) -> None:
        operations["linear"].inputs["x"].arguments[0].name = "ghost"

    edit(package, rename)
    assert "ghost" in refusal(package)


def test_one_name_for_two_values(package: Path) -> None:
    def rename(block: Any, operations: dict[str, Any]) -> None:
        operations["linear"].outputs[0].name = "x"

    edit(package, rename)
    assert "two values" in refusal(package)


@pytest.mark.parametrize("taken", ["x", "", "another"])
def test_a_constant_needs_a_name_of_its_own(package: Path, taken: str) -> None:
    """Not an input's, none at all, or another constant's."""

    def rename(block: Any, operations: dict[str, Any]) -> None:
        constants = [operation for operation in block.operations if operation.type == "const"]
        constants[1].outputs[0].name = constants[0].outputs[0].name if taken == "another" else taken

    edit(package, rename)
    assert "two values" in refusal(package)


def test_a_result_of_another_shape_than_declared(package: Path) -> None:
    def shrink(block: Any, operations: dict[str, Any]) -> None:
        operations["linear"].outputs[0].type.tensorType.dimensions[0].constant.size = 3

    edit(package, shrink)
    assert "declares float32(3, 12)" in refusal(package)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (2**30 // 12, "declares float32("),  # allowed, and wrong
        (2**30 // 12 + 1, "elements are allowed"),
        (2**40, "elements are allowed"),
        (2**63, "elements are allowed"),
    ],
)
def test_an_absurd_declared_size(package: Path, size: int, reason: str) -> None:
    """Of (size, 12)."""

    def grow(block: Any, operations: dict[str, Any]) -> None:
        operations["linear"].outputs[0].type.tensorType.dimensions[0].constant.size = size

    edit(package, grow)
    assert reason in refusal(package)


def test_an_absurd_repetition_is_refused_before_memory_is_taken(package: Path) -> None:
    def grow(block: Any, operations: dict[str, Any]) -> None:
        name = operations["tile"].inputs["reps"].arguments[0].name
        for operation in block.operations:
            if operation.outputs[0].name == name:
                operation.attributes["val"].immediateValue.tensor.ints.values[:] = [2**30, 2**30]

    edit(package, grow)
    assert "elements are allowed" in refusal(package)


def test_a_constant_with_fewer_values_than_its_shape(package: Path) -> None:
    def shorten(block: Any, operations: dict[str, Any]) -> None:
        name = operations["tile"].inputs["reps"].arguments[0].name
        for operation in block.operations:
            if operation.outputs[0].name == name:
                del operation.attributes["val"].immediateValue.tensor.ints.values[1:]

    edit(package, shorten)
    assert "holds 1 values" in refusal(package)


# The weight file


def records(package: Path) -> list[int]:
    """Offsets of the tensor records in the weight file."""
    data = (package / WEIGHTS).read_bytes()
    return [o for o in range(0, len(data), 64) if struct.unpack_from("<I", data, o)[0] == 0xDEADBEEF]


@pytest.mark.parametrize("keep", [0, 10, 64, 100, 200, 0.5, 0.99])
def test_a_truncated_weight_file(package: Path, keep: float) -> None:
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    said = refusal(package)
    assert "weight" in said
    assert ("is not a weight file" in said) == (keep in (0, 10))  # from 64 on, the header is whole


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("<I", (0, 0xDEADBEE0), "does not begin a tensor record"),
        ("<I", (4, 1), "type number 1"),
        ("<Q", (8, 2**62), "bytes, the model says"),
        ("<Q", (16, 2**62), "truncated"),
        ("<Q", (16, 2**64 - 8), "truncated"),
    ],
)
def test_a_forged_tensor_record(package: Path, field: str, value: tuple[int, int], reason: str) -> None:
    data = bytearray((package / WEIGHTS).read_bytes())
    for record in records(package):
        struct.pack_into(field, data, record + value[0], value[1])
    (package / WEIGHTS).write_bytes(data)
    assert reason in refusal(package)


def test_an_offset_beside_a_record(package: Path) -> None:
    def shift(block: Any, operations: dict[str, Any]) -> None:
        for operation in block.operations:
            if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].blobFileValue.offset += 32

    edit(package, shift)
    assert "tensor record" in refusal(package)


def test_a_changed_weight_is_read(package: Path) -> None:
    """The executor computes from the file, not from anything the converter left in memory."""
    data = bytearray((package / WEIGHTS).read_bytes())
    first = records(package)[0]
    size, start = struct.unpack_from("<QQ", data, first + 8)
    data[start : start + size] = bytes(size)
    (package / WEIGHTS).write_bytes(data)
    (result,) = MilProgram.load(package).run({"x": X}).values()
    assert size == WEIGHT.nbytes
    np.testing.assert_allclose(result, np.tile(np.broadcast_to(BIAS, (4, 12)), (2, 1)), rtol=1e-6)


# Declared types


def test_a_declared_shape_fits_its_own_sizes_and_what_is_not_known() -> None:
    (float32,) = (dtype for dtype in DATA_TYPES.values() if dtype.name == "float32")
    for declared, text, fitting, others in (
        (TensorType(float32, (2, 3)), "float32(2, 3)", [(2, 3)], [(3, 2), (2,), (2, 3, 1), ()]),
        (TensorType(float32, (2, None)), "float32(2, ?)", [(2, 3), (2, 1)], [(3, 3), (2,), (2, 3, 1)]),
        (TensorType(float32, ()), "float32()", [()], [(1,)]),
        (TensorType(float32, (), any_rank=True), "float32(...)", [(), (4,), (2, 3, 1)], []),
    ):
        assert str(declared) == text
        assert [declared.accepts(shape) for shape in fitting] == [True] * len(fitting), text
        assert [declared.accepts(shape) for shape in others] == [False] * len(others), text


# Without coremltools


def test_reading_and_running_does_not_import_coremltools(sound: Path) -> None:
    """And importing coremltools' messages later, as its own `__init__` does, still works."""
    script = """
import sys
from pathlib import Path
from types import ModuleType
import numpy as np
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import load_protobuf

program = MilProgram.load(Path(sys.argv[1]))
program.run({"x": np.zeros((4, 16), np.float32)})
assert not any(name.split(".")[0] in ("coremltools", "tensorflow") for name in sys.modules)
ours = load_protobuf()
import importlib.util
package = ModuleType("coremltools")
package.__path__ = list(importlib.util.find_spec("coremltools").submodule_search_locations)
sys.modules["coremltools"] = package
from coremltools.proto import Model_pb2
data = (Path(sys.argv[1]) / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
model = Model_pb2.Model.FromString(data)
assert model.SerializeToString() == ours.Model.FromString(data).SerializeToString()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(sound)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr


def test_protobuf_of_an_imported_coremltools_is_used(coremltools: ModuleType, sound: Path) -> None:
    assert load_protobuf() is coremltools.proto.Model_pb2
    assert read_package(sound).model.WhichOneof("Type") == "mlProgram"
