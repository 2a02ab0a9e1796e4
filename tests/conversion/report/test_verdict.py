"""The verdict on top of the report: what passed, what failed, and that nothing is called passed which was not proved."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from afterlens.conversion.bundle.contract import digest, read_bundle
from afterlens.conversion.bundle.proof import proof_of
from afterlens.conversion.report.report import report
from afterlens.conversion.report.templates import FAIL, OPEN, PASS
from afterlens.conversion.report.times import quickest
from afterlens.conversion.report.verdict import Line, Verdict, overall, verdict_of
from tests.conversion.report.bundles import Page, benchmark_of, make_bundle, write_proof


def verdict(folder: Path) -> Verdict:
    bundle = read_bundle(folder)
    return verdict_of(bundle, proof_of(bundle))


def test_an_intact_proved_bundle_passes(tiny: Path) -> None:
    write_proof(tiny)
    assert verdict(tiny) == Verdict(
        PASS,
        (Line(PASS, "2 files unchanged since the proof."), Line(PASS, "2 of 2 float files match PyTorch.")),
        frozenset(),
        frozenset({"tiny_32x24_float32.tflite", "tiny_32x24_float16.tflite"}),
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"),
            "Changed since the proof",
        ),  # same size
        (lambda path: path.write_bytes(b""), "Changed since the proof"),
        (lambda path: path.unlink(), "Deleted since the proof"),
    ],
)
def test_a_file_that_is_not_the_proved_one_fails(
    tiny: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    write_proof(tiny)
    spoil(tiny / "tiny_32x24_float16.tflite")
    found = verdict(tiny)
    assert found.state == FAIL
    assert [line.text for line in found.lines if line.state == FAIL] == [
        f"{words}: tiny_32x24_float16.tflite.",
        "1 of 2 float files match PyTorch; not TFLite float16 32x24.",
    ]
    page = Page(report([tiny], out=tmp_path / "report.html"))
    assert "This bundle failed." in page.text
    assert page.row("TFLite float1632x24")[1] == "changed since the proof"
    assert page.row("TFLite float3232x24")[1] == "pass"
    states = [row[-1] for row in page.rows if row[0] == "tiny_32x24_float16.tflite" and "e-0" in row[2]]
    assert states == ["changed since the proof"]


def test_a_changed_file_within_a_package_fails(judged: Path) -> None:
    with (judged / "tiny_32x24_palettized6.mlpackage" / "weight.bin").open("r+b") as stream:
        stream.write(b"!")
    assert verdict(judged).changed == {"tiny_32x24_palettized6.mlpackage"}
    shutil.rmtree(judged / "tiny_32x24_palettized6.mlpackage")
    assert "Deleted since the proof: tiny_32x24_palettized6.mlpackage." in verdict(judged).lines[0].text


def test_a_failed_proof_of_other_files_does_not_count_as_theirs(tiny: Path) -> None:
    write_proof(tiny, passed=False, failures=["tiny_32x24_float32.tflite: max error is 0.1"])
    proof = json.loads((tiny / "proof.json").read_text())
    proof["artifacts"][1]["sha256"] = "00" * 32
    (tiny / "proof.json").write_text(json.dumps(proof))
    found = verdict(tiny)
    assert found.state == FAIL and found.changed == {"tiny_32x24_float16.tflite"}
    assert Line(FAIL, "tiny_32x24_float32.tflite: max error is 0.1") in found.lines


def test_a_file_that_changed_before_any_proof_fails(tiny: Path) -> None:
    assert verdict(tiny).state == OPEN
    (tiny / "tiny_32x24_float16.tflite").write_bytes(b"other")
    assert verdict(tiny).state == FAIL
    assert verdict(tiny).lines[0] == Line(FAIL, "Changed since the conversion: tiny_32x24_float16.tflite.")


def test_compressed_files_are_not_said_to_match_pytorch(judged: Path) -> None:
    texts = [line.text for line in verdict(judged).lines]
    assert "3 of 3 float files match PyTorch." in texts
    assert (
        "6 of 8 compressed files stay within their limits; not TFLite int8 32x24, Core ML 4-bit palette 32x24."
        in texts
    )


def test_files_that_a_bundle_has_none_of_are_not_counted(judged: Path) -> None:
    for name in ("model.json", "proof.json"):
        document = json.loads((judged / name).read_text())
        document["artifacts"] = [entry for entry in document["artifacts"] if "_float" not in entry["file"]]
        (judged / name).write_text(json.dumps(document))
    texts = [line.text for line in verdict(judged).lines]
    assert any("of 8 compressed files" in text for text in texts)
    assert not any("float files" in text for text in texts)


def test_a_file_that_was_not_run_does_not_pass(tiny: Path) -> None:
    write_proof(tiny)
    proof = json.loads((tiny / "proof.json").read_text())
    proof["artifacts"][1].update(max_error=None, psnr=None, runtime=None, rows=[])
    (tiny / "proof.json").write_text(json.dumps(proof))
    assert verdict(tiny).passed == {"tiny_32x24_float32.tflite"} and verdict(tiny).state == FAIL


def test_one_line_sums_up_all_bundles() -> None:
    def texts(*states: str) -> Line:
        return overall([Verdict(state, (), frozenset(), frozenset()) for state in states])

    assert texts(PASS) == Line(PASS, "This bundle passed.")
    assert texts(OPEN) == Line(OPEN, "This bundle was not verified.")
    assert texts(PASS, PASS, PASS) == Line(PASS, "All 3 bundles passed.")
    assert texts(PASS, FAIL, OPEN) == Line(FAIL, "1 of 3 bundles failed.")
    assert texts(PASS, OPEN, OPEN) == Line(OPEN, "2 of 3 bundles were not verified.")


def test_a_time_is_that_of_its_runtime(tmp_path: Path, photo_path: Path) -> None:
    """Phones time Core ML as well: not every runtime is TFLite."""
    document = benchmark_of(make_bundle(tmp_path / "tiny", photo_path))
    (result, *_) = document["results"]
    result["runtime"]["name"] = "coreml"
    result["artifact"]["variant"] = "int8"
    result["timing"]["p50_ms"] = 0.4
    document["provenance"], document["device"]["name"] = "measured-device", "a phone"
    time, words = quickest(document, "tiny") or ("", "")
    assert time == "0 ms" and words.startswith("Core ML int8 weights at ") and "on a phone" in words
    assert digest(tmp_path / "tiny" / "tiny_32x24_float32.tflite")[0] == result["artifact"]["sha256"]
