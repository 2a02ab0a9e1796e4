"""Draw the pictures of the documentation from the bundled weights, a run's metrics and the measured tables.

    python docs/figures.py photos
    python docs/figures.py curve runs/reflection/metrics.csv
    python docs/figures.py strength targets.json         # of benchmarks.ablations.reflection_targets
    python docs/figures.py variants docs/quantization.md
    python docs/figures.py heads makehuman/              # and --base as for `afterlens heads`
    python docs/figures.py faces
    python docs/figures.py swaps

photos: docs/before_after.jpg (the photos of afterlens/samples/degraded), docs/under_display.jpg (a photo through a
display, by the live and the still network), docs/deblurred.jpg (frames with known motion, and a real clip), docs/psf.jpg
(a panel and its point-spread function). curve: docs/curve.png, mean PSNR on the held-out photos; several metrics files
are drawn one after the other. strength: docs/strength.png, harm against gain. variants: docs/variants.png, what each variant
loses beside its size and its time, from the tables of a page. heads: docs/heads.jpg, people who do not exist, and
docs/beards.jpg, what is drawn on their faces.
faces: docs/faces.jpg, beards removed and put on.
swaps: docs/swaps.jpg, an identity swapped in.
"""

import csv
import json
import re
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from afterlens.conversion.report.pareto import COLOURS, MARKERS, label_points
from afterlens.conversion.restore.photo import by_torch
from afterlens.samples import EVALUATION, FACES, HELD_OUT_FACES
from afterlens.training.data import as_picture, seeded
from afterlens.training.faces.beards import AMOUNTS, CLASSES, draw_beard
from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.identity import sample_expression
from afterlens.training.faces.heads.render import Studio
from afterlens.training.faces.heads.scene import sample_scene
from afterlens.training.faces.laid_beards import lay_beard
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import read_labels
from afterlens.training.media.images import read_photo
from afterlens.training.metrics import psnr
from afterlens.training.swap.enrolled import read_identity
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network
from afterlens.training.udc.psf import Optics, simulate

DOCS = Path(__file__).parent
SAMPLES = DOCS.parent / "afterlens" / "samples"
KINDS = ("reflection", "shadow", "stain", "occlusion")  # of degraded/, all made from calibration/room.jpg
JPEG = {"quality": 88}


def before_after(out: Path) -> None:
    """One row a photo of afterlens/samples/degraded, with the PSNR against the clean photo."""
    task = find_task("reflection")
    restorer = task.restorer(load_network(task, task.pretrained)[0])
    figure, axes = plt.subplots(len(KINDS), 4, figsize=(14, 2.05 * len(KINDS)), layout="constrained")
    for row, name in zip(axes, KINDS, strict=True):
        degraded, ground_truth = _photo(f"degraded/{name}.jpg"), _photo("calibration/room.jpg")
        with torch.no_grad():
            restored, layer = restorer(degraded)
        titles = (
            f"{name}: input, {psnr(degraded, ground_truth):.1f} dB",
            f"restored, {psnr(restored, ground_truth):.1f} dB",
            "removed layer",
            "ground truth",
        )
        for axis, picture, title in zip(row, (degraded, restored, layer, ground_truth), titles, strict=True):
            axis.imshow(_pixels(picture))
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.savefig(out, dpi=100, pil_kwargs=JPEG)


def under_display(out: Path) -> None:
    """The photo through a display, and a detail of it, by both networks."""
    task = find_task("udc")
    degraded, ground_truth = _photo("degraded/udc.jpg"), _photo("calibration/room.jpg")
    pictures = {f"through the display, {psnr(degraded, ground_truth):.1f} dB": degraded}
    for size in ("live", "still"):
        network = load_network(task, task.pretrained.with_stem(f"udc_{size}"))[0]
        with torch.no_grad():
            (restored,) = task.restorer(network)(degraded)
        pictures[f"{size} network, {psnr(restored, ground_truth):.1f} dB"] = restored
    pictures["ground truth"] = ground_truth
    figure, axes = plt.subplots(2, 4, figsize=(14, 4.6), layout="constrained")
    for column, (title, picture) in zip(axes.T, pictures.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        column[0].imshow(_pixels(picture))
        column[1].imshow(_pixels(picture[..., 60:204, 360:616]), interpolation="nearest")
        for axis in column:
            axis.axis("off")
    figure.savefig(out, dpi=100, pil_kwargs=JPEG)


def deblurred(out: Path) -> None:
    """A row for each kind of motion, frames of test clips blurred with known motion; below, hands that really moved."""
    task = find_task("deblur")
    network = load_network(task, task.pretrained)[0]
    restorer = task.restorer(network)
    figure, axes = plt.subplots(4, 5, figsize=(14, 7.6), layout="constrained")
    cases = (("shake", "shelf", 3), ("object", "hall", 3), ("pan", "hall", 9))
    for row, (kind, name, seed) in zip(axes, cases, strict=False):
        photo, other = (
            _photo(f"evaluation/{file}.jpg")[0, :, 80:336, 200:584]
            for file in (name, "hall" if name == "shelf" else "shelf")
        )
        sample = task.degrade(photo, other, kind, seeded(seed))
        current, previous, ground_truth = (sample[key][None] for key in ("input", "previous", "target"))
        with torch.no_grad():
            (restored,) = restorer(current, previous)
            extent = network(current, previous)[1][-1][:, 2]
        titles = (
            "the frame before",
            f"{kind}: current frame, {psnr(current, ground_truth):.1f} dB",
            f"restored, {psnr(restored, ground_truth):.1f} dB",
            "ground truth",
        )
        for axis, picture, title in zip(
            row, (previous, current, restored, ground_truth), titles, strict=False
        ):
            axis.imshow(_pixels(picture))
            axis.set_title(title, fontsize=9)
        row[4].imshow(extent[0], cmap="magma", vmin=0.0, vmax=4.0)
        row[4].set_title("blur seen by the network, pixels", fontsize=9)
    frames = [_photo(f"clips/hands/hands_{number}.jpg") for number in (45, 46)]
    with torch.no_grad():
        (restored,) = restorer(frames[1], frames[0])
        extent = network(frames[1], frames[0])[1][-1][:, 2]
    for axis, picture, title in zip(
        axes[3], (*frames, restored), ("hands.mkv, frame 45", "frame 46", "restored"), strict=False
    ):
        axis.imshow(_pixels(picture[..., 190:390, 190:490]))
        axis.set_title(title, fontsize=9)
    axes[3, 4].imshow(extent[0, 47:98, 47:123], cmap="magma", vmin=0.0, vmax=4.0)
    for axis in axes.ravel():
        axis.axis("off")
    figure.savefig(out, dpi=100, pil_kwargs=JPEG)


def point_spread(out: Path) -> None:
    """Three by three periods of a panel, and the point-spread function that `afterlens psf` computes for it."""
    panel = SAMPLES / "panels" / "pentile.png"
    with tempfile.TemporaryDirectory() as work:
        preview = Path(work) / "psf.png"
        simulate(panel, Optics(), 257, Path(work) / "psf.npy", preview)
        kernel = plt.imread(preview)
    period = read_photo(panel).rgb
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    # A period of this panel has two by two openings.
    titles = ("display: 6 × 6 openings, white lets light through", "a point of light through it (5 decades)")
    for axis, picture, title in zip(axes, (np.tile(period, (3, 3, 1)), kernel), titles, strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(out, dpi=90, pil_kwargs=JPEG)


def _photo(name: str) -> torch.Tensor:
    """A bundled photo, (1, 3, H, W), [0, 1]."""
    return torch.from_numpy(read_photo(SAMPLES / name).rgb).permute(2, 0, 1)[None]


def _pixels(picture: torch.Tensor) -> NDArray:
    return picture[0].permute(1, 2, 0).numpy()


def curve(files: list[Path], out: Path) -> None:
    """PSNR on the held-out photos over the steps of consecutive runs."""
    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    start = 0
    for number, file in enumerate(files, 1):
        rows = list(csv.DictReader(file.open(encoding="utf-8")))
        steps = [start + int(row["step"]) for row in rows]
        axis.plot(
            steps, [float(row["validation_psnr"]) for row in rows], "o-", label=f"run {number}: restored"
        )
        axis.plot(
            steps,
            [float(row["input_psnr"]) for row in rows],
            ":",
            color="grey",
            label="input" if number == 1 else None,
        )
        start = steps[-1]
    axis.set(xlabel="step", ylabel="held-out PSNR, dB")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", ncols=2, fontsize=7)
    figure.savefig(out, dpi=110)


def strength(measured: Path, out: Path) -> None:
    """Harm against gain: what `reflection_targets` printed for several strengths, a line a set."""
    rows = json.loads(measured.read_text("utf-8"))["rows"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, measure, title in zip(
        axes,
        ("psnr", "psnr_gain"),
        ("clean photos: PSNR to themselves", "degraded photos: gain"),
        strict=True,
    ):
        for name in dict.fromkeys(row["set"] for row in rows if row["measure"] == measure):
            own = [row for row in rows if row["set"] == name]
            places = [row["strength"] for row in own]
            (line,) = axis.plot(places, [row["mean"] for row in own], "o-", label=name)
            axis.plot(places, [row["worst"] for row in own], ":", color=line.get_color(), linewidth=1)
        axis.set(xlabel="--strength", ylabel="dB", title=f"{title} (dotted: the worst)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(out, dpi=110)


def measured(page: Path) -> dict[str, list[dict[str, str]]]:
    """The tables of a Markdown page below lines such as "**reflection**": by network, rows by the heads of columns."""
    tables: dict[str, list[dict[str, str]]] = {}
    for title, lines in re.findall(
        r"^\*\*(\w+)\*\*.*\n\n((?:\|.*\n)+)", page.read_text("utf-8"), re.MULTILINE
    ):
        head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines())
        tables[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return tables


def variants(page: Path, out: Path) -> None:
    """PSNR lost against ground truth at 256x256, over bytes and over time, of all networks of a page that were timed."""
    networks = {name: rows for name, rows in measured(page).items() if "time at 256×256" in rows[0]}
    figure, axes = plt.subplots(
        len(networks), 2, figsize=(11, 4 * len(networks)), squeeze=False, layout="constrained"
    )
    names: list[list[tuple[str, float, float, str]]] = []  # of each plot
    for row, (network, variants) in zip(axes, networks.items(), strict=True):
        # 16-bit activations take 26 and 30 times as long as float32 on this CPU: they would squeeze all others.
        timed = [v for v in variants if v["time at 256×256"] not in "–" and float(v["time at 256×256"]) < 5]
        sizes = [float(v["bytes, 256×256"].replace(",", "")) / 1e6 for v in variants]
        names += [
            _losses(row[0], variants, sizes),
            _losses(row[1], timed, [float(v["time at 256×256"]) for v in timed]),
        ]
        row[0].set(title=f"{network}: size", xlabel="MB", ylabel="dB lost against ground truth")
        row[1].set(title=f"{network}: time, one thread", xlabel="relative to float32")
    axes[0, 0].legend(frameon=False)
    for axis, points in zip(axes.flat, names, strict=True):
        label_points(axis, points)
    figure.savefig(out, dpi=110)


def _losses(
    axis: Axes, rows: list[dict[str, str]], costs: list[float]
) -> list[tuple[str, float, float, str]]:
    """Points in their format's colour; the names to put beside them once the layout is final."""
    axis.axhline(0.0, color="#999999", linewidth=0.8)
    losses = [float(row["lost at 256×256"].split()[0]) for row in rows]
    for format_, colour in COLOURS.items():
        own = [index for index, row in enumerate(rows) if row[""] == format_]
        if own:
            xs, ys = [costs[i] for i in own], [losses[i] for i in own]
            axis.plot(xs, ys, MARKERS[format_], color=colour, label=format_)
    low, high = min(losses), max(losses)
    axis.set(
        xlim=(0, 1.12 * max(costs)), ylim=(low - 0.2 * (high - low) - 0.01, high + 0.2 * (high - low) + 0.01)
    )
    return [
        (row["variant"], cost, loss, COLOURS[row[""]])
        for row, cost, loss in zip(rows, costs, losses, strict=True)
    ]


def heads(assets: Path, base: Path | None, out: Path) -> None:
    """Twelve people, two of each pair of the Monk scale and two more, as the beard network is trained on."""
    studio = Studio(read_assets(assets, base))
    backdrops = [read_photo(path).rgb for path in EVALUATION]
    people = [studio.person(seed) for seed in range(40)]
    by_tone = sorted(people, key=lambda person: person.identity.tone)[::3][:12]
    pictures = []
    for person in by_tone:
        rng = np.random.default_rng([person.identity.seed, 3])
        photo = backdrops[rng.integers(len(backdrops))]
        expression = sample_expression(studio.assets, rng)
        pictures.append(studio.portrait(person, expression, sample_scene(rng), rng, photo=photo).picture)
    rows = [np.hstack(pictures[start : start + 6]) for start in (0, 6)]
    Image.fromarray(np.rint(np.vstack(rows) * 255).astype(np.uint8)).save(out, **JPEG)


def beards(out: Path) -> None:
    """The bundled portraits, bare, with a beard of each class, and the last one's exact mask."""
    rows = []
    for number, path in enumerate((FACES[3], HELD_OUT_FACES[1], HELD_OUT_FACES[2], HELD_OUT_FACES[3])):
        labels = read_labels(path)
        assert labels is not None
        face = read_photo(path).rgb
        landmarks, hair = (np.array(values, np.float32) for values in (labels.landmarks, labels.hair_colour))
        drawn = [draw_beard(face, landmarks, kind, np.random.default_rng(number), hair) for kind in CLASSES]
        mask = np.repeat(drawn[-1].mask[..., None], 3, axis=2)
        rows.append(np.hstack([*(beard.over(face) for beard in drawn), mask]))
    Image.fromarray(np.rint(np.vstack(rows).clip(0, 1) * 255).astype(np.uint8)).save(out, **JPEG)


def faces(out: Path) -> None:
    """Held-out portraits: with a drawn beard, that removed, the face below, and with each class put on by the network."""
    task = find_task("beard")
    network, _ = load_network(task, task.pretrained)
    restorer = task.restorer(network).eval()
    rows = []
    for number, path in enumerate(HELD_OUT_FACES[:4]):
        labels = read_labels(path)
        assert labels is not None
        face = read_photo(path).rgb
        landmarks, hair = (np.array(values, np.float32) for values in (labels.landmarks, labels.hair_colour))
        kind = CLASSES[1 + (number + 1) % 4]
        worn = draw_beard(face, landmarks, kind, np.random.default_rng(50 + number), hair).over(face)
        made = [_changed(restorer, worn, worn, "none"), face]
        for wanted in CLASSES[1:]:
            made.append(_changed(restorer, face, lay_beard(face, landmarks, AMOUNTS[wanted]), wanted))
        rows.append(np.hstack([worn, *made]))
    sheet = np.rint(np.vstack(rows).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(sheet).resize((sheet.shape[1] * 3 // 4, sheet.shape[0] * 3 // 4)).save(out, **JPEG)


def swaps(out: Path) -> None:
    """The bundled identity, and held-out portraits: as they are, with it laid on, the result, and the exact answer."""
    task = find_task("swap")
    network, _ = load_network(task, task.pretrained)
    restorer, identity = task.restorer(network).eval(), read_identity(task.pretrained)
    rows = []
    for path in (path for path in HELD_OUT_FACES if "_first" in path.name):
        labels = read_labels(path)
        assert labels is not None
        face = read_photo(path).rgb
        laid, _ = lay(identity.picture, identity.landmarks, face, np.array(labels.landmarks, np.float32))
        result = by_torch(restorer, face, as_picture(laid)[None])[0]
        target = read_photo(path.with_name(path.name.replace("_first", "_target"))).rgb
        rows.append(np.hstack([identity.picture, face, laid, result, target]))
    sheet = np.rint(np.vstack(rows).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(sheet).save(out, **JPEG)


def _changed(restorer: torch.nn.Module, face: NDArray, laid: NDArray, kind: str) -> NDArray:
    return by_torch(restorer, face, torch.tensor([AMOUNTS[kind]]), as_picture(laid)[None])[0]


def main(what: str, *files: str) -> None:
    """Draw photos, curve, strength, variants, heads, faces or swaps."""
    if what == "photos":
        before_after(DOCS / "before_after.jpg")
        under_display(DOCS / "under_display.jpg")
        deblurred(DOCS / "deblurred.jpg")
        point_spread(DOCS / "psf.jpg")
    elif what == "curve":
        curve([Path(file) for file in files], DOCS / "curve.png")
    elif what == "strength":
        strength(Path(files[0]), DOCS / "strength.png")
    elif what == "variants":
        variants(Path(files[0]), DOCS / "variants.png")
    elif what == "heads":
        assets, *base = (Path(file) for file in files if file != "--base")
        heads(assets, base[0] if base else None, DOCS / "heads.jpg")
        beards(DOCS / "beards.jpg")
    elif what == "faces":
        faces(DOCS / "faces.jpg")
    elif what == "swaps":
        swaps(DOCS / "swaps.jpg")
    else:
        sys.exit(f"error: {what!r}, expected photos, curve, strength, variants, heads, faces or swaps")


if __name__ == "__main__":
    main(*sys.argv[1:])
