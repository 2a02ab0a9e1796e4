"""The pictures that artifacts are run on reach both ends of the range, and no two inputs of a network get the same one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.reference import compute, with_float16_weights
from afterlens.conversion.verify.test_images import EXTREMES, extreme_pictures, pictures
from afterlens.training.deployable import Deployable, Port

SHAPE = (1, 3, 24, 40)


def test_the_extremes_are_what_they_are_called(photo_path: Path) -> None:
    photo = np.asarray(Image.open(photo_path).resize((40, 24)))
    made = extreme_pictures(photo)
    assert set(made) == set(EXTREMES)
    assert all(picture.dtype == np.uint8 and picture.shape == photo.shape for picture in made.values())
    assert made["black"].max() == 0 and made["white"].min() == 255
    assert made["dark"].max() <= 15 and made["bright"].min() >= 240
    assert np.ptp(made["flat"]) == 0 and 0 < made["flat"].max() < 255
    letterbox = made["letterbox"]
    assert letterbox[:3].max() == letterbox[-3:].max() == 0
    assert np.array_equal(letterbox[3:-3], photo[3:-3])
    both = (photo[:, ::-1].astype(float) + photo) / 2  # a mirrored second exposure
    assert np.abs(made["double"] - both).max() <= 1.0
    assert made["noise"].std() > 60


def test_no_two_inputs_get_the_same_picture(bundle: Bundle, photo_path: Path) -> None:
    ports = (Port("one", SHAPE, (0.0, 1.0)), Port("two", SHAPE, (0.0, 1.0)))
    graph = Deployable(nn.Identity(), "pair", "Pair", "1", ports, ports[:1])
    for images in ([photo_path], [photo_path, photo_path.with_name("bottles.jpg")]):
        seen = dict(pictures(bundle, images, graph))
        assert list(seen) == [*(image.name for image in images), *EXTREMES]
        for name, inputs in seen.items():
            if name not in ("flat", "black", "white"):  # of one colour by their nature
                assert not np.array_equal(inputs["one"], inputs["two"]), name


class Scaled(nn.Module):
    """A weight and a buffer, neither of which is a float16 number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))
        self.offset: Tensor
        self.register_buffer("offset", torch.tensor(0.3))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image * self.weight + self.offset,)


def test_the_float16_reference_rounds_weights_and_buffers_and_leaves_the_original_alone() -> None:
    ports = (Port("image", SHAPE, (0.0, 1.0)),)
    graph = Deployable(Scaled(), "scaled", "Scaled", "1", ports, (replace(ports[0], name="result"),))
    white = {"image": np.ones((24, 40, 3), np.float32)}
    rounded = float(compute(with_float16_weights(graph), white)["result"][0, 0, 0])
    assert rounded == np.float32(np.float16(0.1)) + np.float32(np.float16(0.3))
    assert float(compute(graph, white)["result"][0, 0, 0]) == np.float32(0.1) + np.float32(0.3)


class Numbers(nn.Module):
    """A factor, an offset and two divisors that stand in the graph as numbers; a count is none."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (((image * 0.1 + 0.3) / 3.7 + image / 7) * 2049,)


def test_the_float16_reference_rounds_numbers_of_the_graph_and_divides_by_rounded_reciprocals() -> None:
    ports = (Port("image", SHAPE, (0.0, 1.0)),)
    graph = Deployable(Numbers(), "n", "Numbers", "1", ports, (replace(ports[0], name="result"),))
    white = {"image": np.ones((24, 40, 3), np.float32)}
    got = float(compute(with_float16_weights(graph), white)["result"][0, 0, 0])
    tenth, third, inverse, seventh = (float(np.float16(x)) for x in (0.1, 0.3, 1 / 3.7, 1 / 7))
    assert got == pytest.approx(((tenth + third) * inverse + seventh) * 2049, rel=1e-6)


class Divided(nn.Module):
    """Divided by a constant of the network, and constants that float16 has no number for."""

    def __init__(self) -> None:
        super().__init__()
        self.divisor, self.least, self.most = (nn.Parameter(torch.tensor(v)) for v in (3.7, 1e-9, 1e6))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return image / self.divisor, image * self.least, image * self.most


def test_the_float16_reference_rounds_the_reciprocals_of_constants_and_keeps_what_float16_cannot_hold() -> (
    None
):
    port = Port("image", SHAPE, (0.0, 1.0))
    outputs = tuple(replace(port, name=name) for name in "abc")
    graph = Deployable(Divided(), "d", "Divided", "1", (port,), outputs)
    found = compute(with_float16_weights(graph), {"image": np.ones((24, 40, 3), np.float32)})
    got = [float(found[name][0, 0, 0]) for name in "abc"]
    assert got == pytest.approx([float(np.float16(1 / 3.7)), 1e-9, 1e6], rel=1e-6)


def test_inputs_that_are_no_pictures_get_numbers_of_their_range_other_ones_for_each_picture(
    bundle: Bundle, photo_path: Path
) -> None:
    image = Port("image", SHAPE, (0.0, 1.0))
    style = Port("style", (1, 5), (-2.0, 3.0), kind="vector")
    wanted = Port("wanted", (1, 3), (0.0, 1.0), kind="class")
    graph = Deployable(nn.Identity(), "mixed", "Mixed", "1", (image, style, wanted), (image,))
    photos = [photo_path, photo_path.with_name("bottles.jpg")]
    seen = dict(pictures(bundle, photos, graph))
    assert list(seen) == [*(photo.name for photo in photos), *EXTREMES]
    for inputs in seen.values():
        assert list(inputs) == ["image", "style", "wanted"]
        assert inputs["image"].shape == (24, 40, 3) and inputs["style"].shape == (5,)
        assert inputs["style"].min() >= -2.0 and inputs["style"].max() <= 3.0
        assert sorted(inputs["wanted"].tolist()) == [0.0, 0.0, 1.0]
    assert len({inputs["style"].tobytes() for inputs in seen.values()}) == len(seen)
    assert min(inputs["style"].min() for inputs in seen.values()) < -1.0
    assert max(inputs["style"].max() for inputs in seen.values()) > 2.0
    # Every class has its turn.
    assert {int(inputs["wanted"].argmax()) for inputs in seen.values()} == {0, 1, 2}
