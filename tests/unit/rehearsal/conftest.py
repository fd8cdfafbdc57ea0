from __future__ import annotations

import pytest
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.unit.rehearsal.checkpoints import checkpoints


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    return checkpoints(tmp_path_factory.mktemp("rehearsal"))
