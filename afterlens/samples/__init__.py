"""Pictures and a clip that come with the package: the verbs take them where the user names none; so do the tests.

Photos are frames of CC BY clips, portraits are rendered heads of nobody (SOURCE.md).
"""

from pathlib import Path

FOLDER = Path(__file__).parent

CALIBRATION = [FOLDER / "calibration" / name for name in ("room.jpg", "bottles.jpg", "visitor.jpg")]
"""Clean photos that quantized files are calibrated on."""

EVALUATION = [FOLDER / "evaluation" / name for name in ("street.jpg", "shelf.jpg", "hall.jpg")]
"""Other clean photos, which nothing is calibrated on: `verify` evaluates by them."""

DEGRADED = FOLDER / "degraded"
"""A photo for each kind of degradation, with something to remove."""

CLIP = FOLDER / "clips" / "hands.mkv"
"""Moving hands."""

FRAMES = [FOLDER / "clips" / "hands" / f"hands_{number}.jpg" for number in (45, 46, 47)]
"""Three frames in a row of ``CLIP``."""

CAPTURED = FOLDER / "captured"
"""Pairs, input/ and target/, as two cameras would take them."""

PANEL = FOLDER / "panels" / "pentile.png"
"""One period of a display's openings."""

FACES = sorted((FOLDER / "faces" / "calibration").glob("*.jpg"))
"""Rendered portraits, each with a .json beside it: what files of a task for faces are calibrated on."""

HELD_OUT_FACES = sorted((FOLDER / "faces" / "evaluation").glob("*.jpg"))
"""Portraits of other people who do not exist, which nothing is calibrated on."""
