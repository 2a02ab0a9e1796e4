"""geometry.json: where a camera's pixels go, from the sensor through the artifact to the view (docs/vectors.md).

Matrices come from linear algebra here; the correspondences come from a walk in pixels that uses no matrix, so that each
checks the other.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # (4, 4); column vectors (x, y, 0, 1), x right, y down, [0, 1] over a frame


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int

    def turned(self, degrees: int) -> Size:
        return Size(self.height, self.width) if degrees % 180 else self


class Case(NamedTuple):
    """A camera, an artifact and a view."""

    sensor: Size
    rotation: int  # degrees clockwise that bring the sensor's picture upright
    mirrored: bool  # the view of a front camera is shown as in a mirror
    artifact: Size
    upright: bool  # what the artifact sees: the upright picture, or the sensor's own orientation
    artifact_scale: str  # "crop" fills the artifact, "fit" shows it the whole frame
    view: Size
    view_scale: str


# The under-display ghosts are a fixed number of sensor pixels, so that artifact takes the frame as it is; a square and
# a wide artifact see the upright picture. Views: a phone held upright and across, a tablet, a square.
SETUPS = (
    (Size(1280, 720), Size(1280, 720), False, Size(1080, 2400)),
    (Size(640, 480), Size(256, 256), True, Size(2400, 1080)),
    (Size(1280, 720), Size(256, 256), True, Size(1600, 2560)),
    (Size(1920, 1080), Size(384, 256), True, Size(1000, 1000)),
    (Size(720, 1280), Size(1280, 720), True, Size(1080, 1920)),
)
VIEW_POINTS = ((0.5, 0.5), (0.25, 0.375), (0.8125, 0.125))  # in parts of the view
DECIMALS = 9


def document() -> dict[str, Any]:
    """All of geometry.json."""
    return {"rotations": rotations(), "cases": [entry(case) for case in cases()]}


def rotations() -> list[dict[str, Any]]:
    """The rotation for each way a camera is mounted and a display is turned."""
    return [
        {"sensor_orientation": mounted, "display_rotation": turned, "front": front, "rotation": rotation}
        for mounted, turned, front in itertools.product((0, 90, 180, 270), (0, 90, 180, 270), (False, True))
        # The display's turn counts the other way round for a camera that looks at the user.
        for rotation in [(mounted + (turned if front else -turned)) % 360]
    ]


def cases() -> list[Case]:
    """Every setup in every rotation, lens and scaling."""
    return [
        Case(sensor, rotation, mirrored, artifact, upright, artifact_scale, view, view_scale)
        for (
            sensor,
            artifact,
            upright,
            view,
        ), rotation, mirrored, artifact_scale, view_scale in itertools.product(
            SETUPS, (0, 90, 180, 270), (False, True), ("crop", "fit"), ("crop", "fit")
        )
    ]


def entry(case: Case) -> dict[str, Any]:
    """One case as it stands in geometry.json."""
    from_artifact = sensor_from_artifact(case)
    from_view = sensor_from_view(case)
    return {
        "sensor": list(case.sensor),
        "rotation": case.rotation,
        "mirrored": case.mirrored,
        "artifact": list(case.artifact),
        "artifact_sees": "upright" if case.upright else "sensor",
        "artifact_scale": case.artifact_scale,
        "view": list(case.view),
        "view_scale": case.view_scale,
        "sensor_from_artifact": column_major(from_artifact),
        "sensor_from_view": column_major(from_view),
        "artifact_from_view": column_major(np.linalg.inv(from_artifact) @ from_view),
        "pixels": [walk(case, x * case.view.width, y * case.view.height) for x, y in VIEW_POINTS],
    }


def sensor_from_artifact(case: Case) -> Matrix:
    """Where in the sensor's frame each point of the artifact's input is taken from."""
    seen = case.sensor.turned(case.rotation) if case.upright else case.sensor
    turn = unturn(case.rotation) if case.upright else np.eye(4)
    return turn @ placed(seen, case.artifact, case.artifact_scale)


def sensor_from_view(case: Case) -> Matrix:
    """Where in the sensor's frame each point of the view is taken from."""
    region = shown(case).turned(0 if case.upright else case.rotation)
    upright = case.sensor.turned(case.rotation)
    inside = scaled(region.width / upright.width, region.height / upright.height)
    mirror = scaled(-1.0, 1.0) if case.mirrored else np.eye(4)
    return unturn(case.rotation) @ inside @ mirror @ placed(region, case.view, case.view_scale)


class Region(NamedTuple):
    """A part of a frame around its middle, in the frame's pixels; they need not be whole."""

    width: float
    height: float

    def turned(self, degrees: int) -> Region:
        return Region(self.height, self.width) if degrees % 180 else self


def shown(case: Case) -> Region:
    """What both the artifact and the frame hold, as the artifact sees it: the view shows this."""
    seen = case.sensor.turned(case.rotation) if case.upright else case.sensor
    scale = factor(seen, case.artifact, case.artifact_scale)
    return Region(
        min(seen.width, case.artifact.width / scale), min(seen.height, case.artifact.height / scale)
    )


def factor(inner: Size | Region, outer: Size, scale: str) -> float:
    """Pixels of `outer` for each pixel of `inner`."""
    choose = max if scale == "crop" else min
    return choose(outer.width / inner.width, outer.height / inner.height)


def placed(inner: Size | Region, outer: Size, scale: str) -> Matrix:
    """From `outer` into `inner`, which lies in its middle."""
    pixels = factor(inner, outer, scale)
    return scaled(outer.width / (pixels * inner.width), outer.height / (pixels * inner.height))


def scaled(x: float, y: float) -> Matrix:
    """Scaling about the middle of the frame."""
    return centred(np.diag([x, y, 1.0, 1.0]))


def unturn(degrees: int) -> Matrix:
    """From the upright picture back into the frame that was turned by `degrees` clockwise."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    turn = np.eye(4)
    turn[:2, :2] = [[cosine, sine], [-sine, cosine]]
    return centred(turn)


def centred(matrix: Matrix) -> Matrix:
    """The same linear map about (0.5, 0.5)."""
    there, back = np.eye(4), np.eye(4)
    there[:2, 3], back[:2, 3] = 0.5, -0.5
    return there @ matrix @ back


def column_major(matrix: Matrix) -> list[float]:
    """As OpenGL and android.opengl.Matrix hold it."""
    return [float(value) + 0.0 for value in np.round(matrix, DECIMALS).T.ravel()]


def walk(case: Case, x: float, y: float) -> dict[str, list[float]]:
    """A point of the view, in its pixels, and the points of the artifact and the sensor that it shows."""
    upright = case.sensor.turned(case.rotation)
    seen = upright if case.upright else case.sensor
    # What is shown, in pixels of the upright picture.
    pixels = (max if case.artifact_scale == "crop" else min)(
        case.artifact.width / seen.width, case.artifact.height / seen.height
    )
    width = min(seen.width, case.artifact.width / pixels)
    height = min(seen.height, case.artifact.height / pixels)
    if not case.upright and case.rotation in (90, 270):
        width, height = height, width
    on_screen = (max if case.view_scale == "crop" else min)(
        case.view.width / width, case.view.height / height
    )
    across = (x - case.view.width / 2) / on_screen
    down = (y - case.view.height / 2) / on_screen
    if case.mirrored:
        across = -across
    up_x, up_y = upright.width / 2 + across, upright.height / 2 + down
    # Turn the upright picture back, counter-clockwise.
    if case.rotation == 0:
        sensor_x, sensor_y = up_x, up_y
    elif case.rotation == 90:
        sensor_x, sensor_y = up_y, case.sensor.height - up_x
    elif case.rotation == 180:
        sensor_x, sensor_y = case.sensor.width - up_x, case.sensor.height - up_y
    else:
        sensor_x, sensor_y = case.sensor.width - up_y, up_x
    seen_x, seen_y = (up_x, up_y) if case.upright else (sensor_x, sensor_y)
    artifact_x = case.artifact.width / 2 + (seen_x - seen.width / 2) * pixels
    artifact_y = case.artifact.height / 2 + (seen_y - seen.height / 2) * pixels
    return {
        "view": [x, y],
        "artifact": [round(artifact_x, 6), round(artifact_y, 6)],
        "sensor": [round(sensor_x, 6), round(sensor_y, 6)],
    }
