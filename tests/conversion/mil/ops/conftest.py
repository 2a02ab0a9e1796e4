"""Runs the cases of a module: all of them in one saved program, since building one costs more than running it."""

import pytest

from tests.conversion.mil.programs import Computed, Save


@pytest.fixture(scope="module")
def computed(request: pytest.FixtureRequest, save_program: Save) -> Computed:
    """The module's `cases`."""
    return Computed(save_program, request.module.cases, "iOS18")


@pytest.fixture(scope="module")
def computed_by_ios16(request: pytest.FixtureRequest, save_program: Save) -> Computed:
    """The module's `older_cases`, in the operator set of iOS 16."""
    return Computed(save_program, request.module.older_cases, "iOS16")
