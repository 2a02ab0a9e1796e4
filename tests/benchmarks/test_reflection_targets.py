"""The reflection network against its targets: numbers by hand, and the gate's maps."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.benchmarks.ablations import reflection_targets
from afterlens.benchmarks.ablations.reflection_targets import (
    Wanted,
    detection,
    run,
    score,
    summarise,
    write_maps,
)
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.network import ReflectionNetwork
from afterlens.training.reflection.task import TASK


class Bright(nn.Module):
    """Finds a layer wherever the photo is bright, and halves it there."""

    threshold = 0.0

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 16) > 0.5
        return image / 2, image / 2, torch.where(found, 9.0, -9.0)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Left half bright in the input and dark in the ground truth, right half dark in both."""
    for name in ("input", "target"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        picture = Image.new("RGB", (128, 64), (20, 20, 20))
        if name == "input":
            picture.paste((200, 200, 200), (0, 0, 64, 64))
        picture.save(tmp_path / "pairs" / name / "a.png")
    return tmp_path / "pairs"


def test_summary_by_hand() -> None:
    found = summarise([4.0, -1.0, 3.0, 2.0, 0.0])  # a picture left as it was is not worse
    assert found == pytest.approx({"count": 5, "mean": 1.6, "p5": -0.8, "worst": -1.0, "worse": 0.2})


def test_gate_that_opens_for_all_that_changed_has_full_recall(pairs: Path, tmp_path: Path) -> None:
    (row,) = detection(Bright(), pairs)
    assert row == {"photo": row["photo"], "changed": 0.5, "recall": 1.0, "false_alarms": 0.0}
    (shown,) = write_maps(Bright(), pairs / "input", tmp_path / "maps")
    assert 0.4 < shown["open"] < 0.6
    written = Image.open(tmp_path / "maps" / "input" / "a.png")
    assert written.size == (256, 64)
    assert written.getpixel((128 + 10, 30)) == (200, 200, 200)  # open: as it is
    assert written.getpixel((128 + 110, 30)) == (3, 3, 3)  # closed: darkened


def test_clean_photos_are_scored_by_psnr_and_pairs_by_gain(pairs: Path) -> None:
    gained = score(Bright(), pairs.parent, Wanted("mine", "pairs", "", "+1 dB"), None)
    assert gained["measure"] == "psnr_gain" and gained["mean"] > 3.0 and gained["count"] == 1
    torch.manual_seed(1)
    unchanged = ReflectionNetwork((16, 16, 16), (1, 1, 1), (16, 16), True, True).eval()
    clean = score(unchanged, pairs.parent, Wanted("mine", "pairs/target", "clean", "44"), 1)
    assert clean["measure"] == "psnr" and clean["mean"] > 60.0 and clean["worse"] == 0.0


def test_a_run_scores_each_strength_and_maps_every_folder(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    folders = ("real_pairs_aligned", "synthetic_ceilnet50")
    for name in folders:
        shutil.copytree(pairs, data / "test_reflection" / name)
    wanted = Wanted("real", "test_reflection/real_pairs_aligned", "", "+2.5 dB")
    monkeypatch.setattr(reflection_targets, "SETS", (wanted,))
    result = run(data, TASK.pretrained, (0.25, 0.75), None, tmp_path / "maps")
    assert [(row["strength"], row["set"], row["count"]) for row in result["rows"]] == [
        (0.25, "real", 1),
        (0.75, "real", 1),
    ]
    assert [row["changed"] for row in result["detection"]] == [0.5, 0.5]
    assert [row["photo"] for row in result["maps"]] == [f"{name}/a.png" for name in folders for _ in range(2)]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == list(folders)
    assert "detection" not in run(data, TASK.pretrained, (), None, None)


def test_weights_without_a_gate_have_nothing_to_show(pairs: Path) -> None:
    with pytest.raises(UserError, match="these weights have no gate"):
        detection(ReflectionNetwork((16, 16, 16), (1, 1, 1), (16, 16)).eval(), pairs)
