import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Artifact,
    Bundle,
    GoldenFile,
    digest,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.proof import PROOF, PROOF_FILE
from afterlens.conversion.bundle.proof import read_proof as read_typed
from afterlens.conversion.bundle.strict_json import document_of
from afterlens.conversion.convert import convert
from afterlens.conversion.examples import Example, task_examples
from afterlens.conversion.verify.verify import verify
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import read_photo
from afterlens.training.reflection.task import TASK
from tests.conversion.verify import mutations
from tests.conversion.verify.test_gates import LIMITS
from tests.recipes import with_kinds

SIDE = 64
ARTIFACTS = (
    "veil_64x64_float32.tflite",
    "veil_64x64_float16.tflite",
    "veil_64x64_float16.mlpackage",
)


class Veil(nn.Module):
    """Somebody else's network: two pictures in, two out, and one of every kind of operator that can go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.second = nn.Conv2d(3, 16, 4, stride=4)
        self.feature = nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.gate = nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.down = nn.Conv2d(32, 32, 2, stride=2)
        self.clean = nn.ConvTranspose2d(32, 3, 4, stride=4, bias=False)
        self.veil = nn.ConvTranspose2d(32, 3, 4, stride=4, bias=False)

    def forward(self, photo: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.stem(photo), self.second(other)], dim=1)
        x = x + self.feature(x) * torch.sigmoid(self.gate(x))
        x = x + F.interpolate(self.down(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = x * (1.0 + x.mean(dim=(2, 3), keepdim=True))
        half = x.new_full((1, 3, 1, 1), 0.5)
        return (photo - self.clean(x)).clamp(0.0, 1.0), (self.veil(x) + half).clamp(0.0, 1.0)


def veil_deployable(seed: int = 0) -> Deployable:
    torch.manual_seed(seed)
    shape = (1, 3, SIDE, SIDE)
    return Deployable(
        module=Veil().eval(),
        task="veil",
        title="Veil",
        version="1",
        inputs=(Port("photo", shape, (0.0, 1.0)), Port("other", shape, (0.0, 1.0))),
        outputs=(Port("clean", shape, (0.0, 1.0)), Port("veil", shape, (0.0, 1.0))),
    )


@pytest.fixture(scope="session")
def veil_checkpoint(shared_folder: Path) -> Path:
    path = shared_folder / "veil.safetensors"
    with FileLock(shared_folder / "veil-checkpoint.lock"):
        if not path.exists():
            save_checkpoint(path, veil_deployable().module.state_dict(), {"task": "veil"})
    return path


@pytest.fixture(scope="session")
def veil_bundle(shared_folder: Path, veil_checkpoint: Path, photo_path: Path) -> Path:
    """Converted once for all test processes; read only."""
    folder = shared_folder / "veil"
    with FileLock(shared_folder / "veil.lock"):
        if not (folder / CONTRACT_FILE).exists():
            provenance = {
                "checkpoint_sha256": digest(veil_checkpoint)[0],
                "recipe": {},
                "data_licence": "none",
            }
            convert([veil_deployable()], folder, provenance, golden_photo=photo_path)
    return folder


@pytest.fixture
def folder(veil_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the converted network for one test to damage."""
    return Path(shutil.copytree(veil_bundle, tmp_path / "bundle"))


def run(
    folder: Path, images: list[Path], deployable: Deployable | None = None, **options: Any
) -> dict[str, Any]:
    return document_of(
        PROOF, verify(folder, {(SIDE, SIDE): deployable or veil_deployable()}, images, **options)
    )


def read_proof(folder: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    proof: dict[str, Any] = json.loads((folder / PROOF_FILE).read_text("utf-8"), parse_constant=refuse)
    return proof


def edit_artifact(folder: Path, file: str, change: Callable[[Artifact], Artifact]) -> None:
    contract = read_bundle(folder).contract
    artifacts = tuple(change(a) if a.file == file else a for a in contract.artifacts)
    assert artifacts != contract.artifacts
    write_contract(folder, replace(contract, artifacts=artifacts))


def recorded_limits() -> dict[str, Any]:
    """What a proof says was asked of each variant: all limits that it has, by its name."""
    found: dict[str, Any] = {"range_slack": 1e-6}
    for key, none in (
        *(("max_error", None), ("max_stored_error", None), ("min_psnr", None)),
        *(("max_levels", 255), ("max_flat_levels", 255)),
    ):
        limits = {name: getattr(gate, key) for (_, name), gate in LIMITS.items()}
        found[key] = {name: limit for name, limit in limits.items() if limit != none}
    return found


# What is right passes


def test_a_faithful_conversion_passes_and_the_proof_says_by_how_much(
    folder: Path, photo_paths: list[Path], veil_checkpoint: Path
) -> None:
    promised = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    del promised["camera_frame"]  # as in bundles from before it existed
    (folder / CONTRACT_FILE).write_text(json.dumps(promised), "utf-8")
    returned = run(folder, photo_paths, checkpoint=veil_checkpoint)
    proof = read_proof(folder)
    assert proof == returned
    assert proof["passed"] and proof["failures"] == []
    assert proof["checkpoint_sha256"] == digest(veil_checkpoint)[0]
    expected_images = [p.name for p in photo_paths] + [
        *("double", "dark", "bright", "flat", "black", "white", "letterbox", "noise", "golden"),
    ]
    assert proof["images"] == expected_images
    assert (proof["task"], proof["version"]) == ("veil", "1")
    assert proof["photos"] == [{"name": path.name, "sha256": digest(path)[0]} for path in photo_paths]
    assert proof["golden_files"] == len(promised["golden"]) == len(list((folder / "golden").iterdir()))
    assert proof["ground_truth"] == {"pairs": [], "budgets": {}}
    assert proof["gates"] == recorded_limits()
    assert proof["tools"]["torch"] == torch.__version__.partition("+")[0]
    assert set(proof["tools"]) == {"python", "machine", "torch", "numpy", "ai-edge-litert"}
    assert sorted(a["file"] for a in proof["artifacts"]) == sorted(ARTIFACTS)
    for artifact in proof["artifacts"]:
        assert artifact["passed"] and artifact["faults"] == []
        assert artifact["sha256"] == digest(folder / artifact["file"])[0]
        assert {(r["image"], r["output"]) for r in artifact["rows"]} == {
            (image, output) for image in expected_images for output in ("clean", "veil")
        }
        # A file that agreed exactly would not have been run: the runtimes sum in another order.
        assert 0 < artifact["max_error"] < 0.01
        assert artifact["max_error"] == max(r["max_error"] for r in artifact["rows"])
        assert artifact["psnr"] == min(r["psnr"] for r in artifact["rows"])
        if artifact["variant"] == "float32":
            assert artifact["max_error"] <= 1e-4
        else:
            assert artifact["psnr"] >= 60
    summary = read_bundle(folder).contract.proof
    assert summary is not None and summary.passed and summary.images == len(photo_paths)
    assert {r.file: r.max_error for r in summary.results} == {
        a["file"]: a["max_error"] for a in proof["artifacts"]
    }
    written = json.loads((folder / CONTRACT_FILE).read_text("utf-8"))
    assert {**written, "proof": None} == promised


def test_the_reflection_bundle_passes(
    own_bundle: Bundle, deployable: Deployable, checkpoint: Path, photo_paths: list[Path]
) -> None:
    proof = document_of(
        PROOF, verify(own_bundle.folder, {(256, 256): deployable}, photo_paths, checkpoint=checkpoint)
    )
    assert read_typed(own_bundle.folder / PROOF_FILE) == PROOF.validate_json(json.dumps(proof))
    worst = {a["file"]: (a["max_error"], a["psnr"]) for a in proof["artifacts"]}
    print(worst)
    assert proof["passed"] and len(worst) == 3


# What is wrong fails


def _mutations() -> list[Any]:
    cases = []
    for file in ARTIFACTS:
        own = mutations.COREML_ONLY if file.endswith(".mlpackage") else mutations.TFLITE_ONLY
        for mutation in (*mutations.EVERYWHERE, mutations.swap_inputs, *own):
            cases.append(pytest.param(file, mutation, id=f"{mutation.__name__}-{file}"))
    return cases


@pytest.mark.parametrize(("file", "mutation"), _mutations())
def test_a_wrong_artifact_is_named(
    folder: Path, photo_path: Path, file: str, mutation: mutations.Mutation
) -> None:
    mutation(folder / file)
    mutations.seal(folder)  # so that it is the results that tell, and not the sha256
    with pytest.raises(GateFailed) as caught:
        run(folder, [photo_path])
    message = str(caught.value)
    print(message)
    assert message.startswith(f"{file}: ") and str(folder / file) not in message
    assert "\n" not in message
    proof = read_proof(folder)
    assert not proof["passed"]
    assert [a["file"] for a in proof["artifacts"] if not a["passed"]] == [file]
    (wrong,) = (a for a in proof["artifacts"] if not a["passed"])
    if wrong["rows"]:
        assert re.search(r"output '\w+', image \S+: .* at x \d+, y \d+, [RGB]: got .*, expected ", message)
    summary = read_bundle(folder).contract.proof
    assert summary is not None and not summary.passed
    assert all(result.passed == (result.file != file) for result in summary.results)


@pytest.mark.parametrize("file", ARTIFACTS)
def test_a_file_changed_after_conversion_is_not_even_run(folder: Path, photo_path: Path, file: str) -> None:
    mutations.flip_a_bit(folder / file)
    with pytest.raises(
        GateFailed, match=f"^{file}: its sha256 is [0-9a-f]{{64}}, model.json says [0-9a-f]{{64}}"
    ):
        run(folder, [photo_path])
    (wrong,) = (a for a in read_proof(folder)["artifacts"] if not a["passed"])
    assert wrong["file"] == file and wrong["rows"] == [] and wrong["runtime"] is None


@pytest.mark.parametrize("file", ARTIFACTS)
def test_a_truncated_file_is_named_with_its_size(folder: Path, photo_path: Path, file: str) -> None:
    size = digest(folder / file)[1]
    mutations.truncate(folder / file)
    with pytest.raises(GateFailed, match=rf"^{file}: has \d+ bytes, model.json says {size}"):
        run(folder, [photo_path])


def test_an_edited_sha256_is_noticed(folder: Path, photo_path: Path) -> None:
    text = (folder / CONTRACT_FILE).read_text()
    sha256 = next(a.sha256 for a in read_bundle(folder).contract.artifacts if a.file == ARTIFACTS[0])
    (folder / CONTRACT_FILE).write_text(
        text.replace(sha256, sha256[:-1] + ("0" if sha256[-1] != "0" else "1"))
    )
    with pytest.raises(GateFailed, match=ARTIFACTS[0]):
        run(folder, [photo_path])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": (1, 3, SIDE, SIDE)}, r"\(1, 64, 64, 3\), the contract says .*\(1, 3, 64, 64\)"),
        ({"dtype": "uint8"}, "float32 NHWC .*, the contract says uint8"),
        ({"layout": "image"}, "float32 NHWC .*, the contract says float32 image"),
        ({"range": (0.0, 255.0)}, r"in \(0.0, 255.0\), it is in \(0.0, 1.0\)"),
    ],
)
def test_a_contract_that_promises_another_tensor_fails(
    folder: Path, photo_path: Path, change: dict[str, Any], said: str
) -> None:
    def edit(artifact: Artifact) -> Artifact:
        first, second = artifact.outputs
        return replace(artifact, outputs=(replace(first, **change), second))

    edit_artifact(folder, ARTIFACTS[0], edit)
    with pytest.raises(GateFailed, match=f"^{ARTIFACTS[0]}: .*{said}"):
        run(folder, [photo_path])


def test_a_float16_file_does_not_pass_as_float32(folder: Path, photo_path: Path) -> None:
    shutil.copy(folder / ARTIFACTS[1], folder / ARTIFACTS[0])
    mutations.seal(folder)
    with pytest.raises(GateFailed, match=f"^{ARTIFACTS[0]}: output .*max error .* at most 0.0001"):
        run(folder, [photo_path])


def test_other_weights_of_the_same_network_fail_everywhere(folder: Path, photo_path: Path) -> None:
    with pytest.raises(GateFailed):
        run(folder, [photo_path], veil_deployable(seed=1))
    proof = read_proof(folder)
    assert [a["passed"] for a in proof["artifacts"]] == [False] * 3
    assert any(line.startswith("golden/") for line in proof["failures"])


@pytest.mark.parametrize("file", ARTIFACTS)
def test_every_lost_weight_is_noticed(folder: Path, photo_path: Path, file: str) -> None:
    contract = read_bundle(folder).contract
    write_contract(
        folder, replace(contract, artifacts=tuple(a for a in contract.artifacts if a.file == file))
    )
    missed = []
    for name in mutations.weights(folder / file):
        damaged = Path(shutil.copytree(folder, folder.parent / "damaged"))
        mutations.change_weight(damaged / file, name, np.zeros_like)
        mutations.seal(damaged)
        try:
            run(damaged, [photo_path])
            missed.append(name)
        except GateFailed as failure:
            assert str(failure).startswith(file)
        shutil.rmtree(damaged)
    assert missed == []


@pytest.mark.parametrize("encoding", ["png", "float32"])
def test_golden_outputs_must_be_what_pytorch_computes(folder: Path, photo_path: Path, encoding: str) -> None:
    contract = read_bundle(folder).contract
    first, second = (g for g in contract.golden if (g.role, g.encoding) == ("output", encoding))
    shutil.copy(folder / first.file, folder / second.file)

    def sealed(entry: GoldenFile) -> GoldenFile:
        sha256, size = digest(folder / entry.file)
        return replace(entry, sha256=sha256, bytes=size)

    write_contract(folder, replace(contract, golden=tuple(sealed(g) for g in contract.golden)))
    with pytest.raises(GateFailed, match=f"^{second.file}: PyTorch differs"):
        run(folder, [photo_path])
    assert all(a["passed"] for a in read_proof(folder)["artifacts"])


def test_a_damaged_golden_file_fails(folder: Path, photo_path: Path) -> None:
    golden = read_bundle(folder).contract.golden[0]
    mutations.flip_a_bit(folder / golden.file)
    with pytest.raises(GateFailed, match=f"^{golden.file}: its sha256"):
        run(folder, [photo_path])


def test_a_reference_that_leaves_its_range_proves_nothing(folder: Path, photo_path: Path) -> None:
    class Unclipped(Veil):
        def forward(self, photo: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
            clean, veil = super().forward(photo, other)
            return clean * 1.5, veil

    right = veil_deployable()
    module = Unclipped().eval()
    module.load_state_dict(right.module.state_dict())
    with pytest.raises(GateFailed):
        run(folder, [photo_path], replace(right, module=module))
    assert any(
        line.startswith("PyTorch: output 'clean', image room.jpg") for line in read_proof(folder)["failures"]
    )


# What cannot be proved is refused, and nothing is written


def refused(folder: Path, images: list[Path], said: str, **options: Any) -> None:
    before = sorted(folder.iterdir()), (folder / CONTRACT_FILE).read_bytes()
    with pytest.raises(UserError, match=said) as caught:
        run(folder, images, **options)
    assert "\n" not in str(caught.value)
    assert (sorted(folder.iterdir()), (folder / CONTRACT_FILE).read_bytes()) == before


def test_no_photos(folder: Path) -> None:
    refused(folder, [], "no photos")


def test_a_photo_that_is_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a photo")
    refused(folder, [tmp_path / "text.jpg"], "text.jpg: not an image")


@pytest.mark.parametrize("file", [*ARTIFACTS, "golden/64x64_input_photo.png"])
def test_a_missing_file(folder: Path, photo_path: Path, file: str) -> None:
    path = folder / file
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    refused(folder, [photo_path], f"{file}: is missing")


def test_a_damaged_contract(folder: Path, photo_path: Path) -> None:
    text = (folder / CONTRACT_FILE).read_text()
    (folder / CONTRACT_FILE).write_text(text[: len(text) // 2])
    refused(folder, [photo_path], "not valid JSON")


def test_another_checkpoint(folder: Path, photo_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, veil_deployable(seed=1).module.state_dict(), {"task": "veil"})
    refused(folder, [photo_path], "the bundle was converted from", checkpoint=other)


def test_a_reference_of_another_task(folder: Path, photo_path: Path) -> None:
    refused(folder, [photo_path], "of task 'veil'", deployable=replace(veil_deployable(), task="blur"))


def test_a_size_without_a_reference(folder: Path, photo_path: Path) -> None:
    with pytest.raises(UserError, match="no reference of its size, got 32x16"):
        verify(folder, {(16, 32): veil_deployable()}, [photo_path])


@pytest.mark.parametrize(("height", "width"), [(10, 64), (64, 10), (1, 1)])
def test_pictures_too_small_for_ssim(height: int, width: int, photo_path: Path, tmp_path: Path) -> None:
    picture = np.zeros((height, width, 3), np.float32)
    examples = {(height, width): [Example("a", {"image": picture}, picture)]}
    with pytest.raises(
        UserError, match=f"^{width}x{height}: pictures of less than 11x11 cannot be evaluated"
    ):
        verify(tmp_path, {}, [photo_path], examples=examples)
    with pytest.raises(UserError, match="no model.json"):
        verify(tmp_path, {}, [photo_path], examples={(11, 11): examples[height, width], (1, 1): []})


def test_an_old_proof_is_replaced(folder: Path, photo_path: Path) -> None:
    run(folder, [photo_path])
    mutations.flip_a_bit(folder / ARTIFACTS[0])
    with pytest.raises(GateFailed):
        run(folder, [photo_path])
    assert not read_proof(folder)["passed"]
    summary = read_bundle(folder).contract.proof
    assert summary is not None and not summary.passed


def test_artifacts_are_evaluated_by_their_pictures(
    own_bundle: Bundle, checkpoint: Path, deployable: Deployable, photo_paths: list[Path]
) -> None:
    # One artifact is enough, and the executor of the other is slow.
    contract = own_bundle.contract
    (half,) = [a for a in contract.artifacts if a.file.endswith("float16.tflite")]
    write_contract(own_bundle.folder, replace(contract, artifacts=(half,)))
    examples = task_examples(
        TASK, with_kinds(TASK, "shadow", "occlusion"), photo_paths, deployable, count=2, seed=5
    )

    def run(budget: float) -> dict[str, Any]:
        found = verify(
            own_bundle.folder,
            {(256, 256): deployable},
            photo_paths[:1],
            checkpoint=checkpoint,
            examples={(256, 256): examples},
            budgets={"float16": budget},
        )
        return document_of(PROOF, found)

    quality = run(0.05)["artifacts"][0]["quality"]
    assert quality["passed"] and quality["budget"] == 0.05 and abs(quality["drop"]) < 0.02
    assert [row["image"] for row in quality["rows"]] == [example.name for example in examples]
    about = read_proof(own_bundle.folder)["ground_truth"]
    assert about == {"pairs": sorted(example.name for example in examples), "budgets": {"float16": 0.05}}
    assert quality["reference_psnr"] == pytest.approx(quality["psnr"] + quality["drop"])
    assert quality["reference_psnr"] > quality["input_psnr"] + 0.5  # the bundled weights do restore
    heat = read_photo(own_bundle.folder / quality["worst"]["heatmap"]).rgb
    assert heat.shape == (256, 256, 3)
    with pytest.raises(
        GateFailed, match=r"float16\.tflite: loses .* dB .* worst image .* pixels at x \d+, y \d+"
    ):
        run(-1.0)
    assert read_proof(own_bundle.folder)["artifacts"][0]["passed"] is False
