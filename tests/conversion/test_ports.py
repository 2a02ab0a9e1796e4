"""A network with inputs and outputs that are not only images: converted, proved, linted and damaged, on both formats."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import CONTRACT_FILE, read_bundle
from afterlens.conversion.bundle.layout import made_up
from afterlens.conversion.bundle.proof import PROOF_FILE, read_proof
from afterlens.conversion.bundle.reference import compute
from afterlens.conversion.bundle.runtimes import open_artifact
from afterlens.conversion.convert import convert
from afterlens.conversion.examples import plain_examples
from afterlens.conversion.lint.lint import lint
from afterlens.conversion.verify.verify import verify
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed
from afterlens.training.media.images import read_photo
from tests.conversion.verify import mutations

SIDE = 64
VARIANTS = (
    *("float32.tflite", "float16.tflite", "mixed.tflite", "full_integer_quant.tflite"),
    *("float16.mlpackage", "int8.mlpackage", "mixed.mlpackage"),
)


class Swap(nn.Module):
    """Two pictures, an embedding that modulates them, and landmarks in; a picture, scores and a vector out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.scale = nn.Linear(12, 16)
        self.points = nn.Linear(10, 16)
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.clean = nn.ConvTranspose2d(16, 3, 2, stride=2)
        self.classes = nn.Linear(16, 5)
        self.embedding = nn.Linear(16, 7)

    def forward(
        self, face: Tensor, source: Tensor, identity: Tensor, landmarks: Tensor
    ) -> tuple[Tensor, ...]:
        x = torch.cat([self.first(face), self.second(source)], dim=1)
        gain = torch.sigmoid(self.scale(identity) + self.points(landmarks.reshape(1, 10)))
        x = torch.relu(self.body(x * gain.reshape(1, 16, 1, 1)))
        mean = x.mean(dim=(2, 3))
        scores = torch.softmax(self.classes(mean), dim=1)
        return (face + self.clean(x)).clamp(0.0, 1.0), scores, torch.tanh(self.embedding(mean))


def graph() -> Deployable:
    torch.manual_seed(0)
    image = (1, 3, SIDE, SIDE)
    return Deployable(
        module=Swap().eval(),
        task="swap",
        title="Swap",
        version="1",
        inputs=(
            Port("face", image, (0.0, 1.0)),
            Port("source", image, (0.0, 1.0)),
            Port("identity", (1, 12), (-1.0, 1.0), meaning="embedding", kind="vector"),
            Port("landmarks", (1, 5, 2), (0.0, 1.0), meaning="x and y of five points", kind="vector"),
        ),
        outputs=(
            Port("restored", image, (0.0, 1.0)),
            Port("scores", (1, 5), (0.0, 1.0), meaning="one for each class", kind="class"),
            Port("code", (1, 7), (-1.0, 1.0), kind="vector"),
        ),
    )


@pytest.fixture(scope="session")
def swap_bundle(shared_folder: Path, photo_paths: list[Path]) -> Path:
    """Converted once for all test processes; read only."""
    folder = shared_folder / "swap"
    with FileLock(shared_folder / "swap.lock"):
        if not (folder / CONTRACT_FILE).exists():
            provenance = {"checkpoint_sha256": "0" * 64, "recipe": {}, "data_licence": "none"}
            convert(
                [graph()],
                folder,
                provenance,
                golden_photo=photo_paths[0],
                variants=VARIANTS,
                examples=lambda deployable, count: plain_examples(photo_paths, deployable),
            )
    return folder


@pytest.fixture
def folder(swap_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swap_bundle, tmp_path / "swap"))


def test_the_contract_says_what_every_port_is(swap_bundle: Path) -> None:
    contract = read_bundle(swap_bundle).contract
    assert len(contract.artifacts) == len(VARIANTS)
    for artifact in contract.artifacts:
        ports = {spec.name: spec for spec in (*artifact.inputs, *artifact.outputs)}
        assert {name: spec.kind for name, spec in ports.items()} == {
            **{"face": "image", "source": "image", "identity": "vector", "landmarks": "vector"},
            **{"restored": "image", "scores": "class", "code": "vector"},
        }
        assert ports["identity"].shape == (1, 12) and ports["landmarks"].shape == (1, 5, 2)
        assert ports["identity"].range == (-1.0, 1.0) and ports["identity"].dtype == "float32"
        assert {ports[name].layout for name in ("identity", "landmarks", "scores", "code")} == {"array"}
        assert ports["face"].layout == ("NHWC" if artifact.format == "tflite" else "image")


def test_golden_vectors_are_raw_floats_of_the_stated_shape(swap_bundle: Path) -> None:
    bundle = read_bundle(swap_bundle)
    golden = {(g.tensor, g.encoding): g for g in bundle.contract.golden}
    assert set(golden) == {
        *(("face", "png"), ("source", "png"), ("restored", "png"), ("restored", "float32")),
        *((name, "float32") for name in ("identity", "landmarks", "scores", "code")),
    }
    assert golden["landmarks", "float32"].shape == (1, 5, 2)
    values = {
        g.tensor: np.fromfile(bundle.path(g), "<f4").reshape(g.shape[1:])
        for g in golden.values()
        if g.encoding == "float32" and g.tensor != "restored"
    }
    inputs = {
        **{name: read_photo(bundle.path(golden[name, "png"])).rgb for name in ("face", "source")},
        **{name: values[name] for name in ("identity", "landmarks")},
    }
    expected = compute(graph(), inputs)
    for name in ("scores", "code"):
        np.testing.assert_allclose(values[name], expected[name], atol=1e-6)


def test_every_variant_is_proved_on_all_outputs(folder: Path, photo_paths: list[Path]) -> None:
    verify(folder, {(SIDE, SIDE): graph()}, photo_paths)
    proof = read_proof(folder / PROOF_FILE)
    assert proof.passed and len(proof.artifacts) == len(VARIANTS)
    for artifact in proof.artifacts:
        assert {row.output for row in artifact.rows} == {"restored", "scores", "code"}
        for row in artifact.rows:
            assert (row.levels is None) == (row.output != "restored")
            assert row.worst.where.startswith("x " if row.output == "restored" else "index ")
    assert {"golden", "noise"} <= set(proof.images)


def test_an_artifact_runs_on_values_by_name(swap_bundle: Path, photo_paths: list[Path]) -> None:
    bundle, deployable = read_bundle(swap_bundle), graph()
    inputs = plain_examples(photo_paths, deployable)[0].inputs
    inputs = {
        name: np.rint(v * 255).astype(np.float32) / 255 if v.ndim == 3 else v for name, v in inputs.items()
    }
    expected = compute(deployable, inputs)
    for artifact in bundle.contract.artifacts:
        if artifact.variant in ("float32", "float16"):
            found = open_artifact(bundle, artifact)(*(inputs[spec.name] for spec in artifact.inputs))
            for name, value in expected.items():
                assert found[name].shape == value.shape
                np.testing.assert_allclose(found[name], value, atol=6e-3, err_msg=f"{artifact.file} {name}")


@pytest.mark.parametrize("file", ["swap_64x64_float32.tflite", "swap_64x64_float16.mlpackage"])
def test_a_lost_weight_behind_a_vector_is_noticed(folder: Path, photo_path: Path, file: str) -> None:
    weights = mutations.weights(folder / file)
    assert len(weights) >= 8
    for name in weights:
        damaged = Path(shutil.copytree(folder, folder.parent / "damaged"))
        mutations.change_weight(damaged / file, name, np.zeros_like)
        mutations.seal(damaged)
        with pytest.raises(GateFailed, match=f"^{file}: "):
            verify(damaged, {(SIDE, SIDE): graph()}, [photo_path])
        shutil.rmtree(damaged)


def test_lint_measures_it_on_vectors_too(swap_bundle: Path, photo_paths: list[Path]) -> None:
    report = lint(swap_bundle, photo_paths)
    (measured,) = report["ranges"]
    assert measured["not_measured"] is None and measured["tensors"]


def test_a_contract_that_changes_a_kind_is_refused(folder: Path, photo_path: Path) -> None:
    document: dict[str, Any] = json.loads((folder / CONTRACT_FILE).read_text())
    document["artifacts"][0]["inputs"][2]["kind"] = "class"
    (folder / CONTRACT_FILE).write_text(json.dumps(document))
    with pytest.raises(GateFailed, match="'identity' is of kind class, it is vector"):
        verify(folder, {(SIDE, SIDE): graph()}, [photo_path])


def test_made_up_values_differ_and_cover_the_range() -> None:
    identity = graph().inputs[2]
    values = [made_up(identity, index) for index in range(3)]
    assert not np.array_equal(values[0], values[1]) and np.array_equal(values[0], made_up(identity, 0))
    assert all((value >= -1).all() and (value <= 1).all() for value in values)
    assert all(np.array_equal(value, value.astype(np.float16)) for value in values)
    label = Port("label", (1, 4), (0.0, 1.0), kind="class")
    assert made_up(label, 6).tolist() == [0.0, 0.0, 1.0, 0.0]
