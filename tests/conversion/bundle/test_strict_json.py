"""The limits of what a file may hold, on both sides of each."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from afterlens.conversion.bundle.proof import PROOF_FILE, read_proof
from afterlens.conversion.bundle.strict_json import Count, Positive, Sha256, Side, Text, parse, read_json
from afterlens.training.media.errors import UserError


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        # Above, not every reader of JSON holds all integers.
        (Count, (0, 2**53 - 1), (-1, 2**53)),
        (Positive, (1, 2**53 - 1), (0, 2**53)),
        (Side, (1, 16384), (0, 16385)),
        (Text, ("a",), ("",)),
        (Sha256, ("0123456789abcdef" * 4,), ("0" * 63, "0" * 65, "g" * 64, "A" * 64)),
    ],
    ids=["count", "positive", "side", "text", "digest"],
)
def test_limits(kind: Any, taken: tuple[Any, ...], refused: tuple[Any, ...]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    assert [adapter.validate_python(value) for value in taken] == list(taken)
    for value in refused:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize(("value", "shown"), [("a" * 78, repr("a" * 78)), ("a" * 79, f"'{'a' * 79}...")])
def test_a_message_shows_a_value_as_far_as_a_line_goes(value: str, shown: str) -> None:
    """80 characters of it, whatever the file holds."""
    with pytest.raises(UserError) as error:
        parse(TypeAdapter(Count), value, "numbers.json", remedy="again")
    assert str(error.value).startswith("numbers.json: $: ")
    assert str(error.value).endswith(f", got {shown}; again")


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("[1, 2]")
    assert read_json(path, max_bytes=6, remedy="again") == [1, 2]
    with pytest.raises(UserError, match=r"larger than 5 bytes, this is no numbers\.json$"):
        read_json(path, max_bytes=5, remedy="again")


def test_a_proof_that_no_verification_writes_is_refused_unread(tmp_path: Path) -> None:
    """200 and more times what a real one has; it is sparse. At the limit it is read, and is no JSON."""
    path, limit = tmp_path / PROOF_FILE, 64 * 2**20
    path.touch()
    os.truncate(path, limit + 1)
    with pytest.raises(UserError, match=f"larger than {limit} bytes"):
        read_proof(path)
    os.truncate(path, limit)
    with pytest.raises(UserError, match="not valid JSON"):
        read_proof(path)
