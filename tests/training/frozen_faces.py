"""What face tasks see and are drawn from, for `frozen`: people, their portraits, beards, laid faces and the mark.

Each function gives names and what belongs to them: arrays, and tensors of any shape.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from afterlens.benchmarks.evaluation import beard_judge
from afterlens.samples import FACES, HELD_OUT_FACES
from afterlens.training.beard.losses import area_adjusted, area_ratio, over_the_face
from afterlens.training.beard.synthesis import (
    DIRECTIONS,
    BeardSamples,
    HeldOutBeards,
    beard_sample,
    gathered,
    varied,
)
from afterlens.training.beard.validation import validate
from afterlens.training.checkpoint import load_tensors
from afterlens.training.data import cached_photo, seeded
from afterlens.training.faces import beards, mark, mesh, regions
from afterlens.training.faces.align import alignment, cut, pasted, three_points
from afterlens.training.faces.beards import CLASSES
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.heads import render, wear
from afterlens.training.faces.heads.assets import Assets, read_assets
from afterlens.training.faces.heads.face_shape import write_face_shape
from afterlens.training.faces.heads.identity import sample_expression, sample_identity
from afterlens.training.faces.heads.render import Layer, Studio, toned
from afterlens.training.faces.heads.scene import Scene, sample_scene
from afterlens.training.faces.heads.swapped import face_weights, swapped
from afterlens.training.faces.heads.triplets import write_triplets
from afterlens.training.faces.heads.write import write_heads
from afterlens.training.faces.laid_beards import brow_colour, grown_on_mean_head, laid, lay_beard
from afterlens.training.faces.mark import FaceMark
from afterlens.training.faces.portraits import aligned_square, hair_of, index_portraits, read_labels
from afterlens.training.faces.shape import face_shape, fitted, nearest
from afterlens.training.media.images import read_photo
from afterlens.training.swap import identity as encoder
from afterlens.training.swap.synthesis import HeldOutSwaps, SwapSamples, index_triplets, swap_sample
from tests.training.faces.procedural import write_assets, write_base, write_fitted
from tests.training.swap.triplets import write_some

Rows = Iterator[tuple[str, Mapping[str, Any]]]

PORTRAITS = [path for path in (*FACES, *HELD_OUT_FACES) if path.stem[-2] == "_"]
"""The bundled portraits, without those that belong together as first and target."""

SIDE = 64


def filled(network: nn.Module) -> nn.Module:
    """With noise for weights: at the start of training some are zero, and what follows them has no effect."""
    generator = seeded(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            is_length = name.endswith("original0")  # of a weight norm
            weight.copy_(noise if is_length else 0.25 * noise / max(weight[0].numel(), 16) ** 0.5)
    return network


def _noise(*shape: int) -> np.ndarray:
    """[0, 1]: where every pixel differs, it matters where each is taken from."""
    return np.random.default_rng(len(shape)).random(shape, dtype=np.float32)


def _face(side: int, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return aligned_square(index_portraits(PORTRAITS)[number], side)


# --- people who do not exist ------------------------------------------------------------------------------


def _assets(folder: Path) -> Assets:
    """The procedural ones with more to choose from, every texture full of noise, and every target named by code."""
    assets, base = write_assets(folder / "assets"), write_base(folder / "base")
    skins = assets / "skins" / "textures"
    for name in ("young_lightskinned_female", "middleage_lightskinned_male", "old_lightskinned_male"):
        shutil.copy(skins / "young_lightskinned_male_diffuse.png", skins / f"{name}_diffuse.png")
    for name in ("young_darkskinned_male", "middleage_darkskinned_female"):
        skin = cv2.imread(str(skins / "old_darkskinned_female_diffuse.png"))
        cv2.imwrite(str(skins / f"{name}_diffuse.png"), cv2.resize(skin, (96, 96)))  # blended at one size
    irises = assets / "eyes" / "materials"
    for name in ("blue", "green"):
        shutil.copy(irises / "brown_eye.png", irises / f"{name}_eye.png")
    for kind, place in (("teeth", (0.0, 6.6, 1.5)), ("eyelashes", (0.31, 7.4, 1.6))):
        sheet = np.array([[-0.2, -0.06, 0], [0.2, -0.06, 0], [0.2, 0.06, 0], [-0.2, 0.06, 0]]) + place
        write_fitted(assets / kind / "plain" / "plain", sheet, [[0, 1, 2, 3]])
    for name in ("bob01", "long01"):
        shutil.copytree(assets / "hair" / "short", assets / "hair" / name)
        (assets / "hair" / name / "short.mhclo").rename(assets / "hair" / name / f"{name}.mhclo")
    for number, path in enumerate(sorted(assets.rglob("*.png"))):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        rng = np.random.default_rng(number)
        side = max(picture.shape[0], 16)
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST)
        noisy = picture + rng.normal(0.0, 15.0, picture.shape)
        if picture.shape[2] == 4:  # nearly opaque and nearly not: by chance neither comes nor goes
            noisy[..., 3] = np.where(rng.random((side, side)) < 0.7, 247, 10)
        cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8))
    targets = base / "mpfb2" / "targets"
    wide = (targets / "head" / "head-scale-horiz-incr.target.gz", "incr", "decr")
    for part, names in {
        "eyes": ("r-eye-scale", "l-eye-scale", "r-eye-height", "l-eye-height"),
        "nose": ("nose-trans-in", "nose-trans-out", "nose-width"),
        "head": ("head-angle", "head-round"),
    }.items():
        (targets / part).mkdir(exist_ok=True)
        for name in names:
            for end in wide[1:] if "trans" not in name else ("",):
                shutil.copy(wide[0], targets / part / f"{name}{end and '-'}{end}.target.gz")
    units = base / "faceunits01" / "targets" / "faceunits"
    both = "mouthSmile cheekSquint mouthFrown browDown eyeBlink eyeLookOut eyeLookIn".split()
    for name in (
        *(f"{name}{side}" for name in both for side in ("Left", "Right")),
        "browInnerUp",
        "mouthPucker",
    ):
        shutil.copy(units / "jawOpen.target", units / f"{name}.target")
    return read_assets(assets, base)


def people() -> Rows:
    """Who is drawn, what their faces do, and how they are photographed: a row a person or a photo."""
    with tempfile.TemporaryDirectory() as scratch:
        assets = _assets(Path(scratch))
    who = [sample_identity(assets, seed) for seed in range(200)]
    worn = ("hair", "eyebrows", "eyelashes", "teeth")
    yield (
        "identities",
        {
            "sex, tone, warmth, mix": [[one.sex == "male", one.tone, one.warmth, one.mix] for one in who],
            "hair": [one.hair_colour for one in who],
            "macro": [list(one.macro.values()) for one in who],
            "details": [list(one.details.values()) for one in who],
            "skins": [[assets.skins.index(skin) for skin in one.skins] for one in who],
            "iris": [assets.irises.index(one.iris) for one in who],
            "worn": [
                [len(getattr(one, name).name) if getattr(one, name) else 0 for name in worn] for one in who
            ],
        },
    )
    acting = [sample_expression(assets, np.random.default_rng(seed)) for seed in range(60)]
    yield "expressions", {name: [one.get(name, 0.0) for one in acting] for name in sorted(assets.expressions)}
    scenes = [asdict(sample_scene(np.random.default_rng(seed))) for seed in range(60)]
    yield "scenes", {name: [scene[name] for scene in scenes] for name in scenes[0]}
    for tone in range(1, 11):
        yield f"tone {tone}", {"skin": toned(_noise(32, 32, 3), tone + 0.3, 0.05 * tone)}


def heads() -> Rows:
    """Portraits, and all that is worn on them."""
    with tempfile.TemporaryDirectory() as scratch:
        studio = Studio(_assets(Path(scratch)))
        photo = cached_photo(PORTRAITS[0]).astype(np.float32) / 255.0
        yield "mean head", {"anchors": studio.anchors.on(studio.assets.base.vertices)}
        last = None
        for seed in range(10):
            rng = np.random.default_rng(seed)
            person, weights = studio.person(seed), sample_expression(studio.assets, rng)
            more: dict[str, Any] = {} if seed < 6 else {"photo": photo, "like": last, "glasses": False}
            last = studio.portrait(person, weights, sample_scene(rng), rng, side=SIDE, **more)
            yield (
                f"{seed}",
                {
                    "vertices": person.vertices,
                    "skin": person.skin,
                    "picture": last.picture,
                    "landmarks": last.landmarks / SIDE,
                    "middle": last.middle,
                    "worn": [len(last.collar), last.glasses],
                },
            )
        first, second = studio.person(0), studio.person(1)
        both = swapped(studio, first, second)
        yield "swapped", {"vertices": both.vertices, "skin": both.skin, "face": face_weights(studio)}
        garment, neck = studio.garment, first.vertices[studio.neckline]
    rngs = [np.random.default_rng(seed) for seed in range(12)]
    yield "cloth", {"": np.stack([wear.cloth(rng) for rng in rngs])}
    surfaces = {"shirt": [wear.shirt(garment, first.vertices, rng) for rng in rngs[:2]]}
    kinds: tuple[wear.Collar, ...] = ("crew", "high", "shirt")
    surfaces |= {f"collar {kind}": [wear.collar(kind, neck, rng) for rng in rngs[:3]] for kind in kinds}
    surfaces |= {"glasses": [wear.glasses(studio.assets.eyes.on(first.vertices), rng) for rng in rngs]}
    for name, some in surfaces.items():
        yield (
            name,
            {
                "vertices": np.stack([one.vertices for one in some]),
                "corners": np.stack([one.vertices[one.faces] for one in some]),
                "uv": some[0].uv,
                "texture": np.stack([one.texture for one in some]),
            },
        )
    yield "backdrops", {"plain": np.stack([wear.backdrop(None, 32, rng) for rng in rngs])}
    yield "backdrops", {"photos": np.stack([wear.backdrop(photo, 32, rng) for rng in rngs])}


def light() -> Rows:
    """What a pixel of each material looks like, and what a camera makes of it."""
    rng = np.random.default_rng(0)
    vertices, faces = (
        rng.normal(size=(60, 3)).astype(np.float32),
        rng.integers(60, size=(200, 3), dtype=np.int32),
    )
    weights = rng.dirichlet([1.0] * 3, 200).astype(np.float32)
    scene = replace(sample_scene(rng), blur=0.8, noise=0.02)
    for material in render._SHINE:
        layer = Layer(material, vertices, faces, rng.random((60, 2)), faces, _noise(8, 8, 3), _noise(9, 7))
        pixels = np.arange(200)
        parts = {"lit": render._lit(layer, vertices, pixels, weights, scene)}
        keep = render._holes(layer, 3)
        assert keep is not None
        yield material, parts | {"there": keep(pixels, weights)}
    depth = cv2.GaussianBlur(10.0 + 3.0 * _noise(128, 128), (0, 0), 2.0)
    yield "creases", {"": render._creases(depth, _noise(128, 128) < 0.9)}
    linear = 3.0 * _noise(32, 32, 3)
    yield (
        "developed",
        {"": render._developed(linear, scene, rng), "plain": render._developed(linear, Scene(), rng)},
    )
    for name, seen in (("plain", Scene()), ("turned", scene)):
        yield "framed", {name: render._framed(_noise(2, 3), seen, SIDE)}


def folders() -> Rows:
    """Portraits, triplets and the model of faces as they are written."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _assets(folder)
        assets, base = folder / "assets", folder / "base"
        written: Any = {"base": base, "side": 48, "photos": PORTRAITS[:2]}
        report = write_heads(assets, folder / "heads", people=3, each=2, first=4, **written)
        yield "report", {name: list(count.values()) for name, count in report.items() if name != "written"}
        write_triplets(assets, folder / "triplets", people=2, each=1, first=19, **written)
        for path in sorted(folder.glob("[ht]*/*.png")):
            labels = read_labels(path)
            assert labels is not None and labels.hair_colour is not None
            yield (
                path.stem,
                {
                    "picture": read_photo(path).rgb,
                    "landmarks": np.array(labels.landmarks) / 48,
                    "person": [labels.person, labels.tone, *labels.hair_colour],
                },
            )
        write_face_shape(assets, folder / "shape.safetensors", base=base, people=12)
        for name, tensor in load_tensors(folder / "shape.safetensors").items():
            yield "shape", {name: tensor.float().abs()}  # a component may as well point the other way


# --- faces in pictures ------------------------------------------------------------------------------------


def places() -> Rows:
    """Where faces are found, what is cut out, how they are explained, and where their parts lie."""
    canvas = np.zeros((420, 600, 3), np.uint8)
    canvas[10:266, 20:276] = cached_photo(PORTRAITS[0])
    canvas[200:400, 330:530] = cv2.resize(
        cached_photo(PORTRAITS[1]), (200, 200), interpolation=cv2.INTER_AREA
    )
    for number, face in enumerate(find_faces(canvas)):
        yield f"face {number}", {"box": face.box, "score": face.score, "landmarks": face.landmarks}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "canvas.png"
        cv2.imwrite(str(path), canvas[..., ::-1])
        square, landmarks = aligned_square(index_portraits([path])[0], SIDE)
    yield "aligned", {"square": square, "landmarks": landmarks / SIDE}
    _, landmarks = _face(128)
    yield "places", {"three": three_points(landmarks), "scale": regions.scale_of(landmarks)}
    parts = regions.beard_regions(landmarks, 128)
    yield (
        "regions",
        {**parts, "face": regions.face_mask(landmarks, 128), "carrier": regions.carrier(landmarks, 128)},
    )
    photo = _noise(300, 280, 3)
    for scale in (0.3, 1.5):
        into = alignment(landmarks / scale, SIDE)
        small = cut(photo, into, SIDE)
        yield f"by {scale}", {"into": into, "cut": small, "pasted": pasted(photo, small - 0.5, into)}
    other = _face(128, 2)[1]
    fit = fitted(other)
    yield "fit", {"identity": fit.identity, "expression": fit.expression, "axes": fit.pose.axes}
    yield "fit", {"scale": fit.pose.scale, "shift": fit.pose.shift}
    yield "nearest", {"": nearest(face_shape().at_rest(fit.identity), face_shape().mean)}
    points, depths = mesh.placed(landmarks, other)
    laid_on, there = mesh.lay(_noise(128, 128, 3) ** 2, landmarks, _noise(128, 128, 3), other)
    yield "laid face", {"points": points, "depths": depths, "picture": laid_on, "there": there}
    yield "skin", {"": mesh._is_skin()}


def marks() -> Rows:
    """The mark, and how far it stands out."""
    grey = torch.full((1, 3, SIDE, SIDE), 0.5)
    for share in (0.003, 0.01, 0.5):
        marked = FaceMark(SIDE, SIDE)(grey, torch.full((1, 1, SIDE, SIDE), share))
        yield f"share {share}", {"marked": 100.0 * (marked - 0.5)}
    yield "pattern", {f"{side}": mark.pattern(side=side) for side in (128, 256)}
    picture = read_photo(PORTRAITS[0]).rgb
    added = 0.5 * mark.pattern()[..., None] * mark.AMPLITUDE * mark._COLOUR
    yield "deviations", {"marked": mark.mark_deviations((picture + added).astype(np.float32))}


# --- beards -----------------------------------------------------------------------------------------------


def drawn() -> Rows:
    """Beards of each class and of any amounts, drawn and laid on, and what their picture says of light and blur."""
    picture, landmarks = _face(SIDE)
    for kind in CLASSES[1:]:
        some = [
            beards.draw_beard(picture, landmarks, kind, np.random.default_rng(seed)) for seed in range(12)
        ]
        yield (
            kind,
            {name: np.stack([getattr(one, name) for one in some]) for name in ("mask", "colour", "amounts")},
        )
    for seed, amounts in enumerate(((0.5, 0.3, 0.2), (0.9, 0.1, 0.0), (0.3, 0.7, 1.0), (0.04, 0.0, 0.0))):
        rng = np.random.default_rng(seed)
        grown = beards.grow_amounts(landmarks, SIDE, amounts, np.full(3, 0.1 + 0.2 * seed, np.float32), rng)
        yield f"{amounts}", {"coverage": grown.coverage, "tone": grown.tone, "shadow": grown.shadow}
        put_on = lay_beard(picture, landmarks, amounts)
        yield f"{amounts}", {"laid": put_on}
    own = np.array([0.3, 0.2, 0.1], np.float32)
    for name, hair in (("any", None), ("own", own)):
        rng = np.random.default_rng(0)
        yield "colours", {name: np.stack([beards._hair_colour(hair, rng) for _ in range(300)])}
    grown = laid(grown_on_mean_head("full", np.random.default_rng(0)), landmarks, SIDE)
    yield "laid beard", {"coverage": grown.coverage, "tone": grown.tone, "shadow": grown.shadow}
    noise = _noise(SIDE, SIDE, 3)
    for share in (0.01, 0.2, 1.0):
        yield f"light {share}", {"": beards._light(share * noise, landmarks, 0.3)}
    white = beards.Beard(noise[..., 0], np.ones_like(noise), (1.0, 1.0, 1.0))
    yield "noise", {"brows": brow_colour(noise, landmarks), "bright": white.over(noise)}
    yield "outside", {"brows": brow_colour(noise, landmarks + 200.0)}
    for name, seen in (("photo", picture), ("noise", cv2.GaussianBlur(noise, (0, 0), 1.2))):
        mask = seen[..., 0] ** 2
        yield (
            name,
            {
                "blur": beards.edge_blur(seen),
                "grain": 100.0 * beards.noise_level(seen),
                "area": beards.area_ratio(mask, landmarks),
            },
        )


class _Shaves(nn.Module):
    """Half of the image, half of what is laid, and their difference as the mask."""

    def forward(
        self, image: torch.Tensor, wanted: torch.Tensor, laid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        difference = (laid - image).abs().mean(dim=1, keepdim=True) + wanted.mean() * 0.1
        return 0.9 * image + 0.1 * laid, (4.0 * difference).clamp(0.0, 1.0)


def bearded() -> Rows:
    """Samples of the beard task, their losses, and a validation."""
    records = gathered(index_portraits(PORTRAITS), (0.2,) * len(CLASSES))
    for number, record in enumerate(records):
        direction = DIRECTIONS[number % 3]
        sample = beard_sample(record, direction, SIDE, seeded(number), hair_of(record.photo))
        yield f"{number} {direction}", varied(sample, seeded(number))
    photographed = [replace(records[-1], captured=True)]
    training = BeardSamples([*records, *photographed], (0.2,) * 5, (0.4, 0.4, 0.2), SIDE, 4, 3)
    yield "training", default_collate([training[index] for index in range(24)])
    held_out = HeldOutBeards(records, SIDE)
    batch = default_collate([held_out[index] for index in range(len(records))])
    yield "held out", batch
    found = validate(None, _Shaves(), [batch])
    yield "validation", {name: value for name, value in found.metrics.items() if value is not None}
    assert found.pictures is not None
    yield "validation", {"pictures": found.pictures}
    error = (batch["image"] - batch["target"]).abs() + 0.1 * batch["full"]
    parts = (error, batch["beard"], batch["face"])
    yield (
        "losses",
        {"area": area_adjusted(*parts), "plain": over_the_face(*parts), "ratio": area_ratio(*parts[1:])},
    )


# --- identities -------------------------------------------------------------------------------------------


def identities() -> Rows:
    """Samples of the identity swap, and what the encoder of identities sees and computes."""
    with tempfile.TemporaryDirectory() as scratch:
        photos = sorted(write_some(Path(scratch), 3).glob("*.png"))
        records = index_triplets(photos)
        samples = [swap_sample(records[seed % 3], SIDE, seeded(seed), varied=True) for seed in range(24)]
        yield "varied", default_collate(samples)
        yield "held out", default_collate([HeldOutSwaps(records, 300)[index] for index in range(2)])
        without = SwapSamples(records, SIDE, seed=1, triplets=False)
        yield "without triplets", default_collate([without[index] for index in range(8)])
        pictures, people, circles = encoder._read(photos)
    yield "read", {"pictures": pictures / 255.0, "people": people, "circles": circles}
    network = filled(encoder.IdentityEncoder()).eval()
    seen = encoder._varied(pictures.repeat(3, 1, 1, 1), seeded(0))
    with torch.no_grad():
        yield (
            "encoder",
            {
                "seen": seen,
                "vectors": network(seen),
                "recognised": list(encoder.recognised(network, pictures, people).values()),
            },
        )


def judged() -> Rows:
    """What the judge of beards sees and computes."""
    records = index_portraits(PORTRAITS)
    pictures, labels = beard_judge.drawn(records[:2], 7, seed=1)
    seen = beard_judge.varied(pictures.repeat(4, 1, 1, 1), np.random.default_rng(0))
    network = filled(beard_judge.BeardJudge()).eval()
    with torch.no_grad():
        yield (
            "judge",
            {
                "drawn": pictures / 255.0,
                "labels": labels,
                "seen": seen,
                "logits": network(beard_judge.seen(seen)),
            },
        )


GROUPS = {
    "people": people,
    "heads": heads,
    "light": light,
    "folders": folders,
    "places": places,
    "marks": marks,
    "drawn": drawn,
    "bearded": bearded,
    "identities": identities,
    "judged": judged,
}
