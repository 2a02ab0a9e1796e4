"""The report as a browser's parser sees it: complete, self-contained, and deaf to what strangers write into bundles."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.benchmarks.document import check
from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    Contract,
    GoldenFile,
    TensorSpec,
    digest,
    write_contract,
)
from afterlens.conversion.report.report import Comparison, report
from afterlens.conversion.verify.verify import verify
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

HOST_DOCUMENT = Path(__file__).parents[2] / "benchmarks" / "host.json"
HOSTILE = "</script><script>alert(1)</script>\" onmouseover='alert(2)' <img src=//evil.example/x>"


class Page(HTMLParser):
    """Tags with their attributes, the rows of all tables, and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.script = ""
        self._inside: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
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
                self.rows[-1][-1] += data

    def images(self) -> list[Image.Image]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]

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
        **{"stored_error": None, "levels": 1, "lowest": 0.0, "highest": 1.0, "faults": []},
        "worst": {"where": "x 1, y 2, R", "got": 0.5, "expected": 0.5},
    }


def proof_document(entries: list[dict[str, Any]], photo: str, pairs: Sequence[str] = ()) -> dict[str, Any]:
    """proof.json around the entries of its artifacts."""
    images = dict.fromkeys(row["image"] for entry in entries for row in entry["rows"])
    return {
        **{"schema_version": 2, "task": "tiny", "version": "1.0.0", "passed": True, "failures": []},
        "checkpoint_sha256": "ab" * 32,
        "gates": {
            **{"max_error": {"float32": 1e-4}, "max_stored_error": {}, "min_psnr": {"float16": 60.0}},
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


# format, variant, kB, PSNR and SSIM against the truth, worst image's drop
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
    """A bundle of all variants, judged against ground truth, with a heat-map of each lossy one."""
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


@pytest.fixture
def tiny(tmp_path: Path, photo_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny", photo_path)


def test_the_tables_hold_the_numbers_of_contract_proof_and_benchmark(tiny: Path, tmp_path: Path) -> None:
    write_proof(tiny)
    document = benchmark_of(tiny)
    out = report([tiny], timings=[document], out=tmp_path / "report.html")
    page = Page(out)
    rows = [row for row in page.rows if row[0] == "tiny_32x24_float16.tflite"]
    assert rows == [
        [
            "tiny_32x24_float16.tflite", "ai-edge-litert 2.1.0measured-host", "3.5e-04", "7.0e-05", "81.2", "–", "pass",
        ],
        ["tiny_32x24_float16.tflite", "TFLite", "float16", "32x24", "0.01 MB", "123,456", "0.00", "TFLite 2.9"],
    ]  # fmt: skip
    result, ratio = document["results"][3], document["ratios"][2]
    assert result["runtime"]["name"] == "pytorch"
    assert page.row(result["id"])[1:5] == [
        *(f"{result['timing'][key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms")),
        f"{ratio['p50']:.2f} ({ratio['p10']:.2f}–{ratio['p90']:.2f})",
    ]
    assert page.row(document["results"][0]["id"])[4] == "1 (baseline)"
    assert [row[2] for row in page.rows if row[0] == "TFLite 32x24"] == ["image", "restored", "layer"]
    for expected in ("2 of 2 files match PyTorch", "ab" * 32, "CC BY 4.0", "torch 2.13.0", '"steps": 7'):
        assert expected in page.text
    assert "run on 1 photo (and on: noise), and compared" in page.text
    assert "No phone and no Mac took part" in page.text
    assert "TFLite files were executed on the CPU" in page.text


def test_nothing_is_requested_from_elsewhere_and_only_the_own_script_runs(tiny: Path, tmp_path: Path) -> None:
    page = Page(report([tiny], timings=[benchmark_of(tiny)], out=tmp_path / "report.html"))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("href", "src", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert re.findall(r"url\(|@import|https?:|//[a-z]", page.source.replace(page.script, "")) == []
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    own = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{own}'")


def test_what_strangers_write_stays_text(tmp_path: Path, photo_path: Path) -> None:
    plain = make_bundle(tmp_path / "plain", photo_path)
    write_proof(plain)
    document = benchmark_of(plain)
    clean = Page(report([plain], timings=[document], out=tmp_path / "clean.html"))
    provenance = {
        "checkpoint_sha256": "ab" * 32,
        "recipe": {HOSTILE: HOSTILE},
        "data_licence": HOSTILE,
        "tools": {HOSTILE: HOSTILE},
        HOSTILE: [HOSTILE],
    }
    folder = make_bundle(
        tmp_path / "hostile", photo_path, title=HOSTILE, version=HOSTILE, provenance=provenance
    )
    contract = json.loads((folder / "model.json").read_text())
    for artifact in contract["artifacts"]:
        artifact["minimum_runtime"] = HOSTILE
        for port in artifact["inputs"] + artifact["outputs"]:
            port["meaning"] = port["colour_space"] = HOSTILE
    (folder / "model.json").write_text(json.dumps(contract))
    write_proof(folder, passed=False, failures=[HOSTILE])
    document["device"] = {**document["device"], "cpu": HOSTILE, "os": HOSTILE, "name": HOSTILE}
    for result in document["results"]:
        result["runtime"].update(version=HOSTILE, delegate=HOSTILE)
    page = Page(report([folder], timings=[document], out=tmp_path / "hostile.html"))
    assert page.script == clean.script
    assert page.text.count(HOSTILE) >= 12
    allowed = {tag for tag, _ in clean.tags} | {"ul", "li"}  # the list of failures
    assert {tag for tag, _ in page.tags} <= allowed
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert sum(tag == "img" for tag, _ in page.tags) == 3


def test_pictures_are_embedded_whole_and_scaled_down(tiny: Path, tmp_path: Path, photo_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.open(photo_path).resize((2560, 1440)).save(large)
    photos = [Comparison("Window <1>", photo_path, large, photo_path)]
    page = Page(report([tiny], photos=photos, out=tmp_path / "report.html"))
    before, after, layer, *golden = page.images()
    assert len(golden) == 3
    with Image.open(photo_path) as original:
        assert before.size == layer.size == original.size
        difference = np.asarray(before, np.float32) - np.asarray(original.convert("RGB"), np.float32)
    assert np.abs(difference).mean() < 3.0  # JPEG
    assert after.size == (1280, 720)
    assert "Window <1>" in page.text


def test_a_title_that_is_no_valid_text_is_shown_with_marks(
    tiny: Path, tmp_path: Path, photo_path: Path
) -> None:
    photos = [Comparison("caf\udce9", photo_path, photo_path)]  # a Latin-1 file name as Python gives it
    assert "caf?" in Page(report([tiny], photos=photos, out=tmp_path / "report.html")).text


def test_the_golden_photo_is_shown_with_its_layer(tiny: Path, tmp_path: Path) -> None:
    page = Page(report([tiny], out=tmp_path / "report.html"))
    shown = page.images()
    assert [image.size for image in shown] == [(32, 24)] * 3
    for image, name in zip(shown, ("input_image", "output_restored", "output_layer"), strict=True):
        golden = np.asarray(Image.open(tiny / "golden" / f"32x24_{name}.png"), np.float32)
        assert np.abs(np.asarray(image, np.float32) - golden).mean() < 4.0, name


def test_an_unproven_or_failed_bundle_is_never_called_proven(tiny: Path, tmp_path: Path) -> None:
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "not verified" in page.text
    assert "no file was compared with PyTorch" in page.text
    assert "No times were measured" in page.text
    assert "were not compared with PyTorch's" in page.text
    assert "were executed" not in page.text
    write_proof(tiny, passed=False, failures=["tiny_32x24_float16.tflite: PSNR is 12.0 dB"])
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "tiny_32x24_float16.tflite: PSNR is 12.0 dB" in page.text
    verdicts = [attributes.get("class") for tag, attributes in page.tags if tag == "span"]
    assert verdicts.count("verdict bad") == 2  # on top and at the proof


def test_what_verify_writes_can_be_read(
    own_bundle: Bundle, deployable: Deployable, checkpoint: Path, photo_path: Path, tmp_path: Path
) -> None:
    contract = own_bundle.contract
    tflite = tuple(artifact for artifact in contract.artifacts if artifact.format == "tflite")
    write_contract(own_bundle.folder, replace(contract, artifacts=tflite))
    proof = verify(own_bundle.folder, {(256, 256): deployable}, [photo_path], checkpoint=checkpoint)
    page = Page(report([own_bundle.folder], out=tmp_path / "report.html"))
    for entry in proof.artifacts:
        row = next(row for row in page.rows if row[0] == entry.file and row[-1] == "pass")
        assert row[4] == f"{entry.psnr:.1f}"


def test_a_proof_of_other_files_is_refused(tiny: Path, tmp_path: Path, photo_path: Path) -> None:
    write_proof(tiny)
    proof = json.loads((tiny / "proof.json").read_text())
    proof["artifacts"][1]["sha256"] = "00" * 32
    (tiny / "proof.json").write_text(json.dumps(proof))
    with pytest.raises(UserError, match="does not cover tiny_32x24_float16.tflite as it is now"):
        report([tiny], out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"passed": true, "artifacts": 3}', '{"passed": true, "artifacts": [{"rows": [1]}]}'],
)
def test_a_damaged_proof_is_one_line(tiny: Path, tmp_path: Path, content: str) -> None:
    (tiny / "proof.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read as a proof") as caught:
        report([tiny], out=tmp_path / "report.html")
    assert "\n" not in str(caught.value)


def test_a_benchmark_of_other_files_is_refused(tiny: Path, tmp_path: Path) -> None:
    document = json.loads(HOST_DOCUMENT.read_text())
    with pytest.raises(UserError, match="benchmark is of other"):
        report([tiny], timings=[document], out=tmp_path / "report.html")


def test_damaged_pictures_are_refused(tiny: Path, tmp_path: Path, photo_path: Path) -> None:
    with pytest.raises(UserError, match="none.png: no such file"):
        report(
            [tiny], photos=[Comparison("", photo_path, tmp_path / "none.png")], out=tmp_path / "report.html"
        )
    (tiny / "golden" / "32x24_input_image.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="32x24_input_image.png: has 10 bytes"):
        report([tiny], out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_several_bundles_share_a_report(tiny: Path, tmp_path: Path, photo_path: Path) -> None:
    second = make_bundle(tmp_path / "second", photo_path, task="other", title="Other removal")
    (second / "tiny_32x24_float32.tflite").write_bytes(b"other")
    contract = json.loads((second / "model.json").read_text())
    contract["artifacts"][0]["sha256"], contract["artifacts"][0]["bytes"] = digest(
        second / "tiny_32x24_float32.tflite"
    )
    (second / "model.json").write_text(json.dumps(contract))
    write_proof(tiny)
    document = benchmark_of(tiny)
    page = Page(report([tiny, second], timings=[document], out=tmp_path / "report.html"))
    assert "Tiny removal · Other removal" in page.text
    assert page.text.count("Proof") == 2
    assert page.text.count("not verified") == 1
    assert sum(row[0] == document["results"][0]["id"] for row in page.rows) == 1


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one bundle"):
        report([], out=tmp_path / "report.html")


@pytest.fixture
def judged(tmp_path: Path, photo_path: Path) -> Path:
    return make_evaluated_bundle(tmp_path / "judged", photo_path)


def test_quality_is_shown_beside_pytorchs_and_the_budget(judged: Path, tmp_path: Path) -> None:
    page = Page(report([judged], out=tmp_path / "report.html"))
    row = next(row for row in page.rows if row[0].startswith("tiny_32x24_full_integer_quant.tfliteint8"))
    assert row == [
        "tiny_32x24_full_integer_quant.tfliteint8 weights and activations",
        *(
            "22.050.8803",
            "22.410.8912",
            "0.361",
            "0.3",
            "room: 0.93 dBx 16, y 0: 1.86 dB",
            "failmeasured-host",
        ),
    ]
    palette = next(row for row in page.rows if row[0].startswith("tiny_32x24_palettized6.mlpackageweights"))
    assert palette[-1] == "passreference-execution"
    assert "ground truth of 2 pictures" in page.text
    assert "The pictures as they came have 15.50 dB" in page.text


def test_every_variant_has_a_name_of_its_own(judged: Path) -> None:
    from afterlens.conversion.bundle.contract import SCHEMA_FILE
    from afterlens.conversion.bundle.variants import label, stored

    variants = json.loads(SCHEMA_FILE.read_text())["$defs"]["artifact"]["properties"]["variant"]["enum"]
    assert {variant for _, variant, *_ in VARIANTS} == set(variants)
    for format_ in ("tflite", "coreml"):
        own = [variant for kind, variant, *_ in VARIANTS if kind == format_]
        assert len({label(format_, variant) for variant in own}) == len(own)
        assert all("_" not in label(format_, v) and "_" not in stored(format_, v) for v in own)


def test_heat_maps_are_those_of_the_worst_picture_of_each_variant(judged: Path, tmp_path: Path) -> None:
    page = Page(report([judged], out=tmp_path / "report.html"))
    maps = [a for tag, a in page.tags if tag == "img" and (a["alt"] or "").startswith("Heat-map")]
    assert [a["alt"] for a in maps] == [
        f"Heat-map, {name}, 32x24: room: {drop:.2f} dB ({2 * drop:.2f} dB at x 16, y 0)"
        for name, drop in (
            *(("TFLite int8", 0.93), ("TFLite int8, mixed", 0.31)),
            *(("Core ML 6-bit palette", 0.22), ("Core ML 4-bit palette", 1.1)),
        )
    ]
    (judged / "heatmaps" / "tiny_32x24_mixed.tflite_room.png").unlink()
    page = Page(report([judged], out=tmp_path / "report.html"))
    assert sum((a.get("alt") or "").startswith("Heat-map") for _, a in page.tags) == len(maps) - 1


def test_heat_maps_never_lead_out_of_the_bundle(judged: Path, tmp_path: Path, photo_path: Path) -> None:
    out, heatmap = tmp_path / "report.html", judged / "heatmaps" / "tiny_32x24_mixed.tflite_room.png"
    heatmap.unlink()
    heatmap.symlink_to(photo_path)
    with pytest.raises(UserError, match="is a link"):
        report([judged], out=out)
    heatmap.unlink()
    (judged / "heatmaps").rename(tmp_path / "elsewhere")
    (judged / "heatmaps").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        report([judged], out=out)
    (judged / "heatmaps").unlink()
    proof = (judged / "proof.json").read_text()
    for name in ("../secret.png", "heatmaps/../../secret.png", "/etc/secret.png", "heatmaps/a.svg", 3):
        changed = json.loads(proof)
        changed["artifacts"][3]["quality"]["worst"]["heatmap"] = name
        (judged / "proof.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match="cannot be read as a proof"):
            report([judged], out=out)
    assert not out.exists()


def test_cost_and_quality_are_plotted_with_every_variant_named(judged: Path, tmp_path: Path) -> None:
    document = benchmark_of_all(judged)
    page = Page(report([judged], timings=[document], out=tmp_path / "report.html"))
    titles = [tag for tag, _ in page.tags].count("svg")
    assert titles == 2  # size, and time
    assert "Size of the file, 32x24: float32, float16, int8 weights, int8, int8 × int16" in page.text
    assert "Time on this host, 32x24: float32, float16" in page.text
    dots = [tag for tag, a in page.tags if (a.get("class") or "").startswith("dot")]
    # eleven sizes, two times, and the legend of the sizes; squares are Core ML
    assert (dots.count("circle"), dots.count("rect")) == (6 + 2 + 1, 5 + 1)
    assert "PSNR against the ground truth" in page.text
    assert "reference-execution" in page.text and "inferred" in page.text


def test_without_ground_truth_the_plot_is_of_the_numerics(tiny: Path, tmp_path: Path) -> None:
    write_proof(tiny)
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "PSNR against PyTorch, worst picture (nothing was judged" in page.text
    assert "Heat-maps" not in page.text and "Quality" not in page.text
    (tiny / "proof.json").unlink()
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "svg" not in {tag for tag, _ in page.tags}


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


def test_the_operators_of_a_file_are_shown_by_type_and_alone(judged: Path, tmp_path: Path) -> None:
    page = Page(report([judged], timings=[benchmark_of_all(judged)], out=tmp_path / "report.html"))
    assert page.row("3")[1:] == [
        *("CONV_2D", "1x12x16x3", "8x3x3x3", "1x6x8x8", "3.00", "60.0%", "40", "50%", "network"),
    ]
    assert page.row("7")[-1] == "outside"
    assert "CONV_2D 60%, MUL 40%; 40% outside the network" in page.text
    assert "CONV_2D at 40 (50% of that)" in page.text


def test_hostile_words_in_a_judged_proof_stay_text(judged: Path, tmp_path: Path) -> None:
    document = benchmark_of_all(judged)
    clean = Page(report([judged], timings=[document], out=tmp_path / "clean.html"))
    proof = json.loads((judged / "proof.json").read_text())
    for entry in proof["artifacts"]:
        entry["runtime"] = HOSTILE
        entry["quality"]["worst"]["image"] = HOSTILE
    (judged / "proof.json").write_text(json.dumps(proof))
    for entry in (
        document["results"][0]["operators"]["types"] + document["results"][0]["operators"]["operators"]
    ):
        entry["type"] = HOSTILE
    page = Page(report([judged], timings=[document], out=tmp_path / "hostile.html"))
    assert page.script == clean.script
    assert page.text.count(HOSTILE) >= 20
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("psnr", "1e999"),
        ("psnr", 1e300),
        ("drop", None),
        ("worst.tile.x", "left"),
        ("rows", 3),
        ("rows.0.psnr", []),
        ("budget", 10**400),
    ],
)
def test_a_damaged_quality_is_one_line(judged: Path, tmp_path: Path, path: str, value: object) -> None:
    proof = json.loads((judged / "proof.json").read_text())
    place: Any = proof["artifacts"][3]["quality"]
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    (judged / "proof.json").write_text(json.dumps(proof))
    with pytest.raises(UserError, match="cannot be read as a proof") as caught:
        report([judged], out=tmp_path / "report.html")
    assert "\n" not in str(caught.value)
