"""A gateway of its own for the French profiles, fed over MLLP and read over FHIR."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faces.house import House, running_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One gateway for the tests of a module; each uses patients of its own."""
    with running_house(tmp_path_factory.mktemp("french")) as made:
        yield made
