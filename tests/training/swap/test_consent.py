"""The form that must be signed before anybody is enrolled."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path

import pytest

from afterlens.training.media.errors import UserError
from afterlens.training.swap.consent import consent_form, read_consent


def signed(
    text: str, name: str = "Ada Example", day: str = "2026-11-01", signature: str = "A. Example"
) -> str:
    return (
        text.replace("Name:", f"Name: {name}")
        .replace("Date (YYYY-MM-DD):", f"Date (YYYY-MM-DD): {day}")
        .replace("Signature:", f"Signature: {signature}")
    )


def test_a_signed_form_is_consent(tmp_path: Path) -> None:
    path = tmp_path / "consent.txt"
    path.write_text(signed(consent_form()).replace("\n", "\r\n"), newline="")
    consent = read_consent(path)
    assert (consent.name, consent.date) == ("Ada Example", date(2026, 11, 1))
    assert consent.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (consent_form(), "nothing is written after Name"),
        (signed(consent_form(), signature=""), "nothing is written after Signature"),
        (signed(consent_form(), day="1st of May"), "expected one such as"),
        (signed(consent_form(), day=(date.today() + timedelta(days=2)).isoformat()), "has not come yet"),
        (signed(consent_form()).replace("I agree", "I do not agree"), "word for word"),
        ("Name: A\nDate: 2026-01-01\nSignature: A\n", "word for word"),
        ("", "word for word"),
    ],
)
def test_anything_else_is_not(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "consent.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_consent(path)


def test_a_file_that_cannot_be_read_is_no_consent(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary", tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match="no consent that can be read"):
            read_consent(path)
