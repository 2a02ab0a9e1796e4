"""Photos for training: faults are found before the run, the split never moves, crops depend on their seed alone."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from afterlens.training import data
from afterlens.training.data import (
    Strata,
    cached_photo,
    find_faults,
    index_photos,
    random_crop,
    ranked,
    seeded,
    split_records,
    unscaled_crop,
)
from afterlens.training.loop import StepSampler
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Record
from tests.training.runs import TASK, TINY

TRAINING = read_recipe(TASK.recipe_type, TASK.recipe_path, TINY).training


def test_faults_come_in_the_order_of_the_files_and_name_them(photo_paths: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photo_paths[0].read_bytes()[:-3000])  # the header is whole
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (300, 63)).save(tiny)
    exact = tmp_path / "exact.png"
    Image.new("RGB", (64, 64)).save(exact)
    found = list(find_faults([photo_paths[0], cut, photo_paths[1], tiny, exact], 64))
    assert [bool(fault) for fault in found] == [False, True, False, True, False]
    assert "cut.jpg: the image is damaged" in found[1]
    assert found[3] == f"{tiny}: 300x63 pixels, expected both sides of 64 or more"
    assert list(find_faults([], 64)) == []


def split(paths: list[Path], held_out: int) -> tuple[list[Path], list[Path]]:
    training, validation = split_records(index_photos(paths), held_out, 0)
    return [record.photo for record in training], [record.photo for record in validation]


def test_held_out_photos_keep_their_order_in_whatever_folders_they_lie() -> None:
    """Which degradation one gets depends on its place: runs could not be compared else."""
    names = [f"{number:02d}.png" for number in range(12)]
    orders = []
    for folders in (["a", "b", "c"], ["z", "b", "a"]):
        paths = [Path(folders[number % 3]) / name for number, name in enumerate(names)]
        sides = split_records(index_photos(paths), 5, 0)
        orders.append([[record.photo.name for record in side] for side in sides])
    assert orders[0] == orders[1] and len(orders[0][1]) == 5


def test_split_depends_on_names_alone() -> None:
    paths = [Path(f"/photos/{number}.jpg") for number in range(100)]
    training, validation = split(paths, 10)
    assert len(validation) == 10 and sorted(training + validation) == sorted(paths)
    assert validation == sorted(ranked(paths)[:10]) and training == sorted(ranked(paths)[10:])
    moved = [Path("/elsewhere") / path.name for path in reversed(paths)]
    assert [path.name for path in split(moved, 10)[1]] == [path.name for path in validation]
    # Another photo in the folder changes sides for at most one of the others.
    more = split([*paths, Path("/photos/new.jpg")], 10)[1]
    assert len(set(more) & set(validation)) >= 9
    assert ranked(paths) != sorted(paths)


def test_no_group_is_on_both_sides_of_the_split() -> None:
    people = [Record(Path(f"{n:03d}.jpg"), group=f"person {n // 7}") for n in range(70)]
    pairs = [
        Record(Path(f"pair{n}.jpg"), group=f"person {n % 5 + 5}", captured=True, files={"target": Path("t")})
        for n in range(20)
    ]
    training, validation = split_records([*people, *pairs], 10, 4)
    assert len(training) + len(validation) == 90
    groups = {record.group for record in training}, {record.group for record in validation}
    assert groups[0] and groups[1] and not groups[0] & groups[1]
    # At least as many as asked for, of both, in whole groups.
    assert sum(not record.captured for record in validation) >= 14
    assert sum(record.captured for record in validation) >= 4
    # The photos' groups are those of a split without pairs, and more only where a held-out pair shows the same person.
    alone = {record.group for record in split_records(people, 10, 4)[1]}
    captured = {record.group for record in validation if record.captured}
    assert alone <= groups[1] and groups[1] - alone <= captured


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(UserError, match=r"2 usable photos of which 2 are to be held out .*validation_photos"):
        split([Path("a.jpg"), Path("b.jpg")], 2)
    same = [Record(Path(f"{n}.jpg"), group="one person") for n in range(9)]
    with pytest.raises(UserError, match=r"9 usable photos in 1 groups \(such as 'one person'\), all needed"):
        split_records(same, 2, 0)
    pairs = [Record(Path(f"{n}.jpg"), group=f"{n}", captured=True) for n in range(3)]
    with pytest.raises(UserError, match=r"3 usable pairs of which 8 are to be held out .*validation_pairs"):
        split_records([*index_photos([Path("a.jpg"), Path("b.jpg")]), *pairs], 1, 8)


def test_fingerprint_sees_names_sizes_and_order_but_not_folders(tmp_path: Path) -> None:
    def files(folder: str, **contents: bytes) -> list[Path]:
        (tmp_path / folder).mkdir()
        for name, content in contents.items():
            (tmp_path / folder / name).write_bytes(content)
        return [tmp_path / folder / name for name in contents]

    def fingerprint(paths: list[Path], **changes: Any) -> str:
        return data.fingerprint([dataclasses.replace(record, **changes) for record in index_photos(paths)])

    first = fingerprint(files("first", a=b"123", b=b"4"))
    assert fingerprint(files("moved", a=b"123", b=b"4")) == first
    others = [
        files("grown", a=b"1234", b=b"4"),
        files("named", a=b"123", c=b"4"),
        files("turned", b=b"4", a=b"123"),
    ]
    assert len({first, *(fingerprint(paths) for paths in others)}) == 4
    same = files("same", a=b"123", b=b"4")
    changes: list[dict[str, Any]] = [
        {"label": 1},
        {"group": "x"},
        {"captured": True},
        {"landmarks": ((1.0, 2.0),)},
        {"files": {"target": same[0]}},
    ]
    assert len({first, *(fingerprint(same, **change) for change in changes)}) == 6


def test_cached_photo_is_the_photo_at_512(photo_path: Path, tmp_path: Path) -> None:
    whole = np.asarray(Image.open(photo_path))
    np.testing.assert_array_equal(cached_photo(photo_path), whole)  # 768x432: small enough as it is
    large = tmp_path / "large.png"
    Image.fromarray(np.repeat(np.repeat(whole, 3, axis=0), 3, axis=1)).save(large)
    got = cached_photo(large)
    assert got.shape == (512, 910, 3) and got.dtype == np.uint8
    expected = np.asarray(Image.fromarray(whole).resize((910, 512), Image.Resampling.BOX), np.float64)
    assert np.abs(got - expected).mean() < 2.0


def test_generators_depend_on_every_part() -> None:
    draws = {
        parts: float(torch.rand((), generator=seeded(*parts)))
        for parts in ((1,), (1, 2), (2, 1), (12,), (-1, 2))
    }
    assert len(set(draws.values())) == len(draws)
    assert float(torch.rand((), generator=seeded(1, 2))) == draws[(1, 2)]


def test_crops_are_squares_of_the_photo(photo_path: Path) -> None:
    rgb = cached_photo(photo_path)
    for index in range(40):
        crop = random_crop(rgb, 48, seeded(index))
        assert crop.shape == (3, 48, 48) and crop.dtype == torch.float32
        assert float(crop.min()) >= 0.0 and float(crop.max()) <= 1.0
        assert torch.equal(crop, random_crop(rgb, 48, seeded(index)))

        # An independent look: found again in the photo, at its own scale, by template matching.
        generator = seeded(index)
        side = 48 + int((432 - 48 + 1) * float(torch.rand((), generator=generator)))
        small = cv2.resize(rgb, None, fx=48 / side, fy=48 / side, interpolation=cv2.INTER_AREA)
        picture = np.ascontiguousarray(np.rint(crop.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
        found = max(
            float(cv2.matchTemplate(small, candidate, cv2.TM_CCOEFF_NORMED).max())
            for candidate in (picture, np.ascontiguousarray(picture[:, ::-1]))
        )
        assert found > 0.9 or picture.std() < 6, (index, found)


def test_crops_reach_every_border_and_both_directions() -> None:
    columns = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    rgb = np.stack([columns, np.tile(np.arange(100, dtype=np.uint8)[:, None], (1, 200)), columns], axis=-1)
    crops = [random_crop(rgb, 16, seeded(index)) * 255 for index in range(400)]
    x, y = torch.stack([crop[0] for crop in crops]), torch.stack([crop[1] for crop in crops])
    assert float(x.min()) < 4 and float(x.max()) > 195 and float(y.min()) < 4 and float(y.max()) > 95
    mirrored = sum(float(crop[0, 0, 0]) > float(crop[0, 0, -1]) for crop in crops)
    assert 150 < mirrored < 250


def test_photos_smaller_than_the_crop_are_enlarged() -> None:
    rgb = np.full((70, 90, 3), 77, np.uint8)
    crop = random_crop(rgb, 192, seeded(1))
    assert crop.shape == (3, 192, 192)
    assert torch.allclose(crop, torch.full_like(crop, 77 / 255))


def test_unscaled_crops_are_squares_of_the_photo_itself(photo_path: Path) -> None:
    rgb = np.asarray(Image.open(photo_path))
    places = set()
    for index in range(12):
        crop = np.rint(unscaled_crop(rgb, 48, seeded(index)).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        found = []
        for picture in (crop, crop[:, ::-1]):
            windows = np.lib.stride_tricks.sliding_window_view(rgb[..., 0], (48, 48))
            same = np.argwhere((windows[:, :, 0] == picture[0, :, 0]).all(axis=2))
            found += [
                (y, x) for y, x in same.tolist() if np.array_equal(rgb[y : y + 48, x : x + 48], picture)
            ]
        assert found, index
        places.add(found[0])
    assert len(places) > 8


# --- strata -------------------------------------------------------------------------------------------------


def labelled(*counts: int) -> list[Record]:
    return [
        Record(Path(f"{label}_{n}.jpg"), group=f"{label}_{n}", label=label)
        for label, count in enumerate(counts)
        for n in range(count)
    ]


def test_every_batch_of_every_process_has_the_classes_in_their_shares() -> None:
    settings = TRAINING.model_copy(update={"steps": 40, "batch": 8, "accumulate": 2})
    shares = (0.5, 0.125, 0.25, 0.0, 0.125)
    strata = Strata(labelled(3, 50, 7, 9, 1), shares, settings.batch, seed=3)
    for process in range(3):
        for batch in StepSampler(settings, 0, process, 3):
            counts = Counter(strata.label(index) for index in batch)
            assert counts == {0: 4, 1: 1, 2: 2, 4: 1}, batch


def test_shares_that_do_not_divide_the_batch_are_rounded_and_right_in_the_mean() -> None:
    shares = np.array([3.0, 1.0, 2.2])
    strata = Strata(labelled(1, 1, 1), shares.tolist(), 5, seed=3)
    wanted = 5 * shares / shares.sum()
    counts = np.array(
        [
            np.bincount([strata.label(5 * batch + place) for place in range(5)], minlength=3)
            for batch in range(2000)
        ]
    )
    assert (counts >= np.floor(wanted)).all() and (counts <= np.ceil(wanted)).all()
    np.testing.assert_allclose(counts.mean(axis=0), wanted, atol=0.05)


def test_a_sample_of_a_class_is_any_of_its_records_and_depends_on_seed_and_index_alone() -> None:
    records = labelled(4, 2)
    strata, again = (Strata(records, (0.5, 0.5), 4, seed=1) for _ in range(2))
    drawn = [strata.record(index, seeded(1, index)) for index in range(200)]
    assert set(drawn_names := [record.photo.name for record in drawn]) == {r.photo.name for r in records}
    assert all(record.label == strata.label(index) for index, record in enumerate(drawn))
    # In another order, as after resuming or in a loader process of its own.
    for index in (150, 3, 77):
        assert again.record(index, seeded(1, index)).photo.name == drawn_names[index]
    other = Strata(records, (0.5, 0.25), 4, seed=2)
    assert [other.label(i) for i in range(60)] != [
        Strata(records, (0.5, 0.25), 4, 1).label(i) for i in range(60)
    ]


def test_a_class_without_records_is_refused() -> None:
    with pytest.raises(UserError, match="class 2 has a share of 0.2 but no photo to train on"):
        Strata(labelled(3, 3), (0.4, 0.4, 0.2), 4, seed=1)
