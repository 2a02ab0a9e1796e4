"""Photos for training: faults are found before the run, the split never moves, crops depend on their seed alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from afterlens.training.data import (
    cached_photo,
    find_faults,
    fingerprint,
    random_crop,
    ranked,
    seeded,
    split_photos,
)
from afterlens.training.media.errors import UserError


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


def test_split_depends_on_names_alone() -> None:
    paths = [Path(f"/photos/{number}.jpg") for number in range(100)]
    training, validation = split_photos(paths, 10)
    assert len(validation) == 10 and sorted(training + validation) == sorted(paths)
    moved = [Path("/elsewhere") / path.name for path in reversed(paths)]
    assert [path.name for path in split_photos(moved, 10)[1]] == [path.name for path in validation]
    # Another photo in the folder changes sides for at most one of the others.
    more = split_photos([*paths, Path("/photos/new.jpg")], 10)[1]
    assert len(set(more) & set(validation)) >= 9
    assert ranked(paths) != sorted(paths)


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(UserError, match=r"2 usable photos of which 2 are to be held out .*validation_photos"):
        split_photos([Path("a.jpg"), Path("b.jpg")], 2)


def test_fingerprint_sees_names_sizes_and_order_but_not_folders(tmp_path: Path) -> None:
    def files(folder: str, **contents: bytes) -> list[Path]:
        (tmp_path / folder).mkdir()
        for name, data in contents.items():
            (tmp_path / folder / name).write_bytes(data)
        return [tmp_path / folder / name for name in contents]

    first = fingerprint(files("first", a=b"123", b=b"4"))
    assert fingerprint(files("moved", a=b"123", b=b"4")) == first
    others = [
        files("grown", a=b"1234", b=b"4"),
        files("named", a=b"123", c=b"4"),
        files("turned", b=b"4", a=b"123"),
    ]
    assert len({first, *(fingerprint(paths) for paths in others)}) == 4


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
