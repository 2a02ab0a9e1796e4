"""The reflection network against its targets: harm to clean photos, gain on degraded ones, and what its gate detects.

    python -m afterlens.benchmarks.ablations.reflection_targets DATA -c FILE --strength 0.25 0.5 0.75 --maps build/maps

DATA holds test_clean, test_reflection and test_shadow. Each strength (as of `afterlens restore`) gives one row a set: less of
it does less harm and removes less. ``--maps`` writes a picture of what the gate detects for each photo of test_reflection.
The last line on stdout is one JSON document.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from afterlens.benchmarks.evaluation.quality import TestSet, measure, pair_set, synthetic_set
from afterlens.training.command import answer
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, read_photo, write_png
from afterlens.training.padding import margins, repeat_edges
from afterlens.training.pairs import find_pairs
from afterlens.training.reflection.gate import changed, opened
from afterlens.training.reflection.network import MULTIPLE, ReflectionNetwork
from afterlens.training.reflection.pyramid import PyramidRestorer, levels_for
from afterlens.training.reflection.task import set_strength
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network

_DEFAULT = 0.5  # also what weights without a gate are measured as
_DIFFERENCE = 0.01  # mean difference of a 4x4 block above which it counts as changed, as in the recipe


@dataclass(frozen=True)
class Wanted:
    """One test set: a folder below DATA, the kind its clean photos are degraded by ("" for pairs), and its target."""

    name: str
    folder: str
    kind: str
    target: str
    fit_colours: bool = False


SETS = (
    Wanted("kodak24", "test_clean/kodak24", "clean", "44 / 36 / 32 dB"),
    Wanted("bsds500_val", "test_clean/bsds500_val", "clean", "44 / 36 / 32 dB"),
    Wanted("synthetic_ceilnet50", "test_reflection/synthetic_ceilnet50", "", "+6.5 dB"),
    Wanted("real_pairs_aligned", "test_reflection/real_pairs_aligned", "", "+2.5 dB, none worse"),
    Wanted("shadow", "test_clean/bsds500_val", "shadow", "+4.5 dB, 5 % worse at most"),
    Wanted("occlusion", "test_clean/bsds500_val", "occlusion", "+4.5 dB, 5 % worse at most"),
    Wanted("stain", "test_clean/bsds500_val", "stain", "+3 dB, 5 % worse at most"),
    Wanted("istd_pair", "test_shadow/istd_pair", "", "+2 dB", fit_colours=True),
    Wanted("portrait_synth", "test_shadow/portrait_synth", "", "+1 dB"),
)


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, 5th percentile, worst, and the share below zero."""
    array = np.asarray(values)
    return {
        "count": len(array),
        "mean": float(array.mean()),
        "p5": float(np.percentile(array, 5)),
        "worst": float(array.min()),
        "worse": float((array < 0.0).mean()),
    }


def score(network: Any, data: Path, wanted: Wanted, count: int | None) -> dict[str, Any]:
    """A set's row: of PSNR where its photos are clean, of gains in PSNR otherwise. ``count``: only its first photos."""
    task, folder = find_task("reflection"), data / wanted.folder
    samples = synthetic_set(task, folder, wanted.kind, 0) if wanted.kind else pair_set(task, folder)
    if count is not None:
        samples = TestSet(min(count, samples.count), samples.load)
    images = measure(PyramidRestorer(network).eval(), samples, wanted.name, wanted.fit_colours)
    key = "psnr" if wanted.kind == "clean" else "psnr_gain"
    values = [image[key] for image in images if image[key] is not None]
    return {"set": wanted.name, "measure": key, "target": wanted.target, **summarise(values)}


@torch.inference_mode()
def gate_logits(network: Any, photo: Tensor) -> tuple[Tensor, Tensor]:
    """The photo at the level that the network sees, ``(1, 3, h, w)`` padded to whole cells, and the gate's logits."""
    small = F.avg_pool2d(photo, 2 ** levels_for(photo.shape[-2], photo.shape[-1]), ceil_mode=True)
    padded = repeat_edges(small, margins(small.shape[-2], MULTIPLE), margins(small.shape[-1], MULTIPLE))
    outputs = network(padded)
    if len(outputs) < 3:
        raise UserError("these weights have no gate: expected a network trained with network.gate = true")
    return padded, outputs[2]


def detection(network: Any, folder: Path) -> list[dict[str, Any]]:
    """For each pair: the shares of the changed and of the unchanged cells that the gate opens for, None for none."""
    rows = []
    for pair in find_pairs(folder):
        (image, logits), (ground_truth, _) = (
            gate_logits(network, _tensor(path)) for path in (pair.input, pair.target)
        )
        true, found = changed(image, ground_truth, _DIFFERENCE).bool(), logits > network.threshold
        rows.append(
            {
                "photo": pair.name,
                "changed": float(true.float().mean()),
                "recall": float(found[true].float().mean()) if true.any() else None,
                "false_alarms": float(found[~true].float().mean()) if (~true).any() else None,
            }
        )
    return rows


def write_maps(network: Any, folder: Path, out: Path) -> list[dict[str, Any]]:
    """A picture for each photo, the photo beside it with all that the gate closes darkened; and the share it opens."""
    rows = []
    for path in find_photos([folder]):
        image, logits = gate_logits(network, _tensor(path))
        gate = opened(logits, float(network.threshold))
        shown = torch.cat([image, image * (0.15 + 0.85 * gate)], dim=3)[0]
        write_png(out / folder.name / f"{path.stem}.png", shown.permute(1, 2, 0).numpy())
        rows.append({"photo": f"{folder.name}/{path.name}", "open": float(gate.mean())})
    return rows


def _tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_photo(path).rgb).permute(2, 0, 1)[None].contiguous()


def run(
    data: Path, checkpoint: Path, strengths: Sequence[float], count: int | None, maps: Path | None
) -> Any:
    """All rows, by strength, and the gate's detection."""
    network, metadata = load_network(find_task("reflection"), checkpoint)
    assert isinstance(network, ReflectionNetwork)
    result: dict[str, Any] = {"checkpoint": checkpoint.name, "step": metadata.get("step"), "rows": []}
    for strength in strengths:
        if network.gate_head is not None or strength != _DEFAULT:
            set_strength(network, strength)
        for wanted in SETS:
            row = {"strength": strength, **score(network, data, wanted, count)}
            result["rows"].append(row)
            print(
                f"{strength:.2f} {row['set']:20s} {row['measure']:9s} mean {row['mean']:6.2f}  p5 {row['p5']:6.2f}  "
                f"worst {row['worst']:6.2f}  worse than input {100 * row['worse']:3.0f} %  of {row['count']:3d}  "
                f"target {row['target']}",
                flush=True,
            )
    if maps is not None:
        set_strength(network, _DEFAULT)
        folders = sorted(path for path in (data / "test_reflection").iterdir() if path.is_dir())
        result["detection"] = [
            row
            for name in ("real_pairs_aligned", "synthetic_ceilnet50")
            for row in detection(network, data / "test_reflection" / name)
        ]
        result["maps"] = [row for folder in folders for row in write_maps(network, folder, maps)]
    return result


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the test sets")
    parser.add_argument("-c", "--checkpoint", type=Path, default=find_task("reflection").pretrained)
    parser.add_argument("--strength", type=float, nargs="+", default=[_DEFAULT], help="0 to 1")
    parser.add_argument("--count", type=int, help="only so many photos of each set")
    parser.add_argument("--maps", type=Path, help="folder for pictures of what the gate detects")
    options = parser.parse_args()
    return answer(
        lambda: run(options.data, options.checkpoint, options.strength, options.count, options.maps)
    )


if __name__ == "__main__":
    raise SystemExit(main())
