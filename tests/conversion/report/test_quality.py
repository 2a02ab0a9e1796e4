"""The report's numbers on quality and time: tables, heat maps, plots and operators."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.conversion.bundle.proof import read_proof
from afterlens.conversion.report.heatmaps import heat_maps
from afterlens.conversion.report.report import report
from afterlens.training.media.errors import UserError
from tests.conversion.report.bundles import HOSTILE, VARIANTS, Page, benchmark_of_all, write_proof


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
    assert "The unprocessed inputs have 15.50 dB" in page.text


def test_every_variant_has_a_name_of_its_own(judged: Path) -> None:
    from afterlens.conversion.bundle.contract import SCHEMA_FILE
    from afterlens.conversion.bundle.variants import label, stored

    variants = json.loads(SCHEMA_FILE.read_text())["$defs"]["Artifact"]["properties"]["variant"]["enum"]
    assert {variant for _, variant, *_ in VARIANTS} == set(variants)
    for format_ in ("tflite", "coreml"):
        own = [variant for kind, variant, *_ in VARIANTS if kind == format_]
        assert len({label(format_, variant) for variant in own}) == len(own)
        assert all("_" not in label(format_, v) and "_" not in stored(format_, v) for v in own)


def test_heat_maps_are_those_of_the_worst_picture_of_each_variant(judged: Path, tmp_path: Path) -> None:
    page = Page(report([judged], out=tmp_path / "report.html"))
    maps = [a for tag, a in page.tags if tag == "img" and (a["alt"] or "").startswith("Heat map")]
    assert [a["alt"] for a in maps] == [
        f"Heat map, {name}, 32x24: room: {drop:.2f} dB ({2 * drop:.2f} dB at x 16, y 0)"
        for name, drop in (
            *(("TFLite int8", 0.93), ("TFLite int8, mixed", 0.31)),
            *(("Core ML 6-bit palette", 0.22), ("Core ML 4-bit palette", 1.1)),
        )
    ]
    (judged / "heatmaps" / "tiny_32x24_mixed.tflite_room.png").unlink()
    page = Page(report([judged], out=tmp_path / "report.html"))
    assert sum((a.get("alt") or "").startswith("Heat map") for _, a in page.tags) == len(maps) - 1


@pytest.mark.parametrize("larger_loses_more", [True, False])
def test_a_heat_map_is_that_of_the_size_that_loses_most(judged: Path, larger_loses_more: bool) -> None:
    proof = read_proof(judged / "proof.json")
    (mixed,) = (entry for entry in proof.artifacts if entry.variant == "mixed" and entry.format == "tflite")
    assert mixed.quality is not None
    other = replace(mixed.quality, drop=mixed.quality.drop + (0.1 if larger_loses_more else -0.1))
    larger = replace(mixed, file="larger.tflite", width=64, height=48, quality=other)
    for order in ((mixed, larger), (larger, mixed)):
        (found,) = heat_maps(judged, replace(proof, artifacts=order))
        assert ("64x48" in found.title) == larger_loses_more


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


def test_a_heat_map_shows_small_differences_and_the_worst_tile(judged: Path, tmp_path: Path) -> None:
    """Stored maps are black for most files: they are brightened, with a scale, and the worst tile is enlarged."""
    proof = json.loads((judged / "proof.json").read_text())
    (found,) = [e for e in proof["artifacts"] if e["variant"] == "palettized6"]
    proof["artifacts"] = [
        e
        if e is found
        else {**e, "quality": {**e["quality"], "worst": {**e["quality"]["worst"], "heatmap": None}}}
        for e in proof["artifacts"]
    ]
    (judged / "proof.json").write_text(json.dumps(proof))
    levels = np.zeros((24, 32))  # of 255
    levels[4:12, 20:28] = 1.9
    heat = levels / 255 * 16
    ramp = np.stack([np.clip(heat * 3 - shift, 0, 1) for shift in (0, 1, 2)], axis=2)
    Image.fromarray(np.rint(ramp * 255).astype(np.uint8)).save(judged / found["quality"]["worst"]["heatmap"])
    page = Page(report([judged], out=tmp_path / "report.html"))
    assert re.search(r"0\s*2\s*Core ML 6-bit palette", page.text)
    (index,) = [
        i
        for i, a in enumerate(a for tag, a in page.tags if tag == "img" and "jpeg" in (a["src"] or ""))
        if (a["alt"] or "").startswith("Heat map")
    ]
    drawn = np.asarray(page.images()[index], np.float32).mean(axis=2)
    height, width = drawn.shape
    whole, tile = drawn[:, : width // 2 - 4], drawn[:, width // 2 + 4 :]
    assert (
        np.median(
            whole[int(0.2 * height) : int(0.45 * height), int(0.66 * width / 2) : int(0.84 * width / 2)]
        )
        > 150
    )
    assert np.median(whole[int(0.6 * height) :]) < 20
    # The tile is (16, 0) to (32, 16): the difference fills a quarter of it, from a quarter of each side.
    assert (
        np.median(tile[int(0.3 * height) : int(0.7 * height), int(0.3 * width / 2) : int(0.7 * width / 2)])
        > 150
    )
    assert np.median(tile[int(0.8 * height) : int(0.98 * height)]) < 20


def test_a_tile_outside_the_picture_is_not_drawn(judged: Path, tmp_path: Path) -> None:
    proof = json.loads((judged / "proof.json").read_text())
    for entry in proof["artifacts"]:
        entry["quality"]["worst"]["tile"] = {"x": 30, "y": 5000, "width": 16384, "height": 1, "drop": 1.0}
    (judged / "proof.json").write_text(json.dumps(proof))
    page = Page(report([judged], out=tmp_path / "report.html"))
    assert {image.size for image in page.images()} == {(32, 24)}


def test_cost_and_quality_are_plotted_with_every_variant_named(judged: Path, tmp_path: Path) -> None:
    document = benchmark_of_all(judged)
    page = Page(report([judged], timings=[document], out=tmp_path / "report.html"))
    assert len(page.drawings()) == 2
    size, time = [a["alt"] or "" for tag, a in page.tags if "svg+xml" in (a.get("src") or "")]
    assert size.startswith("Size of the file, 32x24: TFLite float32 3.95 MB 22.41 dB, TFLite float16")
    assert size.count(" MB ") == len(VARIANTS) and "Core ML 4-bit palette 0.69 MB 21.87 dB" in size
    assert time.startswith("Time on this host, 32x24: TFLite float32") and time.count(" ms ") == 2
    assert "PSNR against the ground truth" in page.text
    assert "reference-execution" in page.text and "inferred" in page.text


def test_without_ground_truth_the_plot_is_of_the_numerics(tiny: Path, tmp_path: Path) -> None:
    write_proof(tiny)
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "PSNR against PyTorch, worst picture (nothing was compared" in page.text
    assert "Heat maps" not in page.text and "Quality" not in page.text
    (tiny / "proof.json").unlink()
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert not page.drawings()


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
