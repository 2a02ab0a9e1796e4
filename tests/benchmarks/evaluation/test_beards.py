"""The beard task's figures: what each is named after, that groups are told apart, and a judge that learns to judge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.benchmarks.ablations import beard_claims, claims
from afterlens.benchmarks.evaluation import beards
from afterlens.benchmarks.evaluation.beard_judge import BeardJudge, drawn, load_judge, main, seen, varied
from afterlens.benchmarks.evaluation.beards import PSNR_CAP, Face, evaluate_beards, summary
from afterlens.benchmarks.evaluation.grid import Cell
from afterlens.samples import FACES, HELD_OUT_FACES
from afterlens.training.beard.task import TASK, build_network
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.faces.beards import CLASSES, draw_beard
from afterlens.training.faces.portraits import index_portraits
from afterlens.training.gains import masked_psnr
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos
from afterlens.training.recipe import read_recipe, read_table
from tests.conftest import Result


def _face(**changes: Any) -> Face:
    known = {"photo": "1.png", "worn": "full", "gain": 10.0, "inside": 25.0, "around": 50.0, "bare": 60.0}
    told = {"removed": True, "wanted": "goatee", "grown": False, "sex": "male", "tone": "dark"}
    return Face(**{**known, **told, **changes})


def test_a_summary_has_the_mean_the_tail_and_the_worst() -> None:
    faces = [_face(gain=float(n), around=40.0 + n, bare=60.0 - n, removed=n < 15) for n in range(20)]
    found = summary(faces)
    assert found["count"] == 20
    assert found["gain"] == {"mean": 9.5, "low": pytest.approx(0.95), "worst": 0.0}
    assert found["around"]["worst"] == 40.0 and found["bare"]["worst"] == 41.0
    assert found["removed"] == 0.75 and found["grown"] == 0.0


def test_the_masked_psnr_sees_the_mask_alone() -> None:
    target = torch.full((1, 3, 8, 8), 0.5)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0
    result = target + 0.1 * mask
    assert float(masked_psnr(result, target, mask, PSNR_CAP)) == pytest.approx(20.0, abs=1e-4)
    assert float(masked_psnr(result, target, 1.0 - mask, PSNR_CAP)) == PSNR_CAP
    assert float(masked_psnr(result, target, torch.ones_like(mask), PSNR_CAP)) == pytest.approx(
        20 + 10 * np.log10(2), abs=1e-4
    )


class _Oracle(nn.Module):
    """Gives the picture that it was told to give."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, ...]] = []
        self.laid: list[bool] = []

    def forward(self, image: Tensor, wanted: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(tuple(wanted[0].tolist()))
        self.laid.append(not torch.equal(laid, image))
        return image + 0.01, image


def _weights(path: Path) -> Path:
    """Start weights of a small network, which changes nothing."""
    changes = ("network.widths=[16,16,16]", "network.depths=[1,1,1]", "network.decoder_depths=[1,1]")
    recipe = read_recipe(TASK.recipe_type, TASK.recipe_path, changes)
    network = {**read_table(TASK.recipe_path)["network"], **recipe.network.model_dump(mode="json")}
    save_checkpoint(
        path, build_network(recipe).state_dict(), {"task": "beard", "recipe": {"network": network}}
    )
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for path in (*FACES[:2], *HELD_OUT_FACES[:2]):
        for suffix in (".jpg", ".json"):
            (folder / path.name).with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    return folder


def test_a_network_that_changes_nothing_gains_nothing_and_harms_nobody(
    cli: Callable[..., Result], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = _weights(tmp_path / "idle.safetensors")
    done = cli("evaluate", "beard", faces, "-c", weights, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out" / "beards.json").read_text())
    assert (tmp_path / "out" / "beards.png").is_file()
    # The start mask is 0.12, and so the mark is there.
    assert abs(found["all"]["gain"]["mean"]) < 1.0 and found["all"]["bare"]["mean"] > 35.0
    # The beard is where it was.
    assert all(5.0 < face["inside"] < 35.0 for face in found["faces"])
    assert set(found["by_class"]) <= set(CLASSES[1:]) and set(found["by_sex"]) <= {"female", "male"}
    for groups in (found["by_class"], found["by_tone"], found["by_sex"]):
        assert (
            sum(group["count"] for group in groups.values()) == len(found["faces"]) == found["all"]["count"]
        )
    table = cli("evaluate", "beard", faces, "-c", weights, "--fail-under-gain", "3")
    assert table.code == 1 and "the gate asks for +3.00 dB" in table.stderr and "moustache" in table.stdout
    monkeypatch.setattr(beards, "evaluate_beards", lambda *_, **__: found)
    for gate, value in (("--fail-under", "bare"), ("--fail-under-gain", "gain")):  # exactly as much is enough
        mean = found["all"][value]["mean"]
        codes = [cli("evaluate", "beard", faces, f"{gate}={mean + more!r}").code for more in (0.0, 1e-6)]
        assert codes == [0, 1], gate
    refused = cli("evaluate", "beard", faces, "-c", weights, "--synthesize", "shadow")
    assert refused.code == 2 and "not for beard" in refused.stderr


def test_every_network_is_asked_the_same_and_its_harm_is_seen(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, sheets = _Oracle(), list[list[list[Cell]]]()
    monkeypatch.setattr(beards, "load_network", lambda task, path: (nn.Identity(), {}))
    monkeypatch.setattr(beards, "write_result", lambda path, result, rows: sheets.append(rows))
    monkeypatch.setattr(beards, "_ROWS", 2)
    weights = _weights(tmp_path / "any.safetensors")
    found = evaluate_beards(
        TASK.__class__(**{**vars(TASK), "restorer": lambda network: oracle}), weights, faces, out=tmp_path
    )
    shown = [f"removed ({found['faces'][number]['gain']:+.1f} dB)" for number in (0, 2)]
    assert [row[1].caption for row in sheets[0]] == shown  # some of all, evenly
    count = found["all"]["count"]
    assert len(oracle.asked) == 3 * count
    assert all(asked == (0.0, 0.0, 0.0) for asked in oracle.asked[0::3] + oracle.asked[1::3])
    assert all(sum(asked) > 0.0 for asked in oracle.asked[2::3])
    assert oracle.laid == [False, False, True] * count
    assert 40.0 <= found["all"]["bare"]["mean"] < 46.0  # 0.01 on the face alone


def test_the_bundled_judge_tells_drawn_beards_from_bare_faces() -> None:
    judge = load_judge()
    faces = torch.stack([_square(path) for path in (*FACES, *HELD_OUT_FACES)])
    verdicts = judge(seen(faces)).argmax(1)
    print([CLASSES[int(verdict)] for verdict in verdicts])
    assert float((verdicts == 0).float().mean()) >= 0.75


def _square(path: Path) -> Tensor:
    from afterlens.training.media.images import read_photo

    return torch.from_numpy(read_photo(path).rgb.copy()).permute(2, 0, 1)


def test_what_the_judge_trains_on_varies_and_stays_a_picture() -> None:
    pictures = (torch.stack([seen(_square(FACES[0])[None])[0]] * 6) * 255).byte()
    first, second = (varied(pictures, np.random.default_rng(seed)) for seed in (1, 1))
    assert torch.equal(first, second) and float(first.min()) >= 0.0 and float(first.max()) <= 1.0
    assert all(float((first[0] - other).abs().mean()) > 0.005 for other in first[1:])
    rough = (first - F.avg_pool2d(first, 3, 1, 1))[..., 1:-1, 1:-1].flatten(1).std(1)
    print(f"rough {rough.tolist()}")
    assert float(rough.max()) < 0.05, "more noise than a face has detail"
    assert BeardJudge()(first).shape == (6, len(CLASSES))


def test_half_of_what_the_judge_trains_on_is_mirrored_blurred_and_compressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[str] = Counter()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls[real.__name__] += 1
            return real(*arguments)

        return call

    for function in (cv2.imencode, cv2.GaussianBlur):
        monkeypatch.setattr(cv2, function.__name__, counted(function))
    pictures = torch.full((300, 3, 128, 128), 60, dtype=torch.uint8)
    pictures[..., :64] = 200
    result = varied(pictures, np.random.default_rng(2))
    mirrored = (result[..., :64].mean((1, 2, 3)) < result[..., 64:].mean((1, 2, 3))).float().mean()
    print(f"mirrored {mirrored:.2f}, {calls}")
    assert 0.4 < float(mirrored) < 0.6
    assert all(120 < calls[name] < 180 for name in ("imencode", "GaussianBlur"))


def test_half_of_the_beards_drawn_for_the_judge_have_the_colour_of_the_hair(
    monkeypatch: pytest.MonkeyPatch, faces: Path
) -> None:
    module = "afterlens.benchmarks.evaluation.beard_judge"
    own, used = np.array([0.3, 0.2, 0.1], np.float32), []

    def draw(square: Any, landmarks: Any, kind: str, rng: Any, hair: Any) -> Any:
        used.append((kind, hair))
        return draw_beard(square, landmarks, kind, rng, hair)

    monkeypatch.setattr(f"{module}.draw_beard", draw)
    records = index_portraits(find_photos([faces]))
    for known, low, high in ((own, 6, 24), (None, 0, 0)):
        used.clear()
        monkeypatch.setattr(f"{module}.hair_of", lambda photo, known=known: known)
        pictures, labels = drawn(records, 30, seed=0)
        coloured = sum(hair is not None for _, hair in used)
        print(f"{coloured} of 30")
        assert low <= coloured <= high
        assert all(hair is None or hair is own for _, hair in used)
        assert [kind for kind, _ in used] == [CLASSES[int(label)] for label in labels]
        assert pictures.shape == (30, 3, 128, 128) and len(set(labels.tolist())) == len(CLASSES)


def test_a_judge_is_trained_by_command(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "judge.safetensors"
    arguments = ["judge", str(faces), "-o", str(out), "--drawings", "10", "--steps", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["accuracy"]) == set(CLASSES) and result["steps"] == 2
    load_judge(out)
    with pytest.raises(UserError):
        load_judge(_weights(tmp_path / "no_judge.safetensors"))


def test_each_claim_is_left_out_once_with_equal_training_otherwise(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def train(task: Any, data: Any, out: Path, *, overrides: list[str], **others: Any) -> Path:
        read_recipe(task.recipe_type, task.recipe_path, overrides)  # they are what the recipe knows
        calls.append(overrides)
        return _weights(tmp_path / "same.safetensors")

    monkeypatch.setattr(claims, "train", train)
    rows = beard_claims.ablate([faces], faces, tmp_path / "runs", 5, ["training.batch=4"])
    assert [row["without"] for row in rows] == list(beard_claims.WITHOUT)
    assert all("training.steps=5" in call and "training.batch=4" in call for call in calls)
    changed = [{change.partition("=")[0] for change in call[3:]} for call in calls]
    assert changed == [
        set(),
        {"classes.set"},
        {"classes.set", "classes.batches"},
        {"loss.area_adjusted"},
        {"classes.set", "classes.batches", "loss.area_adjusted"},
    ]
    assert all(row["all"] == rows[0]["all"] for row in rows)  # the same weights, and so the same figures
