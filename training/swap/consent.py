"""The consent that a person signs before their face may be enrolled, and whether a file is that.

    text = consent_form()                        # to be filled in and signed by the person shown
    consent = read_consent(Path("consent.txt"))  # or UserError that says what is missing

Nobody can check a signature from here. What is checked is that the very words were kept and that somebody put a name, a
date and a signature under them; the file's digest goes into the weights, so that it can be shown which consent was given.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from afterlens.training.media.errors import UserError

STATEMENT = """\
CONSENT TO THE USE OF MY FACE

I am the person shown in the photo that this consent is for, and I am of age.
I agree that my face is enrolled for an identity swap: software will show it in the place of other faces in photos and
videos, and those pictures carry a mark that says they were changed.
I know that weights made from my photo can be copied, and that I can withdraw this consent for the future at any time.
Nobody pressed me to sign this.
"""

_FIELDS = ("Name", "Date", "Signature")
_MOST = 100_000  # bytes


@dataclass(frozen=True)
class Consent:
    """A signed consent: who gave it, when, and the digest of its file."""

    name: str
    date: date
    sha256: str


def consent_form() -> str:
    """The text to sign."""
    return STATEMENT + "\nName:\nDate (YYYY-MM-DD):\nSignature:\n"


def read_consent(path: Path) -> Consent:
    """Raises UserError where the file is missing, was reworded, or lacks a name, a date that has come, or a signature."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST else b""
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: no consent that can be read; write the form with `afterlens enroll --form`"
        ) from error
    if _words(STATEMENT) not in _words(text):
        raise UserError(
            f"{path}: does not hold the text of the consent word for word; write the form with `afterlens enroll --form`"
        )
    values = {field: _value(text, field) for field in _FIELDS}
    for field, value in values.items():
        if not value:
            raise UserError(f"{path}: nothing is written after {field}; the person shown must sign")
    try:
        day = date.fromisoformat(values["Date"])
    except ValueError as error:
        raise UserError(
            f"{path}: got the date {values['Date']!r}, expected one such as 2026-11-30"
        ) from error
    if day > date.today():
        raise UserError(f"{path}: is dated {day}, which has not come yet")
    return Consent(values["Name"], day, hashlib.sha256(data).hexdigest())


def _words(text: str) -> str:
    return " ".join(text.split())


def _value(text: str, field: str) -> str:
    found = re.search(rf"^{field}(?: \(YYYY-MM-DD\))?:[ \t]*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""
