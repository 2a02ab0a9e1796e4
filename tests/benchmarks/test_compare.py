"""Comparing two conversions: what counts as a regression, what does not, and what is said of what was not judged."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from afterlens.benchmarks.compare import Limits, compare, require, share, slowdown_interval
from afterlens.benchmarks.compare_text import markdown
from afterlens.conversion.bundle.contract import digest
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.verbs.compare import differences

HOST = Path(__file__).with_name("host.json")
FLOAT16 = "TFLite float16 256x256"
HOSTILE = "`|</td>\n@everyone <img src=x> [a](http://b) \x1b[31m"
Cli = Callable[..., Any]


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def benchmark(
    path: Path,
    *,
    slower: float = 1.0,
    busy: float = 1.0,
    noise: float = 0.05,
    seed: int = 0,
    rounds: int = 30,
) -> Path:
    """A host's document of so many rounds. `slower`: the float16 file alone; `busy`: the machine, everything on it."""
    document: dict[str, Any] = json.loads(HOST.read_text())
    rng = np.random.default_rng(seed)
    disturbed = busy * rng.lognormal(0, 0.2, rounds)  # hits all that runs in a round alike

    def samples(milliseconds: float) -> list[float]:
        return [float(ms) for ms in milliseconds * disturbed * rng.lognormal(0, noise, rounds)]

    document["machine"]["samples_ms"] = samples(25.0)
    for result in document["results"]:
        factor = slower if result["artifact"]["variant"] == "float16" else 1.0
        times = samples(result["timing"]["min_ms"] * factor)
        result["timing"].update(samples_ms=times, p50_ms=float(np.median(times)), runs=len(times))
    return write(path, document)


def changed(path: Path, source: Path, **places: Any) -> Path:
    """A copy of a JSON file with the values at dotted places (dots written as __) replaced."""
    document = json.loads(source.read_text())
    for name, value in places.items():
        *parents, last = [int(part) if part.isdigit() else part for part in name.split("__")]
        place: Any = document
        for part in parents:
            place = place[part]
        place[last] = value
    return write(path, document)


def proof(
    path: Path, psnr: float = 22.40, *, fidelity: float = 70.0, ssim: float = 0.89, size: int = 1000
) -> Path:
    """A proof.json of one float16 file on two pictures; `psnr` is the mean of 21.40 and 23.40 or so."""
    drop = 22.41 - psnr
    tile = {"x": 0, "y": 0, "width": 32, "height": 32, "drop": drop}
    numbers = {
        **{"psnr": psnr, "ssim": ssim, "reference_psnr": 22.41, "reference_ssim": 0.89},
        **{"input_psnr": 15.0, "drop": drop},
    }
    rows = [
        {**numbers, "image": image, "psnr": psnr + shift, "fidelity": 60.0, "tile": tile}
        for image, shift in (("room", -1.0), ("visitor", 1.0))
    ]
    worst = {"image": "room", "drop": drop, "tile": tile, "heatmap": None}
    quality = {"budget": 0.3, **numbers, "passed": True, "worst": worst, "rows": rows}
    row = {
        **{"image": "room", "output": "restored", "psnr": fidelity, "max_error": 1e-3, "mean_error": 1e-5},
        **{"levels": 1, "stored_error": None, "lowest": 0.0, "highest": 1.0, "faults": []},
        "worst": {"where": "x 1, y 2, R", "got": 0.5, "expected": 0.501},
    }
    entry = {
        **{"file": "tiny_256x256_float16.tflite", "format": "tflite", "variant": "float16"},
        **{"width": 256, "height": 256, "sha256": "00" * 32, "bytes": size, "runtime": "litert"},
        **{"passed": True, "faults": [], "max_error": 1e-3, "psnr": fidelity, "rows": [row]},
        **{"provenance": "measured-host", "quality": quality},
    }
    gates = {
        **{"max_error": {}, "max_stored_error": {}, "min_psnr": {"float16": 60.0}},
        **{"max_levels": {"float16": 1}, "range_slack": 1e-6},
    }
    found = {
        **{"schema_version": 2, "task": "tiny", "version": "1", "passed": True, "failures": []},
        **{"checkpoint_sha256": "ab" * 32, "gates": gates, "photos": [], "images": ["room"]},
        **{"golden_files": 0, "tools": {}, "artifacts": [entry]},
    }
    return write(path, {**found, "ground_truth": {"pairs": ["room", "visitor"], "budgets": {}}})


def changes(result: dict[str, Any], name: str = FLOAT16) -> dict[str, dict[str, Any]]:
    (artifact,) = [artifact for artifact in result["artifacts"] if artifact["id"] == name]
    return {change["measure"]: change for change in artifact["changes"]}


# --- time -----------------------------------------------------------------------------------------------------


def test_a_busy_machine_is_no_regression(tmp_path: Path) -> None:
    base = benchmark(tmp_path / "base.json")
    for seed in range(1, 20):
        new = benchmark(tmp_path / "new.json", busy=3.0, seed=seed)
        result = compare(base, new)
        assert result["passed"], result["regressions"]
        times = changes(result)["time"]
        assert times["over"] == "matrix product"
        assert times["low"] < times["change"] < times["high"]


def test_a_slower_file_is_a_regression_on_a_machine_that_is_three_times_as_fast(tmp_path: Path) -> None:
    base = benchmark(tmp_path / "base.json", busy=3.0)
    for seed in range(1, 20):
        result = compare(base, benchmark(tmp_path / "new.json", slower=1.3, seed=seed))
        assert changes(result)["time"]["verdict"] == "worse", changes(result)["time"]
        assert changes(result, "TFLite float32 256x256")["time"]["verdict"] != "worse"
        with pytest.raises(GateFailed, match="TFLite float16 256x256: time .* at most \\+10 % is allowed$"):
            require(result)


def test_what_may_be_noise_is_unclear_and_passes(tmp_path: Path) -> None:
    base = benchmark(tmp_path / "base.json", noise=0.4)
    result = compare(base, benchmark(tmp_path / "new.json", noise=0.4, slower=1.15, seed=1))
    assert changes(result)["time"]["verdict"] == "unclear"
    require(result)


def test_a_faster_file_is_better_and_the_limit_is_kept(tmp_path: Path) -> None:
    base = benchmark(tmp_path / "base.json")
    faster = compare(base, benchmark(tmp_path / "new.json", slower=0.6, seed=1))
    assert changes(faster)["time"]["verdict"] == "better"
    slower = benchmark(tmp_path / "new.json", slower=1.3, seed=1)
    assert compare(base, slower, limits=Limits(max_slowdown=0.6))["passed"]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Both sides of one distribution, 200 times: the quotient's true value is 1."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        base, new = (rng.lognormal(0, 0.1, 30) for _ in range(2))
        low, high = slowdown_interval(base, new)
        covered += low <= 0 <= high
    assert 180 <= covered <= 200, covered


def test_pytorch_stands_in_only_where_it_computed_the_same(tmp_path: Path) -> None:
    """A network that grew slows PyTorch as well, and the share would stay the same."""
    base, new = benchmark(tmp_path / "base.json"), benchmark(tmp_path / "new.json", slower=1.3, seed=1)
    for path in (base, new):
        document = json.loads(path.read_text())
        del document["machine"]["samples_ms"]
        write(path, document)
    times = changes(compare(base, new))["time"]
    assert (times["over"], times["verdict"]) == ("PyTorch", "worse")
    names = [result["runtime"]["name"] for result in json.loads(new.read_text())["results"]]
    eager = f"results__{names.index('pytorch')}__artifact__macs"
    result = compare(base, changed(tmp_path / "grown.json", new, **{eager: 10**9}))
    assert "time" not in changes(result)
    assert "neither the matrix product nor the same network" in result["artifacts"][0]["not_evaluated"][0]


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("device__cpu", "another", "other processors"),
        ("conditions__interleaved", False, "did not take turns"),
        ("results__1__runtime__threads", 4, "1 and 4 threads"),
        (
            "provenance",
            "measured-device",
            "measured on a device and elsewhere (measured-device, measured-host)",
        ),
        ("results__1__timing__samples_ms", [1.0, 2.0], "fewer than 8 rounds"),
    ],
)
def test_times_that_do_not_compare_are_not_judged_and_it_is_said_why(
    tmp_path: Path, place: str, value: Any, reason: str
) -> None:
    base = benchmark(tmp_path / "base.json")
    new = changed(tmp_path / "new.json", benchmark(tmp_path / "slow.json", slower=5.0), **{place: value})
    result = compare(base, new)
    assert "time" not in changes(result)
    (artifact,) = [artifact for artifact in result["artifacts"] if artifact["id"] == FLOAT16]
    assert reason in artifact["not_evaluated"][0]
    assert reason in markdown(result)


@pytest.mark.parametrize(
    ("rounds", "judged"), [((8, 8), True), ((7, 7), False), ((30, 7), False), ((7, 30), False)]
)
def test_few_rounds_are_not_judged(tmp_path: Path, rounds: tuple[int, int], judged: bool) -> None:
    base, new = (benchmark(tmp_path / f"{i}.json", rounds=count) for i, count in enumerate(rounds))
    result = compare(base, new)
    assert ("time" in changes(result)) is judged
    assert ("fewer than 8 rounds were recorded" in markdown(result)) is not judged


# --- quality, size and numerics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "measure"),
    [
        ({"psnr": 22.34}, "psnr"),
        ({"ssim": 0.887}, "ssim"),
        ({"fidelity": 66.9}, "fidelity"),
        ({"size": 1011}, "bytes"),
    ],
)
def test_each_limit_is_a_gate_of_its_own(tmp_path: Path, new: dict[str, Any], measure: str) -> None:
    base = proof(tmp_path / "base.json")
    result = compare(base, proof(tmp_path / "new.json", **new))
    assert [name for name, change in changes(result).items() if change["verdict"] == "worse"] == [measure]
    assert len(result["regressions"]) == 1
    # The other way round it is better, and no regression.
    back = compare(tmp_path / "new.json", base)
    assert changes(back)[measure]["verdict"] == "better" and back["passed"]


def test_exactly_as_much_as_is_allowed_passes(tmp_path: Path) -> None:
    base = proof(tmp_path / "base.json", 30.05, size=1000)
    new = proof(tmp_path / "new.json", 30.00, fidelity=67.0, ssim=0.888, size=1010)
    assert compare(base, new)["passed"]


def test_only_pictures_that_both_sides_evaluated_count(tmp_path: Path) -> None:
    base = proof(tmp_path / "base.json")
    rows = json.loads(base.read_text())["artifacts"][0]["quality"]["rows"]
    easier = [rows[0], {**rows[1], "image": "sky", "psnr": 40.0}]
    result = compare(base, changed(tmp_path / "new.json", base, artifacts__0__quality__rows=easier))
    assert changes(result)["psnr"]["change"] == 0 and changes(result)["psnr"]["over"] == "1 picture"
    other = [{**row, "image": row["image"] + "2"} for row in rows]
    result = compare(base, changed(tmp_path / "new.json", base, artifacts__0__quality__rows=other))
    assert "psnr" not in changes(result)
    assert result["artifacts"][0]["not_evaluated"] == ["quality: no picture was evaluated on both sides"]


def test_rounding_far_above_what_matters_is_no_loss(tmp_path: Path) -> None:
    """float32 files are at 100 dB or 92 dB as rounding has it."""
    base, new = (proof(tmp_path / f"{db}.json", fidelity=db) for db in (100.0, 92.0))
    assert compare(base, new)["passed"]


def test_a_gate_that_fails_now_is_a_regression(tmp_path: Path) -> None:
    base = proof(tmp_path / "base.json")
    for place, gate in (("passed", "the proof against PyTorch"), ("quality__passed", "its quality budget")):
        new = changed(tmp_path / "new.json", base, **{f"artifacts__0__{place}": False})
        result = compare(base, new)
        assert result["regressions"] == [f"{FLOAT16}: {gate} passed before and fails now"]
        assert gate in markdown(result)
        assert compare(new, new)["passed"]  # it failed before as well


def test_a_proof_without_ground_truth_compares_its_numerics(tmp_path: Path) -> None:
    base = proof(tmp_path / "base.json")
    new = changed(tmp_path / "new.json", base, artifacts__0__quality=None)
    result = compare(base, new)
    assert set(changes(result)) == {"fidelity", "bytes"}
    assert result["artifacts"][0]["not_evaluated"] == [
        "quality: the new side was not evaluated against ground truth"
    ]


def test_a_proof_of_an_older_version_says_what_to_do(tmp_path: Path) -> None:
    base = proof(tmp_path / "base.json")
    old = changed(tmp_path / "old.json", base, schema_version=1)
    with pytest.raises(
        UserError, match="old.json: is a proof of an older version .*; run `afterlens verify` again"
    ):
        compare(old, base)


# --- bundles ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One float16 TFLite file that has a single operator, as a bundle."""
    from tests.benchmarks.test_operators import File, pool_options

    folder = tmp_path / "base"
    folder.mkdir()
    one = File()
    photo, half = one.tensor((1, 32, 32, 3)), one.tensor((1, 16, 16, 3))
    one.operator("AVERAGE_POOL_2D", [photo], [half], pool_options())
    one.write(folder / "tiny_256x256_float16.tflite", [photo], [half])
    write_contract_of(folder)
    return folder


def write_contract_of(folder: Path, **ports: Any) -> None:
    tensor = {
        **{"name": "image", "shape": [1, 256, 256, 3], "layout": "NHWC", "dtype": "float32", "range": [0, 1]},
        **{"colour_space": "sRGB", "meaning": "photo"},
    }
    artifacts = []
    for path in sorted(folder.glob("*.tflite")):
        sha256, size = digest(path)
        variant = path.stem.removeprefix("tiny_256x256_")
        artifacts.append(
            {
                **{"file": path.name, "format": "tflite", "variant": variant, "width": 256, "height": 256},
                **{"sha256": sha256, "bytes": size, "minimum_runtime": "TFLite 2.9"},
                **{"inputs": [{**tensor, **ports}], "outputs": [{**tensor, "name": "restored"}]},
                **{"parameters": 0, "macs": 0},
            }
        )
    provenance = {"checkpoint_sha256": "ab" * 32, "recipe": {}, "data_licence": "CC BY 4.0", "tools": {}}
    contract = {"schema_version": 1, "task": "tiny", "title": "Tiny", "version": "1", "artifacts": artifacts}
    write(folder / "model.json", {**contract, "golden": [], "provenance": provenance})


def second(bundle: Path) -> Path:
    return Path(shutil.copytree(bundle, bundle.parent / "new"))


def test_a_bundle_is_as_good_as_itself(bundle: Path) -> None:
    result = compare(bundle, second(bundle))
    assert result["passed"] and not result["added"] and not result["removed"]
    assert changes(result)["bytes"]["change"] == 0
    assert [note for note in result["notes"] if "was not verified" in note and "base" in note]


def test_a_bundle_and_a_proof_are_compared_by_what_both_know(bundle: Path, tmp_path: Path) -> None:
    other = proof(tmp_path / "proof.json")
    for sides in ((bundle, other), (other, bundle)):
        (found,) = compare(*sides, limits=Limits(max_size_growth=1e6, allow_breaking=True))["artifacts"]
        assert (found["operators"], found["ports"]) == ({}, [])
        assert {change["measure"] for change in found["changes"]} <= {"bytes"}


def test_operators_that_changed_are_counted(bundle: Path) -> None:
    from tests.benchmarks.test_operators import File, pool_options

    new, two = second(bundle), File()
    photo, half, quarter = (two.tensor((1, side, side, 3)) for side in (32, 16, 8))
    two.operator("AVERAGE_POOL_2D", [photo], [half], pool_options())
    two.operator("AVERAGE_POOL_2D", [half], [quarter], pool_options())
    two.operator("LOGISTIC", [quarter], [quarter])
    two.write(new / "tiny_256x256_float16.tflite", [photo], [quarter])
    write_contract_of(new)
    result = compare(bundle, new, limits=Limits(max_size_growth=2.0))
    assert result["passed"]
    assert result["artifacts"][0]["operators"] == {"AVERAGE_POOL_2D": (1, 2), "LOGISTIC": (0, 1)}
    assert "AVERAGE_POOL_2D 1 → 2, LOGISTIC 0 → 1" in markdown(result)


def test_a_removed_artifact_or_a_changed_input_breaks_apps(bundle: Path) -> None:
    new = second(bundle)
    (bundle / "tiny_256x256_float32.tflite").write_bytes((new / "tiny_256x256_float16.tflite").read_bytes())
    write_contract_of(bundle)
    write_contract_of(new, range=[-1, 1])
    result = compare(bundle, new)
    assert result["regressions"] == [
        f"{FLOAT16}: input 'image': range [0, 1] -> [-1, 1]",
        "TFLite float32 256x256: was removed",
    ]
    assert compare(bundle, new, limits=Limits(allow_breaking=True))["passed"]
    assert compare(new, bundle, limits=Limits(allow_breaking=True))["added"] == ["TFLite float32 256x256"]
    renamed = compare(bundle, _with(new, name="picture"))["artifacts"][0]["ports"]
    assert renamed == ["input 'image' was removed", "input 'picture' is new"]


def _with(folder: Path, **ports: Any) -> Path:
    write_contract_of(folder, **ports)
    return folder


def test_benchmarks_beside_bundles_must_be_of_them(bundle: Path, tmp_path: Path) -> None:
    new = second(bundle)
    times = [benchmark(tmp_path / f"{side}.json", seed=seed) for seed, side in enumerate(("b", "n"))]
    with pytest.raises(UserError, match="is another file than"):
        compare(bundle, new, bench=(times[0], times[1]))
    own = digest(bundle / "tiny_256x256_float16.tflite")[0]
    for path in times:
        changed(path, path, results__1__artifact__sha256=own)
    result = compare(bundle, new, bench=(times[0], times[1]))
    assert set(changes(result)) == {"bytes", "time"}
    with pytest.raises(UserError, match="are for a bundle folder"):
        compare(times[0], times[1], bench=(times[0], times[1]))


def test_one_slow_round_is_no_regression(tmp_path: Path) -> None:
    base, new = (benchmark(tmp_path / f"{side}.json", seed=1) for side in "bn")
    document = json.loads(new.read_text("utf-8"))
    for result in document["results"]:
        result["timing"]["samples_ms"][3] *= 100
    new.write_text(json.dumps(document), "utf-8")
    time = changes(compare(base, new))["time"]
    assert abs(time["change"]) < 0.02, time


def test_a_benchmark_with_two_results_of_one_artifact_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = benchmark(tmp_path / "b.json", seed=0)
    document = json.loads(path.read_text("utf-8"))
    double = next(r for r in document["results"] if r["artifact"]["file"] is not None)
    document["results"].append({**double, "id": f"{double['id']}-again"})
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(UserError, match="two results are of TFLite"):
        compare(path, path)


def test_a_damaged_bundle_is_not_compared(bundle: Path) -> None:
    new = second(bundle)
    (new / "tiny_256x256_float16.tflite").write_bytes(b"short")
    with pytest.raises(UserError, match="has 5 bytes"):
        compare(bundle, new)


# --- bad input and output -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "{}", '{"gates": 1}', '{"results": []}', '{"gates": NaN}', "[" * 5000]
)
def test_other_files_are_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"other\.json") as caught:
        compare(path, HOST)
    assert "\n" not in str(caught.value)


def test_what_has_nothing_in_common_is_refused(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(UserError, match="nothing|no artifact in common|task"):
        compare(bundle, HOST)
    with pytest.raises(UserError, match="cannot be read"):
        compare(tmp_path / "none.json", HOST)
    with pytest.raises(UserError, match="no model.json"):
        compare(tmp_path, HOST)
    with pytest.raises(UserError, match="max psnr drop: got nan"):
        compare(HOST, HOST, limits=Limits(max_psnr_drop=float("nan")))


def test_percentages_need_their_sign() -> None:
    assert (share("10%"), share(" 0.5 %"), share("-5%")) == (0.1, 0.005, -0.05)
    for text in ("10", "ten%", "", "%", "nan%", "inf%"):
        with pytest.raises(UserError, match="expected a percentage"):
            share(text)


def test_strangers_words_stay_words_in_markdown_and_on_the_terminal(tmp_path: Path) -> None:
    document = json.loads(benchmark(tmp_path / "base.json").read_text())
    for result in document["results"]:
        result["artifact"]["variant"] += HOSTILE
    for name in ("base.json", "new.json"):
        write(tmp_path / name, document)
    text = markdown(compare(tmp_path / "base.json", tmp_path / "new.json"))
    rows = [line for line in text.splitlines() if line.startswith("| `TFLite")]
    assert len(rows) == 2
    for row in rows:
        assert row.count("|") == 4 and row.count("`") == 2  # one code span in a table of three columns
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(differences(compare(tmp_path / "base.json", tmp_path / "new.json")))
    assert "\x1b[31m" not in console.export_text()


def test_markdown_is_a_table_with_the_verdict_first(tmp_path: Path) -> None:
    good, bad = benchmark(tmp_path / "base.json"), benchmark(tmp_path / "new.json", slower=1.5, seed=1)
    text = markdown(compare(good, bad))
    assert text.splitlines()[0] == "### afterlens compare: `base.json` → `new.json`: ❌ 1 regression"
    assert text.splitlines()[2:4] == ["| artifact | size | time |", "| --- | --- | --- |"]
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{FLOAT16}`")]
    assert "❌ **" in row and "× matrix product" in row
    assert "✅ no regression" in markdown(compare(good, good)).splitlines()[0]


def test_the_command_ends_with_1_on_a_regression_and_2_on_bad_input(cli: Cli, tmp_path: Path) -> None:
    good, bad = benchmark(tmp_path / "base.json"), benchmark(tmp_path / "new.json", slower=1.5, seed=1)
    page = tmp_path / "comment.md"
    result = cli("compare", good, bad, "--markdown", page, "--json")
    assert result.code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert result.stderr.startswith(f"error: gate failed: {FLOAT16}: time ")
    assert page.read_text().startswith("### afterlens compare")
    assert cli("compare", good, bad, "--max-slowdown", "80%").code == 0
    table = cli("compare", good, bad).stdout
    header, row = (
        re.split(r"\s*[│┃]\s*", line)[1:-1]
        for line in table.splitlines()
        if re.search("artifact|float16", line)
    )
    print(table)
    assert header[0] == "artifact" and len(header) == len(row) and "" not in header
    for wrong in ((good, tmp_path / "none.json"), (good, bad, "--max-slowdown", "0.1")):
        result = cli("compare", *wrong)
        assert result.code == 2 and len(result.stderr.splitlines()) == 1
