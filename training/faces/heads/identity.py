"""Who a head is: shape, skin, eyes, hair, drawn from a seed; and what it does with its face.

identity = sample_identity(assets, seed=7)
vertices = expressed(assets, shaped(assets, identity), sample_expression(assets, generator))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator

from afterlens.training.faces.heads.assets import Assets, Wearable
from afterlens.training.faces.heads.meshes import Floats, read_target

TONES = np.array(
    [
        [246, 237, 228],
        [243, 231, 219],
        [247, 234, 208],
        [234, 218, 186],
        [215, 189, 150],
        [160, 126, 86],
        [130, 92, 67],
        [96, 65, 52],
        [58, 49, 42],
        [41, 36, 32],
    ],
    np.float32,
)
"""The Monk Skin Tone scale (Monk 2019), sRGB, from 1 to 10."""

HAIR = np.array(
    [
        [0.04, 0.03, 0.025],
        [0.09, 0.06, 0.04],
        [0.17, 0.11, 0.07],
        [0.30, 0.20, 0.12],
        [0.45, 0.31, 0.17],
        [0.33, 0.14, 0.06],
        [0.42, 0.40, 0.39],
        [0.70, 0.69, 0.67],
    ],
    np.float32,
)
"""Hair colours, sRGB [0, 1]: black, three browns, blond, red, grey, white."""

_FOR_LIGHT = np.array([0.16, 0.18, 0.18, 0.14, 0.11, 0.07, 0.10, 0.06])
_FOR_DARK = np.array([0.52, 0.24, 0.06, 0.02, 0.01, 0.01, 0.09, 0.05])
_LONG = ("bob", "long", "ponytail", "braid")

Sex = Literal["female", "male"]


@dataclass(frozen=True)
class Identity:
    """One person who does not exist.

    Attributes:
        seed: it was drawn from.
        sex: of the skin and of the hair; the shape lies near it.
        tone: 1 to 10 on the Monk scale, any number between.
        warmth: of the skin; above zero it is redder than the scale's, which is for labelling and pale.
        macro, details: weights of the axes of shape.
        skins: two textures, mixed by ``mix``.
        hair_colour: sRGB [0, 1], ``(3,)``.
    """

    seed: int
    sex: Sex
    tone: float
    warmth: float
    macro: dict[str, float]
    details: dict[str, float]
    skins: tuple[Path, Path]
    mix: float
    iris: Path
    hair: Wearable | None
    eyebrows: Wearable | None
    eyelashes: Wearable | None
    teeth: Wearable | None
    hair_colour: Floats


def sample_identity(assets: Assets, seed: int) -> Identity:
    """The person of a seed. Sexes and skin tones are equally frequent."""
    rng = np.random.default_rng([seed, 1])
    sex: Sex = "male" if rng.random() < 0.5 else "female"
    tone = rng.uniform(1.0, 10.0)
    male = float(np.clip((sex == "male") + rng.normal(0.0, 0.12), 0.0, 1.0))
    old, weight = rng.beta(1.2, 1.6), float(np.clip(rng.normal(0.5, 0.25), 0.0, 1.0))
    skins = _skins(assets, sex, tone, old)
    dark = (tone - 1.0) / 9.0
    share = _FOR_LIGHT * (1.0 - dark) + _FOR_DARK * dark
    colour = HAIR[rng.choice(len(HAIR), p=share / share.sum())] * np.exp(rng.normal(0.0, 0.15))
    styles = [style for style in assets.hair if sex == "female" or not style.name.startswith(_LONG)]
    bald = rng.random() < (0.15 if sex == "male" else 0.03)
    return Identity(
        seed=seed,
        sex=sex,
        tone=tone,
        warmth=rng.normal(0.08, 0.04),
        macro=_macro(rng.dirichlet([0.6] * 3), male, old, weight),
        details=_details(assets, rng),
        skins=(skins[rng.integers(len(skins))], skins[rng.integers(len(skins))]),
        mix=rng.uniform(0.0, 0.5),
        iris=_iris(assets, rng, dark),
        hair=None if bald else _one(rng, styles),
        eyebrows=_one(rng, assets.eyebrows),
        eyelashes=_one(rng, assets.eyelashes),
        teeth=_one(rng, assets.teeth),
        hair_colour=np.clip(colour, 0.02, 0.9).astype(np.float32),
    )


def _iris(assets: Assets, rng: Generator, dark: float) -> Path:
    """Of dark skin nearly always a brown one."""
    brown = [path for path in assets.irises if "brown" in path.stem]
    chosen = brown if brown and rng.random() < 0.4 + 0.58 * dark else assets.irises
    return chosen[rng.integers(len(chosen))]


def _one(rng: Generator, things: list[Wearable] | tuple[Wearable, ...]) -> Wearable | None:
    return things[rng.integers(len(things))] if things else None


def _skins(assets: Assets, sex: Sex, tone: float, old: float) -> list[Path]:
    """The textures nearest to what is wanted: the shade comes first, then the sex, then the age."""
    shade = "dark" if tone > 5.5 else "light"
    age = "old" if old > 0.65 else "middleage" if old > 0.35 else "young"
    chosen = list(assets.skins)
    for word in (shade, f"_{sex}", age):
        chosen = [path for path in chosen if word in path.stem] or chosen
    return chosen


def _macro(descent: Floats, male: float, old: float, weight: float) -> dict[str, float]:
    sexes, ages = {"male": male, "female": 1.0 - male}, {"young": 1.0 - old, "old": old}
    weights = {
        "minweight": max(0.0, 0.5 - weight) * 2.0,
        "averageweight": 1.0 - abs(weight - 0.5) * 2.0,
        "maxweight": max(0.0, weight - 0.5) * 2.0,
    }
    macro: dict[str, float] = {}
    for sex, s in sexes.items():
        for age, a in ages.items():
            for name, share in zip(("caucasian", "african", "asian"), descent, strict=True):
                macro[f"{name}-{sex}-{age}"] = float(share) * s * a
            for name, share in weights.items():
                macro[f"universal-{sex}-{age}-averagemuscle-{name}"] = share * s * a
    return macro


def _details(assets: Assets, rng: Generator) -> dict[str, float]:
    """Weights of the finer axes; left and right share theirs but for a little."""
    details: dict[str, float] = {}
    for axis in assets.axes:
        if "trans-in" in axis.name or "trans-out" in axis.name or "head-angle" in axis.name:
            continue  # off the middle line
        twin = axis.name.replace("/r-", "/l-")
        if twin != axis.name and twin in details:
            value = details[twin] + rng.normal(0.0, 0.05)
        else:
            value = rng.normal(0.0, 0.24 if "scale" in axis.name or axis.name.startswith("head/") else 0.30)
        details[axis.name] = float(np.clip(value if axis.less else abs(value) * 0.8, -0.9, 0.9))
    return details


def _moved(vertices: Floats, path: Path, weight: float) -> None:
    moved, by = read_target(path)
    vertices[moved] += np.float32(weight) * by


def shaped(assets: Assets, identity: Identity) -> Floats:
    """The vertices ``(V, 3)`` of a face at rest."""
    vertices = assets.base.vertices.copy()
    for name, weight in identity.macro.items():
        if weight > 1e-4 and name in assets.macro:
            _moved(vertices, assets.macro[name], weight)
    for axis in assets.axes:
        weight = identity.details.get(axis.name, 0.0)
        if weight > 0.0:
            _moved(vertices, axis.more, weight)
        elif weight < 0.0 and axis.less is not None:
            _moved(vertices, axis.less, -weight)
    return vertices


def sample_expression(assets: Assets, rng: Generator) -> dict[str, float]:
    """Weights of the expressions that the assets have, by name; the eyes look aside together."""

    def both(name: str, weight: float) -> dict[str, float]:
        return {f"{name}Left": weight, f"{name}Right": weight}

    kind = rng.integers(6)
    wanted: dict[str, float] = {}
    if kind == 1:
        wanted |= both("mouthSmile", rng.uniform(0.2, 0.9)) | both("cheekSquint", rng.uniform(0.0, 0.5))
    elif kind == 2:
        wanted |= {"jawOpen": rng.uniform(0.1, 0.5)} | both("mouthSmile", rng.uniform(0.0, 0.6))
    elif kind == 3:
        wanted |= both("mouthFrown", rng.uniform(0.2, 0.8)) | both("browDown", rng.uniform(0.0, 0.8))
    elif kind == 4:
        wanted |= {"browInnerUp": rng.uniform(0.2, 0.9), "jawOpen": rng.uniform(0.0, 0.3)}
    elif kind == 5:
        wanted |= {"mouthPucker": rng.uniform(0.1, 0.6)}
    if rng.random() < 0.25:
        wanted |= both("eyeBlink", rng.uniform(0.0, 0.4))
    aside = rng.uniform(-0.4, 0.4)
    wanted["eyeLookOutLeft" if aside > 0 else "eyeLookInLeft"] = abs(aside)
    wanted["eyeLookInRight" if aside > 0 else "eyeLookOutRight"] = abs(aside)
    return {name: weight for name, weight in wanted.items() if name in assets.expressions}


def expressed(assets: Assets, vertices: Floats, weights: Mapping[str, float]) -> Floats:
    """``vertices`` with an expression: weights in [0, 1] by name."""
    vertices = vertices.copy()
    for name, weight in weights.items():
        _moved(vertices, assets.expressions[name], weight)
    return vertices
