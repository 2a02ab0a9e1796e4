"""The schema that host and phones share: what it takes and what it refuses. host.json is a real run, shortened."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from afterlens.benchmarks.document import SCHEMA_FILE, check, read_document
from afterlens.training.media.errors import UserError
from afterlens.verbs.bench import times
from tests.tables import cells

HOST = Path(__file__).with_name("host.json")


@pytest.fixture
def document() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(HOST.read_text())
    return result


def test_the_schema_takes_a_host_document_and_refuses_others(document: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(change(document, "results.0.timing.p50_ms", -1.0)))
    assert list(validator.iter_errors(change(document, "device.hostname", "my-machine")))


def test_a_host_document_is_read(document: dict[str, Any]) -> None:
    assert read_document(HOST) == document


def test_a_document_of_version_1_becomes_one_of_version_2(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({**document, "schema_version": 1}))
    assert read_document(path) == document
    path.write_text(json.dumps({**document, "schema_version": 1, "machine": 3}))
    with pytest.raises(UserError, match="machine"):
        read_document(path)


def test_a_phone_document_needs_neither_yardstick_nor_reference(document: dict[str, Any]) -> None:
    document.update(
        provenance="measured-device",
        machine=None,
        conditions={"interleaved": False, "thermal_state": ["nominal", "fair"], "low_power_mode": False},
        results=document["results"][:1],
        ratios=[],
    )
    result = document["results"][0]
    result["runtime"].update(name="coreml", threads=None, compute_unit="all", delegate=None)
    result.update(share_of_matmul=None, max_error=None)
    result["timing"].update(peak_rss_bytes=None, init_ms=None)
    check(document, "phone")
    document["device"].update(cpu=None, memory_bytes=None, soc=None)
    document["conditions"].update(thermal_state=None, power_source=None)
    result.update(self_test=None, live=None, sustained=None)
    check(document, "phone")


def change(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the entry at the dotted path replaced, or removed where `value` is Ellipsis."""
    changed = copy.deepcopy(document)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = changed
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 3),
        ("provenance", "published"),
        ("device.cores", 2.0),
        ("device.memory_bytes", 10**30),
        ("provenance", ...),
        ("device.memory_bytes", "25 GB"),
        ("device.cpu", ...),
        ("conditions.power_source", "sun"),
        ("conditions.thermal_state", ["none"]),
        ("results.0.self_test", {"psnr": 50.0}),
        ("results.0.live", {"seconds": 10.0, "fps": 30.0, "dropped": 0, "stages": {}}),
        ("results.0.sustained", [{"p50_ms": 8.0, "thermal_state": "none", "battery_percent": 101}]),
        ("device.hostname", "my-machine"),
        ("conditions.load_average", [1.0]),
        ("machine.matmul_gflops", 0),
        ("results", []),
        ("results.0.artifact.sha256", "abc"),
        ("results.0.artifact.macs", ...),
        ("results.0.timing.p99_ms", ...),
        ("results.0.timing.p50_ms", -1.0),
        ("results.0.timing.samples_ms", [1.0, 0.0]),
        ("results.0.runtime.name", "tensorrt"),
        ("results.0.runtime.compute_unit", "ane"),
        ("ratios.0.p50", 0),
    ],
)
def test_a_wrong_entry_is_named(document: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(UserError, match=r"^bench.json: \$") as caught:
        check(change(document, path, value), "bench.json")
    assert "\n" not in str(caught.value)
    parent = path.split(".", maxsplit=1)[0]
    assert parent in str(caught.value)


def test_results_are_told_apart_and_ratios_refer_to_them(document: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="same id"):
        check(change(document, "results.1.id", document["results"][0]["id"]), "bench.json")
    with pytest.raises(UserError, match="'another' of a ratio"):
        check(change(document, "ratios.0.baseline", "another"), "bench.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": NaN}', "[1e999]", "[" * 5000])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_document(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_document(tmp_path / "none.json")


def test_people_see_the_numbers_and_a_dash_where_there_is_none(document: dict[str, Any]) -> None:
    own, other = document["results"][:2]
    own["timing"] |= {"init_ms": None, "peak_rss_bytes": None}
    own["share_of_matmul"] = None
    types = [
        {"type": "CONV_2D", "count": 3, "ms": 3.21, "share": 0.6, "gflops": 40.4, "share_of_matmul": 0.5},
        {"type": "MUL", "count": 1, "ms": 2.0, "share": 0.4, "gflops": None, "share_of_matmul": None},
    ]
    other["operators"] = {"types": types, "outside_share": 0.0, "sum_ms": 5.2, "whole_ms": 5.0}
    first, second, *_, of_type, of_other = cells(times(document))
    assert first == [own["id"], "128.7", "161.7", "164.9", "1 (baseline)", "–", "–", "1.24", "19", "–"]
    ratio = ["1.09 (0.91–1.22)", "70", "108"]
    assert second == [other["id"], "143.3", "171.8", "178.1", *ratio, "1.24", "17", "59%"]
    assert of_type == ["CONV_2D", "3", "3.21", "60%", "40", "50%"]
    assert of_other == ["MUL", "1", "2.00", "40%", "–", "–"]
