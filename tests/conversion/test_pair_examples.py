"""Real pairs as examples: found by name, one folder an input, and the one line where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from afterlens.conversion.examples import pair_examples
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError


def network(*inputs: str) -> Deployable:
    ports = [Port(name, (1, 3, 36, 64), (0.0, 1.0)) for name in (*inputs, "restored")]
    return Deployable(nn.Identity(), "net", "Net", "1", tuple(ports[:-1]), (ports[-1],))


def scene(folder: Path, name: str, photo: Path, *sides: str) -> None:
    """The photo in folders of these names, each a little darker than the one before."""
    with Image.open(photo) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    for index, side in enumerate(sides):
        (folder / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * (1.0 - 0.2 * index)).astype(np.uint8)).save(folder / side / name)


def test_inputs_and_truth_are_the_pictures_of_one_name(tmp_path: Path, photo_paths: list[Path]) -> None:
    for photo in photo_paths:
        scene(tmp_path, f"{photo.stem}.png", photo, "target", "current", "previous")
    found = pair_examples(tmp_path, network("current", "previous"))
    assert [example.name for example in found] == ["bottles", "room", "visitor"]
    for example in found:
        assert set(example.inputs) == {"current", "previous"} and example.ground_truth is not None
        means = [float(p.mean()) for p in (example.ground_truth, *example.inputs.values())]
        assert means[1] / means[0] == pytest.approx(0.8, abs=0.01), means
        assert means[2] / means[0] == pytest.approx(0.6, abs=0.01), means
        for picture in example.inputs.values():
            assert picture.shape == (36, 64, 3) and picture.dtype == np.float32
            assert np.abs(picture * 255 - np.rint(picture * 255)).max() < 1e-4
    assert [e.name for e in pair_examples(tmp_path, network("current"), 2)] == ["bottles", "room"]


def test_a_single_input_may_be_called_input(tmp_path: Path, photo_path: Path) -> None:
    scene(tmp_path, "a.png", photo_path, "target", "input")
    (example,) = pair_examples(tmp_path, network("image"))
    assert list(example.inputs) == ["image"]


def test_folders_that_are_no_pairs_are_refused(tmp_path: Path, photo_path: Path) -> None:
    with pytest.raises(
        UserError, match="no pairs of an input and its ground truth; found nothing; expected one"
    ):
        pair_examples(tmp_path, network("image"))
    scene(tmp_path, "a.png", photo_path, "input")
    with pytest.raises(UserError, match="no pairs of an input and its ground truth; found input/"):
        pair_examples(tmp_path, network("image"))
    (tmp_path / "target").mkdir()
    Image.new("RGB", (70, 60)).save(tmp_path / "target" / "a.png")
    with pytest.raises(
        UserError, match="a.png: is 70x60 and 768x432 pixels in its folders, expected one size"
    ):
        pair_examples(tmp_path, network("image"))
