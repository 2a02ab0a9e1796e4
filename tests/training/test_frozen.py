"""Samples and losses are those that the bundled weights were trained with (frozen.py)."""

import json

import numpy as np
import pytest

from tests.training import frozen


@pytest.mark.parametrize("group", frozen.GROUPS)
def test_samples_and_steps_change_on_purpose_only(group: str) -> None:
    expected = json.loads(frozen.FILE.read_text("utf-8"))[group]
    found = frozen.numbers(group)
    assert found.keys() == expected.keys(), "run python -m tests.training.frozen"
    off = {
        name: (values, expected[name])
        for name, values in found.items()
        # Gradients add up a long way, in another order on every processor and number of threads.
        if not np.allclose(values, expected[name], rtol=5e-4, atol=5e-3 if "gradients" in name else 2e-4)
    }
    assert off == {}, "run python -m tests.training.frozen if they were to change"
