"""The reflection network against its targets: numbers by hand, and the gate's maps."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.benchmarks.ablations.reflection_targets import Wanted, detection, score, summarise, write_maps
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.network import ReflectionNetwork


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


def test_weights_without_a_gate_have_nothing_to_show(pairs: Path) -> None:
    with pytest.raises(UserError, match="these weights have no gate"):
        detection(ReflectionNetwork((16, 16, 16), (1, 1, 1), (16, 16)).eval(), pairs)
