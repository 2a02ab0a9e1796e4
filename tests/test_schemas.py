"""The committed JSON Schemas are those of today's classes."""

import json

import pytest

from afterlens.schemas import schemas


@pytest.mark.parametrize("path", schemas(), ids=lambda path: path.name)
def test_a_schema_file_is_current(path: object) -> None:
    from jsonschema import Draft202012Validator

    (text,) = (text for file, text in schemas().items() if file == path)
    Draft202012Validator.check_schema(json.loads(text))
    (committed,) = (file.read_text("utf-8") for file in schemas() if file == path)
    assert committed == text, "run `python -m afterlens.schemas`"
