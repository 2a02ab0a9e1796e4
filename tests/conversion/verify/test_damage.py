"""Damaged files through the whole of `verify`: one wrong weight at a time, and graphs that were never proved."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import CONTRACT_FILE, Artifact, digest, read_bundle, write_contract
from afterlens.conversion.bundle.proof import PROOF_FILE
from afterlens.conversion.bundle.variants import VARIANTS
from afterlens.conversion.convert import convert
from afterlens.conversion.coreml.compress import compress
from afterlens.conversion.coreml.convert import convert_coreml
from afterlens.conversion.examples import plain_examples
from afterlens.conversion.mil.package import read_package
from afterlens.conversion.tflite.graph import array_of, pack, read_tflite
from afterlens.conversion.verify.verify import verify
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed, UserError
from tests.conversion.coreml.packages import operations, overwrite, saved
from tests.conversion.verify import mutations

SIDE = 32
COMPRESSED = ("int8", "palettized6", "palettized4")
QUANTIZED = ("dynamic_range_quant", "full_integer_quant", "integer_quant_with_int16_act")


class Softener(nn.Module):
    """A small residual network, large enough to be compressed."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.fourth = nn.Conv2d(
            16, 16, 3, padding=1
        )  # palettes leave the first and the last large layer alone
        self.last = nn.Conv2d(16, 3, 3, padding=1)
        with torch.no_grad():
            assert self.last.bias is not None
            self.last.bias += shift

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.second(torch.relu(self.first(image))))
        x = torch.relu(self.fourth(torch.relu(self.third(x))))
        return ((image + 0.3 * self.last(x)).clamp(0.0, 1.0),)


def softener(shift: float = 0.0) -> Deployable:
    shape = (1, 3, SIDE, SIDE)
    ports = [(Port(name, shape, (0.0, 1.0)),) for name in ("image", "restored")]
    return Deployable(Softener(shift).eval(), "soft", "Softener", "1", *ports)


@pytest.fixture(scope="session")
def every_variant(shared_folder: Path, photo_paths: list[Path]) -> Path:
    """A bundle of all variants, converted once for all test processes; read only."""
    folder = shared_folder / "soft"
    with FileLock(shared_folder / "soft.lock"):
        if not (folder / CONTRACT_FILE).exists():
            provenance = {"checkpoint_sha256": "0" * 64, "recipe": {}, "data_licence": "none"}
            convert(
                [softener()],
                folder,
                provenance,
                golden_photo=photo_paths[0],
                variants=[variant.file_ending for variant in VARIANTS],
                examples=lambda graph, count: plain_examples(photo_paths, graph),
            )
    return folder


@pytest.fixture
def folder(every_variant: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(every_variant, tmp_path / "bundle"))


def prove(folder: Path, photo: Path, deployable: Deployable | None = None, **options: Any) -> dict[str, Any]:
    """What proof.json says, whether or not the bundle passes."""
    with contextlib.suppress(GateFailed):
        verify(folder, {(SIDE, SIDE): deployable or softener()}, [photo], **options)
    proof: dict[str, Any] = json.loads((folder / PROOF_FILE).read_text("utf-8"))
    return proof


def only(folder: Path, *endings: str) -> None:
    """Leave nothing in the bundle but these artifacts."""
    contract = read_bundle(folder).contract
    kept: list[Artifact] = []
    for artifact in contract.artifacts:
        if artifact.file.endswith(endings):
            kept.append(artifact)
        elif (folder / artifact.file).is_dir():
            shutil.rmtree(folder / artifact.file)
        else:
            (folder / artifact.file).unlink()
    assert len(kept) == len(endings)
    write_contract(folder, replace(contract, artifacts=tuple(kept)))


def failed(proof: dict[str, Any]) -> list[str]:
    return [artifact["file"] for artifact in proof["artifacts"] if not artifact["passed"]]


def one_step(values: Any) -> Any:
    """One value of thousands is off by a few steps."""
    values = values.copy()
    values.flat[7] = values.flat[7] ^ 0x18
    return values


def damage_quantized(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the largest int8 weight of a TFLite file."""
    model = read_tflite(path)
    weights = [
        tensor
        for tensor in model.subgraphs[0].tensors
        if tensor.type == 9 and model.buffers[tensor.buffer].data is not None
    ]
    tensor = max(weights, key=lambda t: np.prod(t.shape))
    stored = array_of(model, tensor)
    new = np.ascontiguousarray(change(stored))
    assert not np.array_equal(new, stored), "the mutation changes nothing"
    model.buffers[tensor.buffer].data = np.frombuffer(new.tobytes(), np.uint8)
    path.write_bytes(pack(model))


def damage_compressed(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the codes of a compressed weight in the middle of a Core ML package."""
    kinds = saved(path)
    name = list(kinds)[len(kinds) // 2]
    overwrite(path, name, "quantized_data" if kinds[name] == "int8" else "indices", change)


# What is right passes, every variant of it


def test_every_variant_of_a_faithful_conversion_passes(folder: Path, photo_paths: list[Path]) -> None:
    proof = prove(folder, photo_paths[0])
    print({a["file"]: (a["max_error"], max(r["levels"] for r in a["rows"])) for a in proof["artifacts"]})
    assert proof["failures"] == []
    assert len(proof["artifacts"]) == len(VARIANTS)
    assert {"black", "white", "letterbox", "double"} <= set(proof["images"])


# One wrong weight


@pytest.mark.parametrize("variant", QUANTIZED)
def test_one_wrong_weight_of_a_quantized_file_is_named(folder: Path, photo_path: Path, variant: str) -> None:
    only(folder, "float32.tflite", f"{variant}.tflite")
    damage_quantized(folder / f"soft_32x32_{variant}.tflite", one_step)
    mutations.seal(folder)
    proof = prove(folder, photo_path)
    assert failed(proof) == [f"soft_32x32_{variant}.tflite"]
    assert any("steps off" in line for line in proof["failures"])


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("variant", COMPRESSED)
def test_one_wrong_weight_of_a_compressed_package_is_named(
    folder: Path, photo_path: Path, variant: str, alone: bool
) -> None:
    name = f"soft_32x32_{variant}.mlpackage"
    only(folder, *(() if alone else ("float16.mlpackage",)), f"{variant}.mlpackage")
    damage_compressed(folder / name, one_step)
    mutations.seal(folder)
    proof = prove(folder, photo_path)
    assert failed(proof) == [name]
    assert all(line.startswith(f"{name}: weight ") for line in proof["failures"][:1]), proof["failures"]


# A graph that nobody proved


def test_a_compressed_package_alone_passes_if_its_graph_is_right(folder: Path, photo_path: Path) -> None:
    only(folder, "int8.mlpackage")
    proof = prove(folder, photo_path)
    assert proof["failures"] == [] and len(proof["artifacts"]) == 1


def test_a_wrong_graph_does_not_pass_as_a_compressed_package(
    folder: Path, photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter's fault is in the float16 graph, too small for the gate of int8, and the bundle holds int8 only."""
    only(folder, "int8.mlpackage")
    wrong = tmp_path / "wrong.mlpackage"
    convert_coreml(softener(shift=0.05), wrong)
    compress(wrong, "int8", folder / "soft_32x32_int8.mlpackage")
    mutations.seal(folder)
    proof = prove(folder, photo_path)
    assert failed(proof) == ["soft_32x32_int8.mlpackage"]  # it is not what is converted now

    def faulty(deployable: Deployable, path: Path) -> None:
        shutil.copytree(wrong, path)

    monkeypatch.setattr("afterlens.conversion.verify.original.convert_coreml", faulty)
    proof = prove(folder, photo_path)
    assert failed(proof) == ["soft_32x32_int8.mlpackage"]
    assert "the float16 graph it was made of is wrong: output 'restored'" in proof["failures"][0]


def test_an_int8_weight_whose_axis_is_a_vector_is_a_fault_and_no_crash(
    folder: Path, photo_path: Path
) -> None:
    only(folder, "float16.mlpackage", "int8.mlpackage")
    path = folder / "soft_32x32_int8.mlpackage"
    package = read_package(path)
    names = list(saved(path))
    for operation in operations(path):
        if operation.outputs[0].name == names[1]:
            operation.attributes["axis"].type.tensorType.rank = 1
            operation.attributes["axis"].type.tensorType.dimensions.add().constant.size = 2
            operation.attributes["axis"].immediateValue.tensor.ints.values[:] = [0, 0]
            wrong = operation
    (function,) = package.model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    for own in block.operations:
        if own.outputs[0].name == names[1]:
            own.CopyFrom(wrong)
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(package.model.SerializeToString())
    mutations.seal(folder)
    assert failed(prove(folder, photo_path)) == ["soft_32x32_int8.mlpackage"]


# What verify writes stays in the bundle


def test_a_linked_heat_map_folder_is_refused_before_anything_is_written(
    folder: Path, photo_path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(folder / "heatmaps", ignore_errors=True)
    (folder / "heatmaps").symlink_to(elsewhere)
    with pytest.raises(UserError, match="heatmaps: is a link"):
        verify(folder, {(SIDE, SIDE): softener()}, [photo_path])
    assert not (folder / PROOF_FILE).exists() and list(elsewhere.iterdir()) == []


def test_a_reference_with_other_port_names_is_refused(folder: Path, photo_path: Path) -> None:
    right = softener()
    (output,) = right.outputs
    other = replace(right, outputs=(replace(output, name="clean"),))
    with pytest.raises(UserError, match="with restored, the reference is of 'soft' with clean"):
        verify(folder, {(SIDE, SIDE): other}, [photo_path])


def test_a_contract_that_names_another_digest_of_the_weights_is_refused(
    folder: Path, photo_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(b"other")
    with pytest.raises(UserError, match=digest(tmp_path / "weights")[0]):
        verify(folder, {(SIDE, SIDE): softener()}, [photo_path], checkpoint=tmp_path / "weights")
