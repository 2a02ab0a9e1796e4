"""Draws the pictures of the README from the bundled weights and a run's metrics.

    python docs/figures.py runs/reflection/metrics.csv
    python docs/figures.py --variants reflection=BUNDLE,BENCH.json udc=BUNDLE,BENCH.json

Writes docs/before_after.jpg (the photos of afterlens/samples/degraded: input, restored, layer, truth),
docs/under_display.jpg (a photo through a display, by the live and the still network), docs/deblurred.jpg (frames with
known motion, and a real clip), docs/psf.jpg (a panel and its
point-spread function) and docs/curve.png (mean PSNR on the held-out photos, which metrics.csv has beside the score;
several files are drawn one after the other). The second form writes docs/variants.png: what each variant of a verified
bundle loses, beside its size and (TFLite) its time as a share of float32's.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.training.data import seeded
from afterlens.training.media.images import read_photo
from afterlens.training.metrics import psnr
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network
from afterlens.training.udc.psf import Optics, simulate

ROOT = Path(__file__).parent.parent
KINDS = (
    "reflection",
    "shadow",
    "stain",
    "occlusion",
)  # files of afterlens/samples/degraded, all over afterlens/samples/calibration/room.jpg


def before_after(out: Path) -> None:
    """One row a photo of afterlens/samples/degraded, with the PSNR against the clean photo."""
    task = find_task("reflection")
    restorer = task.restorer(load_network(task, task.pretrained)[0])
    figure, axes = plt.subplots(len(KINDS), 4, figsize=(14, 2.05 * len(KINDS)), layout="constrained")
    for row, name in zip(axes, KINDS, strict=True):
        degraded, truth = (
            torch.from_numpy(read_photo(ROOT / "tests" / path).rgb).permute(2, 0, 1)[None]
            for path in (f"degraded/{name}.jpg", "photos/room.jpg")
        )
        with torch.no_grad():
            restored, layer = restorer(degraded)
        titles = (
            f"{name}: input, {psnr(degraded, truth):.1f} dB",
            f"restored, {psnr(restored, truth):.1f} dB",
            "what was removed",
            "truth",
        )
        for axis, picture, title in zip(row, (degraded, restored, layer, truth), titles, strict=True):
            axis.imshow(_pixels(picture))
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.savefig(out, dpi=100, pil_kwargs={"quality": 88})


def under_display(out: Path) -> None:
    """The photo through a display, and a detail of it, by both networks."""
    task = find_task("udc")
    degraded, truth = (
        torch.from_numpy(read_photo(ROOT / "tests" / path).rgb).permute(2, 0, 1)[None]
        for path in ("degraded/udc.jpg", "photos/room.jpg")
    )
    pictures = {f"through the display, {psnr(degraded, truth):.1f} dB": degraded}
    for size in ("live", "still"):
        network = load_network(task, task.pretrained.with_stem(f"udc_{size}"))[0]
        with torch.no_grad():
            (restored,) = task.restorer(network)(degraded)
        pictures[f"{size} network, {psnr(restored, truth):.1f} dB"] = restored
    pictures["truth"] = truth
    figure, axes = plt.subplots(2, 4, figsize=(14, 4.6), layout="constrained")
    for column, (title, picture) in zip(axes.T, pictures.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        column[0].imshow(_pixels(picture))
        column[1].imshow(_pixels(picture[..., 60:204, 360:616]), interpolation="nearest")
        for axis in column:
            axis.axis("off")
    figure.savefig(out, dpi=100, pil_kwargs={"quality": 88})


def deblurred(out: Path) -> None:
    """A row for each kind of motion, frames of test clips blurred with known motion; below, hands that really moved."""
    task = find_task("deblur")
    network = load_network(task, task.pretrained)[0]
    restorer = task.restorer(network)
    figure, axes = plt.subplots(4, 5, figsize=(14, 7.6), layout="constrained")
    cases = (("shake", "shelf", 3), ("object", "hall", 3), ("pan", "hall", 9))
    for row, (kind, name, seed) in zip(axes, cases, strict=False):
        photo, other = (
            torch.from_numpy(read_photo(ROOT / "afterlens/samples/evaluation" / f"{file}.jpg").rgb).permute(
                2, 0, 1
            )[:, 80:336, 200:584]
            for file in (name, "hall" if name == "shelf" else "shelf")
        )
        sample = task.degrade(photo, other, kind, seeded(seed))
        current, previous, truth = (sample[key][None] for key in ("input", "previous", "target"))
        with torch.no_grad():
            (restored,) = restorer(current, previous)
            extent = network(current, previous)[1][-1][:, 2]
        titles = (
            "the frame before",
            f"{kind}: current frame, {psnr(current, truth):.1f} dB",
            f"restored, {psnr(restored, truth):.1f} dB",
            "truth",
        )
        for axis, picture, title in zip(row, (previous, current, restored, truth), titles, strict=False):
            axis.imshow(_pixels(picture))
            axis.set_title(title, fontsize=9)
        row[4].imshow(extent[0], cmap="magma", vmin=0.0, vmax=4.0)
        row[4].set_title("smear that the network sees, pixels", fontsize=9)
    frames = [
        torch.from_numpy(read_photo(ROOT / "afterlens/samples/clips/hands" / f"hands_{n}.jpg").rgb).permute(
            2, 0, 1
        )[None]
        for n in (45, 46)
    ]
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
    figure.savefig(out, dpi=100, pil_kwargs={"quality": 88})


def point_spread(out: Path) -> None:
    """One period of a panel, nine of them, and what `afterlens psf` makes of them."""
    panel = ROOT / "afterlens/samples/panels/pentile.png"
    with tempfile.TemporaryDirectory() as work:
        preview = Path(work) / "psf.png"
        simulate(panel, Optics(), 257, Path(work) / "psf.npy", preview)
        kernel = plt.imread(preview)
    period = read_photo(panel).rgb
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    titles = ("display: 3 x 3 openings, white lets light through", "a point of light through it (5 decades)")
    for axis, picture, title in zip(axes, (np.tile(period, (3, 3, 1)), kernel), titles, strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(out, dpi=90, pil_kwargs={"quality": 88})


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


def variants(bundles: list[str], out: Path) -> None:
    """PSNR lost against the truth at the smallest size, over bytes and over time."""
    figure, axes = plt.subplots(len(bundles), 2, figsize=(11, 3.6 * len(bundles)), squeeze=False)
    for (left, right), argument in zip(axes, bundles, strict=True):
        title, _, files = argument.partition("=")
        folder, _, bench = files.partition(",")
        artifacts = json.loads((Path(folder) / "proof.json").read_text("utf-8"))["artifacts"]
        smallest = min(artifact["width"] for artifact in artifacts)
        artifacts = [artifact for artifact in artifacts if artifact["width"] == smallest]
        results = json.loads(Path(bench).read_text("utf-8"))["results"]
        times = {result["artifact"]["file"]: result["timing"]["p50_ms"] for result in results}
        whole = next(times[a["file"]] for a in artifacts if a["variant"] == "float32")
        for kind, colour, name in (("tflite", "#c2410c", "TFLite"), ("coreml", "#1d4ed8", "Core ML")):
            own = [artifact for artifact in artifacts if artifact["format"] == kind]
            lost = [artifact["quality"]["drop"] for artifact in own]
            left.plot([a["bytes"] / 1e6 for a in own], lost, "o", color=colour, label=name)
            # Neighbours' names would lie on each other: TFLite's above, Core ML's below, the second cluster aside.
            places = {
                "coreml": (4, -10),
                "integer_quant_with_int16_act": (8, -3),
                "palettized6": (-46, 5),
                "float32": (-12, 6),
            }
            for artifact, loss in zip(own, lost, strict=True):
                place = places.get(artifact["variant"], places.get(kind, (4, 5)))
                left.annotate(
                    artifact["variant"].replace("integer_quant_with_int16_act", "int16 values"),
                    (artifact["bytes"] / 1e6, loss),
                    place,
                    textcoords="offset points",
                    fontsize=7,
                )
                if artifact["file"] in times and artifact["variant"] != "integer_quant_with_int16_act":
                    share = times[artifact["file"]] / whole
                    right.plot([share], [loss], "o", color=colour)
                    right.annotate(
                        artifact["variant"], (share, loss), place, textcoords="offset points", fontsize=7
                    )
        left.set(title=f"{title}: size", xlabel="MB", ylabel="dB lost against the truth", xlim=(0, None))
        right.set(title=f"{title}: time, one thread", xlabel="share of float32's", xlim=(0, None))
        left.legend(frameon=False)
        for axis in (left, right):
            axis.axhline(0.0, color="#999", linewidth=0.8)
            axis.margins(x=0.15, y=0.2)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--variants"]:
        variants(sys.argv[2:], ROOT / "docs" / "variants.png")
        sys.exit()
    before_after(ROOT / "docs" / "before_after.jpg")
    under_display(ROOT / "docs" / "under_display.jpg")
    deblurred(ROOT / "docs" / "deblurred.jpg")
    point_spread(ROOT / "docs" / "psf.jpg")
    curve([Path(argument) for argument in sys.argv[1:]], ROOT / "docs" / "curve.png")
