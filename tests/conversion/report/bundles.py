"""Bundles, proofs and benchmarks for the report's tests, and the page as a browser's parser sees it."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from afterlens.benchmarks.document import check
from afterlens.conversion.bundle.contract import (
    Artifact,
    Contract,
    GoldenFile,
    TensorSpec,
    digest,
    write_contract,
)

HOST_DOCUMENT = Path(__file__).parents[2] / "benchmarks" / "host.json"
HOSTILE = "</script><script>alert(1)</script>\" onmouseover='alert(2)' <img src=//evil.example/x>"


class Page(HTMLParser):
    """Tags with their attributes, the rows of all tables, and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.unfolded_rows = 0
        self.text = ""
        self.script = ""
        self._inside: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.unfolded_rows += "details" not in self._inside
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.script += data
        elif "style" not in self._inside:
            self.text += data
            if "td" in self._inside or "th" in self._inside:
                self.rows[-1][-1] += data.strip()

    def images(self) -> list[Image.Image]:
        sources = self._sources("image/jpeg")
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]

    def drawings(self) -> list[str]:
        return [
            base64.b64decode(source.partition(",")[2]).decode() for source in self._sources("image/svg+xml")
        ]

    def _sources(self, kind: str) -> list[str]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        assert all(re.match(r"data:image/(jpeg|svg\+xml);base64,", source) for source in sources)
        return [source for source in sources if source.startswith(f"data:{kind};")]

    def row(self, first: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0] == first]
        return found


def make_bundle(folder: Path, photo: Path, **changes: Any) -> Path:
    """A bundle whose artifacts are a few bytes: the report never runs them."""
    (folder / "golden").mkdir(parents=True)
    golden = []
    ports: tuple[tuple[Any, str, int], ...] = (
        ("input", "image", 0),
        ("output", "restored", 1),
        ("output", "layer", 2),
    )
    for role, tensor, shift in ports:
        file = folder / "golden" / f"32x24_{role}_{tensor}.png"
        Image.fromarray(np.asarray(Image.open(photo))[100:124, 200:232] // (1 + shift)).save(file)
        golden.append(GoldenFile(f"golden/{file.name}", role, tensor, "png", (24, 32, 3), *digest(file)))

    def spec(name: str, meaning: str) -> TensorSpec:
        return TensorSpec(name, (1, 24, 32, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", meaning)

    artifacts = []
    for variant in ("float32", "float16"):
        file = folder / f"tiny_32x24_{variant}.tflite"
        file.write_bytes(variant.encode() * 1000)
        sides = ((spec("image", "photo"),), (spec("restored", "clean photo"), spec("layer", "layer")))
        counts = (123_456, 2_500_000)
        artifacts.append(
            Artifact(file.name, "tflite", variant, 32, 24, *digest(file), "TFLite 2.9", *sides, *counts)
        )
    contract = Contract(
        task="tiny",
        title="Tiny removal",
        version="1.0.0",
        artifacts=tuple(artifacts),
        golden=tuple(golden),
        provenance={
            "checkpoint_sha256": "ab" * 32,
            "recipe": {"steps": 7},
            "data_licence": "CC BY 4.0",
            "tools": {"torch": "2.13.0"},
        },
    )
    write_contract(folder, replace(contract, **changes))
    return folder


def output_row(image: str, error: float, mean_error: float, psnr: float) -> dict[str, Any]:
    """One output on one picture, as in proof.json."""
    return {
        **{"image": image, "output": "restored", "max_error": error, "mean_error": mean_error, "psnr": psnr},
        **{"stored_error": None, "levels": None, "lowest": 0.0, "highest": 1.0, "faults": []},
        "worst": {"where": "x 1, y 2, R", "got": 0.5, "expected": 0.5},
    }


def proof_document(entries: list[dict[str, Any]], photo: str, pairs: Sequence[str] = ()) -> dict[str, Any]:
    """proof.json around the entries of its artifacts."""
    images = dict.fromkeys(row["image"] for entry in entries for row in entry["rows"])
    return {
        **{"schema_version": 2, "task": "tiny", "version": "1.0.0", "passed": True, "failures": []},
        "checkpoint_sha256": "ab" * 32,
        "gates": {
            **{
                "max_error": {"float32": 1e-4},
                "max_stored_error": {},
                "min_psnr": {"float16": 60.0, "mixed": 35.0},
            },
            **{"max_levels": {"float32": 1}, "range_slack": 1e-6},
        },
        "photos": [{"name": photo, "sha256": "00" * 32}],
        "images": list(images),
        "ground_truth": {"pairs": list(pairs), "budgets": {}},
        **{"golden_files": 3, "tools": {}, "artifacts": entries},
    }


def write_proof(folder: Path, **changes: Any) -> None:
    """proof.json as `verify` writes it, for the bundle of `make_bundle`."""
    entries = []
    for variant, error, psnr in (("float32", 2.5e-7, 100.0), ("float16", 3.5e-4, 81.25)):
        file = folder / f"tiny_32x24_{variant}.tflite"
        row = output_row("room.jpg", error, error / 10, psnr)
        entries.append(
            {
                "file": file.name,
                "format": "tflite",
                "variant": variant,
                "width": 32,
                "height": 24,
                "runtime": "ai-edge-litert 2.1.0",
                "provenance": "measured-host",
                "faults": [],
                "quality": None,
                "sha256": digest(file)[0],
                "bytes": digest(file)[1],
                "passed": True,
                "max_error": error,
                "psnr": psnr,
                "rows": [row, {**row, "image": "noise", "mean_error": error / 5}],
            }
        )
    proof = proof_document(entries, photo="room.jpg")
    (folder / "proof.json").write_text(json.dumps({**proof, **changes}))


# format, variant, kB, PSNR and SSIM against the ground truth, worst image's drop
VARIANTS = [
    ("tflite", "float32", 3949, 22.412, 0.8912, 0.0),
    ("tflite", "float16", 2018, 22.411, 0.8912, 0.003),
    ("tflite", "dynamic_range_quant", 1145, 22.395, 0.8907, 0.05),
    ("tflite", "full_integer_quant", 1246, 22.051, 0.8803, 0.93),
    ("tflite", "integer_quant_with_int16_act", 1278, 22.402, 0.8909, 0.04),
    ("tflite", "mixed", 1302, 22.297, 0.8861, 0.31),
    ("coreml", "float16", 2263, 22.409, 0.8911, 0.006),
    ("coreml", "int8", 1270, 22.401, 0.8909, 0.03),
    ("coreml", "palettized6", 980, 22.310, 0.8880, 0.22),
    ("coreml", "palettized4", 690, 21.870, 0.8741, 1.1),
    ("coreml", "mixed", 1010, 22.385, 0.8901, 0.07),
]


def make_evaluated_bundle(folder: Path, photo: Path) -> Path:
    """A bundle of all variants, compared with ground truth, with a heat map of each lossy one."""
    make_bundle(folder, photo)
    contract = json.loads((folder / "model.json").read_text())
    like, artifacts, entries = contract["artifacts"][0], [], []
    (folder / "heatmaps").mkdir()
    for format_, variant, kilobytes, psnr, ssim, worst in VARIANTS:
        name = f"tiny_32x24_{variant}.{'tflite' if format_ == 'tflite' else 'mlpackage'}"
        path = folder / name
        if format_ == "coreml":
            path.mkdir()
        (path / "weight.bin" if format_ == "coreml" else path).write_bytes(bytes(1000 * kilobytes))
        sha256, size = digest(path)
        own = {"file": name, "format": format_, "variant": variant, "sha256": sha256, "bytes": size}
        artifacts.append({**like, **own})
        heatmap = None
        if worst > 0.2 or worst < 0.004:
            heatmap = f"heatmaps/{name}_room.png"
            shade = np.random.default_rng(0).random((24, 32, 1)) * (255, 80, 0)
            Image.fromarray(shade.astype(np.uint8)).save(folder / heatmap)
        tile = {"x": 16, "y": 0, "width": 16, "height": 16, "drop": 2 * worst}
        rows = [
            {
                "image": image,
                "psnr": psnr + shift,
                "ssim": ssim,
                "reference_psnr": 22.412 + shift,
                "reference_ssim": 0.8912,
                "input_psnr": 15.5,
                "drop": 22.412 - psnr,
                "fidelity": 50.0,
                "tile": tile,
            }
            for image, shift in (("room", 1.0), ("visitor", -1.0))
        ]
        entries.append(
            {
                **own,
                "width": 32,
                "height": 24,
                "runtime": "ai-edge-litert 2.1.0" if format_ == "tflite" else "conversion.mil",
                "provenance": "measured-host" if format_ == "tflite" else "reference-execution",
                "passed": True,
                "faults": [],
                "max_error": 1e-3,
                "psnr": 100.0 if variant == "float32" else 60.0 - worst,
                "rows": [output_row("room", 1e-3, 1e-4, 60.0 - worst)],
                "quality": {
                    "budget": None if variant == "float32" else 0.3,
                    "psnr": psnr,
                    "ssim": ssim,
                    "reference_psnr": 22.412,
                    "reference_ssim": 0.8912,
                    "input_psnr": 15.5,
                    "drop": 22.412 - psnr,
                    "passed": 22.412 - psnr <= 0.3,
                    "worst": {"image": "room", "drop": worst, "tile": tile, "heatmap": heatmap},
                    "rows": rows,
                },
            }
        )
    contract["artifacts"] = artifacts
    (folder / "model.json").write_text(json.dumps(contract))
    proof = proof_document(entries, photo="room", pairs=("room", "visitor"))
    (folder / "proof.json").write_text(json.dumps(proof))
    return folder


def benchmark_of(folder: Path) -> dict[str, Any]:
    """A real benchmark document, its TFLite results said to be of the bundle's files."""
    document: dict[str, Any] = json.loads(HOST_DOCUMENT.read_text())
    for result in document["results"]:
        result["artifact"]["task"] = "tiny"
        if result["runtime"]["name"] == "tflite":
            file = folder / f"tiny_32x24_{result['artifact']['variant']}.tflite"
            result["artifact"].update(file=file.name, sha256=digest(file)[0])
    return document


def benchmark_of_all(folder: Path) -> dict[str, Any]:
    """`benchmark_of`, at the size of the bundle's artifacts, with the operators of the first one."""
    document = benchmark_of(folder)
    for result in document["results"]:
        result["artifact"].update(width=32, height=24)
    document["results"][0]["operators"] = {
        "rounds": 5,
        "whole_ms": 4.0,
        "sum_ms": 5.0,
        "matmul_gflops": 80.0,
        "outside_share": 0.4,
        "types": [
            {"type": "CONV_2D", "count": 1, "ms": 3.0, "share": 0.6, "gflops": 40.0, "share_of_matmul": 0.5},
            {"type": "MUL", "count": 1, "ms": 2.0, "share": 0.4, "gflops": None, "share_of_matmul": None},
        ],
        "operators": [
            {
                **{"index": 7, "type": "MUL", "input": "1x24x32x3", "weights": None, "output": "1x24x32x3"},
                **{"outside": True, "ms": 2.0, "gflops": None, "share_of_matmul": None},
            },
            {
                **{
                    "index": 3,
                    "type": "CONV_2D",
                    "input": "1x12x16x3",
                    "weights": "8x3x3x3",
                    "output": "1x6x8x8",
                },
                **{"outside": False, "ms": 3.0, "gflops": 40.0, "share_of_matmul": 0.5},
            },
        ],
    }
    check(document, "the test's benchmark")
    return document
