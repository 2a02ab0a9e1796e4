"""What `afterlens evaluate` prints for people: each number where its name is."""

from typing import Any

from afterlens.verbs.evaluate import _beard_scores, _swap_scores, scores
from tests.tables import cells


def test_photos_have_a_row_each_and_the_means_the_last() -> None:
    numbers: dict[str, Any] = {
        "input_psnr": 20.0,
        "psnr": 23.456,
        "psnr_gain": 3.456,
        "input_ssim": 0.5,
        "ssim": 0.87654,
    }
    images: list[dict[str, Any]] = [
        {**numbers, "name": "[red]one", "width": 80, "height": 60, "sharp_psnr": 31.25},
        {**numbers, "name": "two", "width": 80, "height": 60, "psnr_gain": None, "sharp_psnr": None},
    ]
    told = {"task": "udc", "data": "x", "synthesize": None, "fit_colours": False, "fit_shift": False}
    result = {**told, "images": images, "mean": {**numbers, "sharp_psnr": 31.25}, "count": 2}
    one, two, mean = cells(scores(result))
    shown = ["20.00", "23.46", "+3.46", "0.5000", "0.8765", "31.25"]
    assert one == ["[red]one", "80x60", *shown] and mean == ["mean of 2", "", *shown]
    assert two == ["two", "80x60", "20.00", "23.46", "–", "0.5000", "0.8765", "–"]
    result["mean"] = {**numbers, "sharp_psnr": None}  # of no task but deblur
    assert cells(scores(result))[0] == ["[red]one", "80x60", *shown[:-1]]


def test_beards_have_a_row_a_group() -> None:
    names = ("gain", "inside", "around", "bare")
    spreads = {name: {"mean": n + 0.11, "low": n - 0.5, "worst": n - 2.0} for n, name in enumerate(names)}
    group = {**spreads, "count": 4, "removed": 0.75, "grown": 0.5}
    result = {"task": "beard", "data": "x", "all": group, "by_class": {"full": group | {"count": 3}}}
    all_faces, full, dark = cells(_beard_scores({**result, "by_tone": {"dark": group}, "by_sex": {}}))
    shown = ["0.1 (-0.5, -2.0)", "1.1 (0.5, -1.0)", "2.1 (1.5, 0.0)", "3.1 (2.5, 1.0)", "75 %", "50 %"]
    assert all_faces == ["all", "4", *shown] and full == ["full", "3", *shown]
    assert dark == ["dark", "4", *shown]


def test_swaps_have_a_row_a_measure() -> None:
    spread = {"mean": 1.25, "high": 2.5, "worst": 3.75}
    found = {
        **{"to_source": spread, "pixels": spread, "difference": spread},
        **{"target_to_source": 0.11, "first_to_source": 0.22, "nearest": 0.95, "target_nearest": 0.9},
        **{"floor": 0.33, "laid": 4.4, "around": 50.5, "around_worst": 40.4, "count": 7},
    }
    rows = cells(_swap_scores({"all": found, "people": 30, "judge": "own"}))
    assert [row[1] for row in rows] == [
        *("1.25 (95th percentile 2.50, worst 3.75)", "0.11", "0.22", "95 %", "90 %"),
        *("1.25 (95th percentile 2.50, worst 3.75)", "0.33"),
        *("1.2 (95th percentile 2.5, worst 3.8)", "4.4", "50.5 (worst 40.4)"),
    ]
    assert rows[3][0] == "result taken for the source, of 30 people"
