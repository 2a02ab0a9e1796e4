"""Pair discovery on the naming habits of the public sets, with the files that lie beside the pairs there."""

from pathlib import Path

import pytest
from PIL import Image

from afterlens.training.media.errors import UserError
from afterlens.training.pairs import Pair, check_sizes, find_pairs, find_scenes, match_folders


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not decoded here")
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["a-input.png", "a-label1.png", "a-label2.png", "b-input.png", "b-label1.png", "SOURCE.txt"],
            [("a", "a-input.png", "a-label1.png"), ("b", "b-input.png", "b-label1.png")],
        ),
        (["blend_01.png", "gt_01.jpg"], [("01", "blend_01.png", "gt_01.jpg")]),
        (["lq_1.png", "gt_1.png"], [("1", "lq_1.png", "gt_1.png")]),
        (["udc_1.png", "ref_1.png"], [("1", "udc_1.png", "ref_1.png")]),
        (
            [
                "O_1_ambient.jpg",
                "O_1_ambient_R.jpg",
                "O_1_ambient_T.jpg",
                "O_1_flash.jpg",
                "O_1_pureflash.jpg",
            ],
            [("O_1", "O_1_ambient.jpg", "O_1_ambient_T.jpg")],
        ),
        (
            ["1-5_shadow.png", "1-5_shadow_free_original.png", "1-5_shadow_mask.png"],
            [("1-5", "1-5_shadow.png", "1-5_shadow_free_original.png")],
        ),
        (["0_gt.png", "0_mask.png", "0_shadow.png"], [("0", "0_shadow.png", "0_gt.png")]),
        (
            ["input/x.jpg", "target/x.png", "target/y.png", "input/.x.jpg"],
            [("x", "input/x.jpg", "target/x.png")],
        ),
        (["blended/3.jpg", "transmission_layer/3.jpg"], [("3", "blended/3.jpg", "transmission_layer/3.jpg")]),
    ],
)
def test_every_convention_pairs_its_files(
    tmp_path: Path, names: list[str], expected: list[tuple[str, str, str]]
) -> None:
    make(tmp_path, *names)
    found = [
        (pair.name, str(pair.input.relative_to(tmp_path)), str(pair.target.relative_to(tmp_path)))
        for pair in find_pairs(tmp_path)
    ]
    assert found == expected


def test_an_input_without_its_truth_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a-input.png", "a-label1.png", "b-input.png")
    with pytest.raises(UserError, match="1 of 2 inputs.*no b-label1 for b-input.png"):
        find_pairs(tmp_path)


def test_an_input_without_its_truth_is_named_in_subfolders(tmp_path: Path) -> None:
    make(tmp_path, "input/a.png", "input/b.png", "target/a.png")
    with pytest.raises(UserError, match="no target/b for b.png"):
        find_pairs(tmp_path)


def test_a_folder_of_other_photos_says_what_was_found_and_expected(tmp_path: Path) -> None:
    make(tmp_path, "holiday.jpg", "more/x.jpg")
    with pytest.raises(UserError) as caught:
        find_pairs(tmp_path)
    message = str(caught.value)
    assert "found more/, holiday.jpg" in message
    assert "*-input with *-label1" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, "file.png")
    with pytest.raises(UserError, match="expected a folder"):
        find_pairs(tmp_path / name)


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "input/a.png", "input/a.jpg", "target/a.png")
    with pytest.raises(UserError, match="share a stem"):
        find_pairs(tmp_path)


def test_empty_subfolders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match="no photos"):
        find_pairs(tmp_path)


def test_two_folders_are_paired_by_stem(tmp_path: Path) -> None:
    make(tmp_path, "udc/b.png", "udc/a.jpg", "second/a.png", "second/b.png", "second/c.png")
    found = [
        (pair.name, pair.input.name, pair.target.name)
        for pair in match_folders(tmp_path / "udc", tmp_path / "second")
    ]
    assert found == [("a", "a.jpg", "a.png"), ("b", "b.png", "b.png")]
    with pytest.raises(UserError, match="1 of 3 inputs .* no .*c.* for c.png"):
        match_folders(tmp_path / "second", tmp_path / "udc")
    with pytest.raises(UserError, match="expected a folder of photos, got nothing"):
        match_folders(tmp_path / "udc", tmp_path / "third")


def test_scenes_have_every_input_and_the_ground_truth(tmp_path: Path) -> None:
    make(tmp_path, "current/a.png", "previous/a.jpg", "previous/b.jpg", "target/a.png", "target/b.png")
    (scene,) = find_scenes(tmp_path, ["current", "previous"])
    assert scene.name == "a" and scene.target == tmp_path / "target" / "a.png"
    assert scene.inputs == {
        "current": tmp_path / "current" / "a.png",
        "previous": tmp_path / "previous" / "a.jpg",
    }
    with pytest.raises(UserError, match="1 of 2 inputs .* no current/b for b.jpg"):
        find_scenes(tmp_path, ["previous", "current"])
    with pytest.raises(UserError, match="next: expected a folder of photos, got nothing"):
        find_scenes(tmp_path, ["current", "next"])


@pytest.mark.parametrize("names", [("image/a.png", "target/a.png"), ("input/a.png", "target/a.png")])
def test_a_single_input_may_be_a_pair_of_any_convention(tmp_path: Path, names: tuple[str, str]) -> None:
    make(tmp_path, *names)
    (scene,) = find_scenes(tmp_path, ["image"])
    assert scene.inputs == {"image": tmp_path / names[0]} and scene.target == tmp_path / names[1]


def test_pairs_of_two_sizes_too_small_or_damaged_are_refused(tmp_path: Path) -> None:
    def photo(name: str, width: int, height: int) -> Path:
        Image.new("RGB", (width, height)).save(tmp_path / name)
        return tmp_path / name

    wide, narrow = photo("wide.png", 100, 90), photo("narrow.png", 90, 100)
    check_sizes([Pair("wide", wide, wide)], 90)
    with pytest.raises(
        UserError, match="wide.png is 100x90 and .*narrow.png 90x100 .*expected the same size"
    ):
        check_sizes([Pair("wide", wide, wide), Pair("mixed", wide, narrow)], 64)
    with pytest.raises(UserError, match="both sides of 91 or more"):
        check_sizes([Pair("wide", wide, wide)], 91)
    with pytest.raises(UserError, match="damaged.png: not an image"):
        check_sizes([Pair("damaged", wide, make(tmp_path, "damaged.png") / "damaged.png")], 64)
