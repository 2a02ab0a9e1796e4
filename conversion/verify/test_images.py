"""The pictures that artifacts are run on: real photos, the golden input, and test images made of a photo.

for name, inputs in pictures(bundle, [Path("room.jpg")], deployable):
    print(name, inputs["image"].shape)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.layout import Value, made_up
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.verify.golden import GOLDEN, golden_files, read_golden
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.images import fit, read_photo

Levels = NDArray[np.uint8]  # (H, W, 3), RGB
Inputs = Mapping[str, Value]  # by input name

EXTREMES = ("double", "dark", "bright", "flat", "black", "white", "letterbox", "noise")
"""Names of the test images, in the order in which they are run."""


def extreme_pictures(photo: Levels) -> dict[str, Levels]:
    """Pictures made of a photo, (H, W, 3): the extremes of the range, noise, a letterbox, and a double exposure.

    A network that removes faults leaves a clean photo as it is. Most of its weights could be lost without anybody
    noticing; a double exposure gives it something to do. Black and white reach both ends of the range: a division by a
    sum that is zero, or a range of integers that ends too early, shows nowhere else. A letterbox (a film with black
    bars) has both in one picture.
    """
    return {
        "double": np.right_shift(photo, 1) + np.right_shift(photo[:, ::-1], 1),
        "dark": np.right_shift(photo, 4),  # the darkest sixteenth of the levels
        "bright": 255 - np.right_shift(255 - photo, 4),
        "flat": np.full_like(photo, 128),
        "black": np.zeros_like(photo),
        "white": np.full_like(photo, 255),
        "letterbox": _letterbox(photo),
        "noise": np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8),
    }


def _letterbox(photo: Levels) -> Levels:
    """The photo between black bars above and below, each an eighth of its height."""
    bar = -(-photo.shape[0] // 8)
    framed = photo.copy()
    framed[:bar] = framed[-bar:] = 0
    return framed


def pictures(bundle: Bundle, images: Sequence[Path], deployable: Deployable) -> Iterator[tuple[str, Inputs]]:
    """Names and inputs: the photos, the test images, and the bundle's golden input if it has an undamaged one.

    Inputs that are not images get made-up values, other ones for each picture.
    """
    ports = deployable.inputs

    def photo(index: int, port: Port) -> Levels:
        return to_levels(fit(read_photo(images[index % len(images)]).rgb, port.shape[2], port.shape[3]))

    def value(port: Port, index: int, place: int) -> Value:
        # Several image inputs get a photo and those before it: of a clip's frames in order, its neighbours. No two get
        # the same picture, or nobody would notice that they are mixed up: a lone photo is turned upside down for every
        # second one.
        if port.kind != "image":
            return made_up(port, index)
        turn = -1 if len(images) == 1 else 1
        return _unit(photo(index - place, port)[:: turn**place])

    for index, name in enumerate(names(images)):
        yield name, {port.name: value(port, index, place) for place, port in enumerate(ports)}
    extremes = {port.name: extreme_pictures(photo(0, port)) for port in ports if port.kind == "image"}
    for index, name in enumerate(EXTREMES):
        yield (
            name,
            {
                port.name: _unit(extremes[port.name][name][:: (-1) ** place])
                if port.kind == "image"
                else made_up(port, len(images) + index)
                for place, port in enumerate(ports)
            },
        )
    golden = {entry.tensor: entry for entry in golden_files(bundle, deployable.size, "input")}
    if set(golden) == {port.name for port in ports}:
        found = {port.name: read_golden(bundle, golden[port.name], port) for port in ports}
        whole = {name: value for name, value in found.items() if value is not None}
        if len(whole) == len(ports):
            yield GOLDEN, whole


def names(images: Sequence[Path]) -> list[str]:
    """What the photos are called: by their file names, where these tell them apart."""
    short = [path.name for path in images]
    return short if len(set(short)) == len(short) else [str(path) for path in images]


def _unit(levels: Levels) -> Value:
    return np.ascontiguousarray(levels, np.float32) / np.float32(255)
