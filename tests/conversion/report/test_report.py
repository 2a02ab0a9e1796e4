"""The whole report: complete, self-contained, and safe against what strangers write into bundles."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.conversion.bundle.contract import Bundle, digest, write_contract
from afterlens.conversion.report.report import Comparison, report
from afterlens.conversion.verify.verify import verify
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError
from tests.conversion.report.bundles import (
    HOST_DOCUMENT,
    HOSTILE,
    VARIANTS,
    Page,
    benchmark_of,
    benchmark_of_all,
    make_bundle,
    write_proof,
)

VECTOR = Path(__file__).parents[2] / "vectors" / "bench_expected.json"


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
    assert "(mixed)" not in page.text  # has a gate, but no file
    for expected in (
        "Gates: largest error at most 0.0001 (float32); PSNR at least 60 dB (float16); float files",
        "2 of 2 float files match PyTorch",
        "ab" * 32,
        "CC BY 4.0",
        "torch 2.13.0",
        '"steps": 7',
    ):
        assert expected in page.text
    assert "run on 1 photo (and on: noise), and compared" in page.text
    assert "No phone and no Mac took part" in page.text
    assert "TFLite files were executed on the CPU" in page.text
    for words in (
        "measured-host, not phone latency: AMD EPYC, 2 cores, Linux 6.18",
        "All graphs took turns in every round",
        "10 runs after 3 warm-ups",
        "Load average before and after: 12.07 and 12.98",
        "a 1024x1024 matrix product reached 29 GFLOP/s",
    ):
        assert words in page.text, words


def test_a_phones_times_stand_beside_the_hosts_under_its_name(tiny: Path, tmp_path: Path) -> None:
    """Made-up times: no phone was measured."""
    write_proof(tiny)
    host, phone = benchmark_of(tiny), json.loads(VECTOR.read_text())["document"]
    files = [result["artifact"] for result in host["results"] if result["artifact"]["file"] is not None]
    phone["results"] = phone["results"][:1]
    phone["results"][0]["artifact"] = files[1]
    page = Page(report([tiny], timings=[host, phone], out=tmp_path / "report.html"))
    (columns,) = [row for row in page.rows if row and row[0] == "file" and "verdict" in row]
    assert columns[-2:] == ["host ms", "Example Phone GPU ms"]
    (row,) = [
        row for row in page.rows if row and row[0].startswith("TFLite float16") and len(row) == len(columns)
    ]
    assert row[-1] == "8.5" and row[-2] not in ("–", "8.5")
    assert "measured-device: Example Phone (Example SoC 1, Android 16 (API 36))" in page.text
    assert "Times on Example Phone (Example SoC 1, Android 16 (API 36)): medians, percentiles" in page.text
    for words in ("live 28.6 frames/s", "self-test 61.2 dB", "thermal state none → light, power source usb"):
        assert words in page.text
    assert ["4", "14.0", "moderate", "78 %"] in page.rows
    assert "No phone and no Mac took part" not in page.text


def test_nothing_is_requested_from_elsewhere_and_only_the_own_script_runs(tiny: Path, tmp_path: Path) -> None:
    page = Page(report([tiny], timings=[benchmark_of(tiny)], out=tmp_path / "report.html"))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("href", "src", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    written = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", page.source.replace(page.script, ""))
    assert re.findall(r"url\(|@import|https?:|//[a-z]", written) == []
    assert not re.search(r"fetch|import|XMLHttp|https?:", page.script)
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
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.images()) == 3


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
    assert "No file was compared with PyTorch" in page.text
    assert "No times were measured" in page.text
    assert "were not compared with PyTorch's" in page.text
    assert "were executed" not in page.text
    write_proof(tiny, passed=False, failures=["tiny_32x24_float16.tflite: PSNR is 12.0 dB"])
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "tiny_32x24_float16.tflite: PSNR is 12.0 dB" in page.text
    verdicts = [attributes.get("class") for tag, attributes in page.tags if tag == "span"]
    assert verdicts.count("state fail") == 2  # on top and at the bundle
    assert "This bundle failed." in page.text


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
    assert page.text.count("Proof: comparison with PyTorch") == 1
    assert "1 of 2 bundles was not verified." in page.text
    assert {a["href"] for tag, a in page.tags if tag == "a"} == {"#bundle-1", "#bundle-2", "#limits"}
    assert {"bundle-1", "bundle-2", "limits"} <= {a.get("id") for tag, a in page.tags if tag == "section"}
    assert sum(row[0] == document["results"][0]["id"] for row in page.rows) == 1


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one bundle"):
        report([], out=tmp_path / "report.html")


def test_each_photo_is_shown_once(tiny: Path, tmp_path: Path, photo_path: Path) -> None:
    photos = [Comparison("room", photo_path, photo_path.parent.parent / "degraded" / "shadow.jpg")]
    page = Page(report([tiny], photos=photos, out=tmp_path / "report.html"))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert (
        len(sources) == len(set(sources)) == 2 + 3
    )  # the photo before and after, the golden one with its layer
    assert "cloneNode" not in page.script


def test_long_tables_are_folded(judged: Path, tmp_path: Path) -> None:
    page = Page(report([judged], timings=[benchmark_of_all(judged)], out=tmp_path / "report.html"))
    assert page.unfolded_rows == 1 + len(VARIANTS)  # of all tables only the overview is open
    assert len(page.rows) > 4 * len(VARIANTS)
