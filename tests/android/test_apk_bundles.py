"""Which files go into the APK, and what is refused before Maven starts."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from afterlens.training.media.errors import UserError
from android import apk

CONTRACTS = Path(__file__).parents[1] / "vectors" / "contracts"


def test_the_contract_the_golden_files_and_the_tflite_files_of_every_bundle_go_in() -> None:
    found = dict(apk.bundle_files(CONTRACTS / "valid"))
    photo = [name.removeprefix("assets/bundles/photo/") for name in found if "/photo/" in name]
    assert sorted(photo) == sorted(
        path.relative_to(CONTRACTS / "valid" / "photo").as_posix()
        for path in (CONTRACTS / "valid" / "photo").rglob("*")
        if path.is_file() and ".mlpackage" not in path.as_posix()
    )
    assert {name.split("/")[2] for name in found} == {path.name for path in (CONTRACTS / "valid").iterdir()}


@pytest.mark.parametrize("damage", ["changed", "cut_off", "missing", "golden_missing"])
def test_a_damaged_bundle_is_named(damage: str, tmp_path: Path) -> None:
    shutil.copytree(CONTRACTS / "damaged" / damage, tmp_path / "photo")
    line = json.loads((CONTRACTS / "expected.json").read_text())["damaged"][damage]
    with pytest.raises(UserError) as error:
        list(apk.bundle_files(tmp_path))
    assert str(error.value) == f"{tmp_path / 'photo'}/{line}"


def test_a_folder_without_bundles_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["apk", "--bundles", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        apk.main()
    assert end.value.code == 2
    expected = (
        f"error: {tmp_path}: no bundles here, expected FOLDER/model.json; `make demo` makes build/demo\n"
    )
    assert capsys.readouterr().err == expected
