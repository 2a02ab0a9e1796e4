"""Draws a head as a photo of it: an aligned square with its exact landmarks.

studio = Studio(read_assets(Path("heads")))
portrait = studio.portrait(studio.person(7), expression={}, scene=Scene(), rng=np.random.default_rng(0))
portrait.picture, portrait.landmarks
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator

from afterlens.training.faces.align import SIDE, alignment
from afterlens.training.faces.detect import landmarks_in
from afterlens.training.faces.heads.assets import Assets, Wearable, read_texture
from afterlens.training.faces.heads.identity import TONES, Identity, expressed, sample_identity, shaped
from afterlens.training.faces.heads.meshes import Floats, Ints, vertex_normals
from afterlens.training.faces.heads.raster import Keep, ZBuffer, sample_texture
from afterlens.training.faces.heads.scene import Scene, projected
from afterlens.training.faces.heads.wear import Collar, Surface, backdrop, collar, glasses, neckline, shirt

Material = Literal["skin", "eye", "teeth", "hair", "cloth", "frame"]

GAMMA = 2.2
_SAMPLES = 2  # a pixel's side, for smooth edges
_STEP = 0.3  # decimetres within two pixels: no skin is as steep
_LOWEST = 4.9  # decimetres; what lies below is never seen in a portrait
_SHINE: dict[Material, tuple[float, float]] = {  # exponent and strength of the highlight
    "skin": (22.0, 0.16),
    "eye": (120.0, 0.9),
    "teeth": (60.0, 0.3),
    "hair": (30.0, 0.08),
    "cloth": (8.0, 0.02),
    "frame": (60.0, 0.5),
}


@dataclass(frozen=True)
class Layer:
    """One mesh as it is drawn; ``alpha`` is where its texture is there at all, None: everywhere."""

    material: Material
    vertices: Floats
    faces: Ints
    uv: Floats
    uv_faces: Ints
    texture: Floats  # (H, W, 3), sRGB
    alpha: Floats | None = None


@dataclass(frozen=True)
class Person:
    """An identity with its shape and its skin, ready to be drawn."""

    identity: Identity
    vertices: Floats
    skin: Floats  # (H, W, 3), sRGB


@dataclass(frozen=True)
class Portrait:
    """A photo of a head.

    Attributes:
        picture: ``(side, side, 3)`` RGB [0, 1].
        landmarks: ``(468, 2)``, pixels; exact, hidden ones included.
        into: ``(2, 3)``, from the camera's plane to pixels.
        middle: ``(3,)``, of the head, around which it turns and at which the camera looks.
        collar: what is around the neck.
        glasses: whether glasses are worn.
    """

    picture: Floats
    landmarks: Floats
    into: Floats
    middle: Floats
    collar: Collar
    glasses: bool


@dataclass(frozen=True)
class Anchors:
    """Where the landmarks lie on the base mesh: three vertices each, ``(468, 3)``, and their weights."""

    vertices: Ints
    weights: Floats

    def on(self, vertices: Floats) -> Floats:
        """The landmarks ``(468, 3)`` on base vertices ``(V, 3)``."""
        placed: Floats = (vertices[self.vertices] * self.weights[:, :, None]).sum(axis=1)
        return placed


class Studio:
    """Draws the people of some assets. Opening it finds the landmarks on the base mesh, which takes a second or two."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        base = assets.base
        height = base.vertices[base.faces][:, :, 1].min(axis=1)
        self.skin = base.part((base.groups == "body") & (height > _LOWEST))
        self.garment = base.part(np.char.startswith(base.groups, "helper-tights"))
        self.neckline = neckline(self.garment)
        self.anchors = self._anchors()

    def person(self, seed: int) -> Person:
        """The person of a seed."""
        identity = sample_identity(self.assets, seed)
        first, second = (read_texture(path)[..., :3] for path in identity.skins)
        if first.shape != second.shape:
            second = cv2.resize(second, first.shape[1::-1], interpolation=cv2.INTER_AREA)
        blend = first * (1.0 - identity.mix) + second * identity.mix
        return Person(identity, shaped(self.assets, identity), toned(blend, identity.tone, identity.warmth))

    def portrait(
        self,
        person: Person,
        expression: Mapping[str, float],
        scene: Scene,
        rng: Generator,
        side: int = SIDE,
        photo: Floats | None = None,
        like: Portrait | None = None,
        glasses: bool = True,
    ) -> Portrait:
        """A photo of a person.

        Args:
            expression: weights by name (`sample_expression`).
            scene: pose, camera, light; its ``scale`` of 0.5 shows twice as much as the aligned square.
            rng: chooses clothes, glasses and backdrop.
            side: of the picture, pixels.
            photo: ``(H, W, 3)`` sRGB [0, 1] to stand before; None: blurred patches.
            like: another portrait, to take both from the same place; None: this face is aligned.
            glasses: whether some may be worn.
        """
        vertices = expressed(self.assets, person.vertices, expression)
        layers = self._body(person, vertices)
        kind, has_glasses = self._dress(layers, vertices, rng, glasses)
        # Eyes that lie higher on the same head must not lower the head.
        middle = self._middle(vertices) if like is None else like.middle
        landmarks = projected(self.anchors.on(vertices), middle, scene)[0]
        into = _framed(alignment(landmarks, side), scene, side) if like is None else like.into
        image, covered = _drawn(layers, middle, scene, into, side)
        behind = backdrop(photo, side * _SAMPLES, rng) ** GAMMA
        image = np.where(covered[..., None], image, behind)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        placed = landmarks @ into[:, :2].T + into[:, 2]
        picture = _developed(image, scene, rng)
        return Portrait(picture, placed.astype(np.float32), into, middle, kind, has_glasses)

    def _middle(self, vertices: Floats) -> Floats:
        """About the middle of the head: behind and a little below the eyes."""
        middle: Floats = self.assets.eyes.on(vertices).mean(axis=0) + np.array([0.0, -0.3, -0.6], np.float32)
        return middle

    def _body(self, person: Person, vertices: Floats) -> list[Layer]:
        """Skin, eyes, teeth, brows, lashes and hair."""
        identity, eyes = person.identity, self.assets.eyes
        skin, globe = self.skin, eyes.mesh
        iris = 0.62 * read_texture(identity.iris)[..., :3]  # the lids' shadow
        layers = [
            Layer("skin", vertices, skin.faces, skin.uv, skin.uv_faces, person.skin),
            Layer("eye", eyes.on(vertices), globe.faces, globe.uv, globe.uv_faces, iris),
        ]
        if identity.teeth is not None:
            layers.append(_worn("teeth", identity.teeth, vertices, None))
        if identity.eyebrows is not None:
            layers.append(_worn("hair", identity.eyebrows, vertices, identity.hair_colour))
        if identity.eyelashes is not None:
            layers.append(_worn("hair", identity.eyelashes, vertices, np.full(3, 0.03, np.float32)))
        if identity.hair is not None:
            layers.append(_worn("hair", identity.hair, vertices, identity.hair_colour))
        return layers

    def _dress(
        self, layers: list[Layer], vertices: Floats, rng: Generator, glasses_allowed: bool
    ) -> tuple[Collar, bool]:
        """Adds clothes and perhaps glasses to the layers."""
        kinds: tuple[Collar, ...] = ("none", "crew", "high", "shirt")
        kind = kinds[rng.choice(4, p=[0.1, 0.35, 0.15, 0.4])]
        if kind != "none" and len(self.neckline):
            layers.append(_plain("cloth", shirt(self.garment, vertices, rng)))
            layers.append(_plain("cloth", collar(kind, vertices[self.neckline], rng)))
        has_glasses = glasses_allowed and bool(rng.random() < 0.2)
        if has_glasses:
            layers.append(_plain("frame", glasses(self.assets.eyes.on(vertices), rng)))
        return kind, has_glasses

    def _anchors(self) -> Anchors:
        """Where Face Mesh sees its landmarks on a frontal picture of the mean head without hair."""
        seeds = ("caucasian", "african", "asian")
        macro = {
            f"{name}-{sex}-{age}": 1 / 12
            for name in seeds
            for sex in ("male", "female")
            for age in ("young", "old")
        }
        for sex in ("male", "female"):
            for age in ("young", "old"):
                macro[f"universal-{sex}-{age}-averagemuscle-averageweight"] = 0.25
        skins = [path for path in self.assets.skins if "light" in path.stem] or list(self.assets.skins)
        mean = Identity(
            0, "male", 4.0, 0.0, macro, {}, (skins[0], skins[0]), 0.0, self.assets.irises[0], None,
            self.assets.eyebrows[0] if self.assets.eyebrows else None, None, None, np.full(3, 0.1, np.float32),
        )  # fmt: skip
        skin = toned(read_texture(skins[0])[..., :3], mean.tone)
        vertices, scene, side = shaped(self.assets, mean), Scene(distance=20.0), SIDE
        eyes, middle = self.assets.eyes.on(vertices), self._middle(vertices)
        apart = float(eyes[eyes[:, 0] > 0][:, 0].mean() - eyes[eyes[:, 0] < 0][:, 0].mean())
        scale = 0.28 * side * scene.distance / apart
        into = np.array([[scale, 0.0, side / 2], [0.0, scale, 0.0]], np.float32)
        level = float(projected(eyes.mean(axis=0, keepdims=True), middle, scene)[0][0, 1])
        into[1, 2] = 0.38 * side - scale * level
        layers = self._body(Person(mean, vertices, skin), vertices)
        image, covered = _drawn(layers, middle, scene, into, side)
        image = np.where(covered[..., None], image, 0.2)
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        picture = np.rint(_developed(small, scene, np.random.default_rng(0)) * 255.0).astype(np.uint8)
        _, found = landmarks_in(picture, (side / 2, side * 0.52), side * 0.98)
        return self._nearest(found, vertices, middle, scene, into, side)

    def _nearest(
        self, found: Floats, vertices: Floats, middle: Floats, scene: Scene, into: Floats, side: int
    ) -> Anchors:
        """The skin's triangles under points of a picture; beside the head, the nearest ones."""
        points, depths, _ = projected(vertices, middle, scene)
        buffer = ZBuffer(side)
        # Closed: through an open eye one would see the inside of the skull.
        buffer.draw(points @ into[:, :2].T + into[:, 2], depths, self.skin.faces, closed=True)
        # Each pixel's number of the nearest pixel that shows skin: itself, but beside the head.
        depth = np.where(buffer.layer < 0, 1e3, buffer.depth).astype(np.float32)
        inside = depth - cv2.erode(depth, np.ones((5, 5), np.uint8)) > _STEP  # seen between the lips
        bare = ((buffer.layer < 0) | inside).astype(np.uint8)
        _, nearest = cv2.distanceTransformWithLabels(bare, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        rows, columns = np.nonzero(bare == 0)
        order = np.empty(len(rows) + 1, np.int64)
        order[nearest[rows, columns]] = np.arange(len(rows))
        x, y = np.floor(found).astype(np.int64).clip(0, side - 1).T
        pixel = order[nearest[y, x]]
        row, column = rows[pixel], columns[pixel]
        return Anchors(self.skin.faces[buffer.triangle[row, column]], buffer.weights[row, column])


def toned(skin: Floats, tone: float, warmth: float = 0.0) -> Floats:
    """A skin texture ``(H, W, 3)`` brought to a tone of the Monk scale, 1 to 10, by one factor a channel.

    The middle of the texture's brighter half stands for its own tone: the rest is lips, brows and seams.
    """
    low = min(int(tone), len(TONES) - 1)
    wanted = TONES[low - 1] + (tone - low) * (TONES[low] - TONES[low - 1])
    linear = (wanted / 255.0) ** GAMMA
    linear = linear * np.exp(warmth * np.array([0.6, -0.6, -1.6]))
    linear *= 0.52 + 0.02 / linear.mean()  # the scale shows lit skin; no skin is as dark as that in the shade
    albedo = skin**GAMMA
    pixels = albedo[::8, ::8].reshape(-1, 3)
    brightness = pixels.mean(axis=1)
    own = np.median(pixels[brightness >= np.median(brightness)], axis=0)
    toned_skin: Floats = ((albedo * (linear / np.maximum(own, 1e-3))).clip(0.0, 1.0) ** (1 / GAMMA)).astype(
        np.float32
    )
    return toned_skin


@lru_cache(maxsize=32)
def _brightness(texture: Path) -> Floats:
    """A texture's brightness over its own mean where it is opaque, ``(H, W, 1)``."""
    rgba = read_texture(texture)
    grey = rgba[..., :3].mean(axis=2, keepdims=True)
    brightness: Floats = grey / max(
        1e-3, float((grey[..., 0] * rgba[..., 3]).sum() / max(rgba[..., 3].sum(), 1e-3))
    )
    return brightness


def _worn(material: Material, wearable: Wearable, base: Floats, colour: Floats | None) -> Layer:
    """A wearable in its own colours, or with its brightness in another colour."""
    rgba, mesh = read_texture(wearable.texture), wearable.fitted.mesh
    texture = rgba[..., :3] if colour is None else (_brightness(wearable.texture) * colour).clip(0.0, 1.0)
    return Layer(
        material,
        wearable.fitted.on(base),
        mesh.faces,
        mesh.uv,
        mesh.uv_faces,
        texture.astype(np.float32),
        rgba[..., 3],
    )


def _plain(material: Material, surface: Surface) -> Layer:
    return Layer(material, surface.vertices, surface.faces, surface.uv, surface.faces, surface.texture)


def _framed(into: Floats, scene: Scene, side: int) -> Floats:
    """The alignment, turned, scaled and shifted about the square's middle as the scene has it."""
    cosine, sine = scene.scale * math.cos(scene.turn), scene.scale * math.sin(scene.turn)
    turn = np.array([[cosine, -sine], [sine, cosine]], np.float32)
    shift = np.array(scene.shift, np.float32) * (side / SIDE) + side / 2
    return np.column_stack([turn @ into[:, :2], turn @ (into[:, 2] - side / 2) + shift]).astype(np.float32)


def _drawn(
    layers: list[Layer], middle: Floats, scene: Scene, into: Floats, side: int
) -> tuple[Floats, Floats]:
    """Linear light ``(S, S, 3)`` and where something was drawn ``(S, S)``, S = 2 x ``side``."""
    buffer = ZBuffer(side * _SAMPLES)
    turned: list[Floats] = []
    for number, layer in enumerate(layers):
        points, distances, vertices = projected(layer.vertices, middle, scene)
        turned.append(vertices)
        placed = (points @ into[:, :2].T + into[:, 2]) * _SAMPLES
        closed = layer.material in ("skin", "eye", "teeth")
        buffer.draw(placed.astype(np.float32), distances, layer.faces, _holes(layer, number), closed)
    image = np.zeros((side * _SAMPLES, side * _SAMPLES, 3), np.float32)
    for number, (layer, vertices) in enumerate(zip(layers, turned, strict=True)):
        there = buffer.layer == number
        if there.any():
            image[there] = _lit(layer, vertices, buffer.triangle[there], buffer.weights[there], scene)
    covered = buffer.layer >= 0
    return image * _creases(buffer.depth, covered)[..., None], covered


def _holes(layer: Layer, number: int) -> Keep | None:
    """Stochastic transparency: a pixel is there with the probability of its alpha."""
    alpha = layer.alpha
    if alpha is None:
        return None
    rng = np.random.default_rng(number)

    def keep(triangles: Ints, weights: Floats) -> Floats:
        uv = (layer.uv[layer.uv_faces[triangles]] * weights[:, :, None]).sum(axis=1)
        height, width = alpha.shape
        column = ((uv[:, 0] % 1.0) * width).astype(np.int64).clip(0, width - 1)
        row = ((1.0 - uv[:, 1] % 1.0) * height).astype(np.int64).clip(0, height - 1)
        there: Floats = alpha[row, column] >= rng.uniform(0.05, 0.95, len(uv))
        return there

    return keep


def _lit(layer: Layer, vertices: Floats, triangles: Ints, weights: Floats, scene: Scene) -> Floats:
    """Linear light ``(N, 3)`` of pixels of a layer: wrapped diffuse key light, light from all around, a highlight."""
    corners = weights[:, :, None]
    albedo = (
        sample_texture(layer.texture, (layer.uv[layer.uv_faces[triangles]] * corners).sum(axis=1)) ** GAMMA
    )
    normal = (vertex_normals(vertices, layer.faces)[layer.faces[triangles]] * corners).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    if layer.material in ("hair", "cloth", "frame"):  # sheets are seen from both sides
        normal *= np.where(normal[:, 2:] < 0.0, -1.0, 1.0).astype(np.float32)
    key = np.array(scene.key, np.float32)
    light = np.array([1.0 + scene.warmth, 1.0, 1.0 - scene.warmth], np.float32) * scene.brightness
    # Light that entered the skin comes out beside it: red light reaches furthest into the shadow.
    wrap = np.array([0.45, 0.22, 0.15] if layer.material == "skin" else [0.2, 0.2, 0.2], np.float32)
    diffuse = ((normal @ key)[:, None] + wrap).clip(0.0, None) / (1.0 + wrap)
    fill = np.array([-key[0], 0.2, 0.6], np.float32)
    fill /= np.linalg.norm(fill)
    ambient = scene.ambient * (0.55 + 0.45 * normal[:, 1:2]) * np.array([0.97, 1.0, 1.05], np.float32)
    ambient = ambient + 0.25 * (normal @ fill).clip(0.0, 1.0)[:, None]
    if layer.material == "teeth":  # in the shadow of the lips
        diffuse, ambient = 0.3 * diffuse, 0.35 * ambient
    half = key + np.array([0.0, 0.0, 1.0], np.float32)
    half /= np.linalg.norm(half)
    exponent, strength = _SHINE[layer.material]
    shine = strength * (normal @ half).clip(0.0, 1.0) ** exponent
    if layer.material == "skin":
        shine *= 0.25 + 0.75 * (1.0 - normal[:, 2].clip(0.0, 1.0)) ** 3
    lit: Floats = albedo * (diffuse * light * 1.15 + ambient) + shine[:, None] * light
    return lit


def _creases(depth: Floats, covered: Floats) -> Floats:
    """What light is left where neighbours are nearer to the camera: folds, under the chin, behind hair."""
    side = depth.shape[0]
    filled = np.where(covered, depth, depth[covered].max() if covered.any() else 1.0).astype(np.float32)
    left = np.ones_like(filled)
    for radius, strength in ((side // 64, 2.2), (side // 20, 1.2)):
        nearer = filled - cv2.blur(filled, (2 * radius + 1, 2 * radius + 1))
        left -= (nearer * strength).clip(0.0, 0.35)
    return left.clip(0.25, 1.0)


def _developed(linear: Floats, scene: Scene, rng: Generator) -> Floats:
    """Linear light -> sRGB [0, 1], with the camera's blur and noise."""
    if scene.blur > 0.0:
        linear = cv2.GaussianBlur(linear, (0, 0), scene.blur)
    bright = linear * scene.exposure
    picture = (bright / (1.0 + 0.18 * bright) * 1.15).clip(0.0, 1.0) ** (1.0 / GAMMA)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + (picture - grey) * scene.saturation
    if scene.noise > 0.0:
        picture = picture + rng.normal(0.0, scene.noise, picture.shape)
    return picture.clip(0.0, 1.0).astype(np.float32)
