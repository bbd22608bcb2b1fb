"""The toy study as a fixture."""

from __future__ import annotations

import pytest

from tests.train.toy import Toy, make_toy


@pytest.fixture(scope="session")
def toy() -> Toy:
    """See `make_toy`."""
    return make_toy()
