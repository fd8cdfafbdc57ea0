"""A tuning under the operator, in memory."""

from __future__ import annotations

import pytest
from tests.unit.cluster.answered import FIRST
from tests.unit.cluster.tunings import Operated


@pytest.fixture
def operated() -> Operated:
    return Operated()


@pytest.fixture
def served(operated: Operated) -> Operated:
    """A first answer serves."""
    operated.submit(**FIRST)
    operated.run()
    return operated
