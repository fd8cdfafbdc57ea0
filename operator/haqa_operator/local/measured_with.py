"""What the trials of a run were measured with, from the requests that they left in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from haqa_contract import TrialRequest
from haqa_operator.api.status import MeasuredWith
from haqa_operator.local.workspace import Workspace


def recorded_with(workspace: Workspace, pool: str) -> Iterator[MeasuredWith]:
    """Of each run of the pool, the latest first."""
    journals = (workspace.root / pool).glob("*/journal.jsonl")
    for journal in sorted(journals, key=lambda journal: journal.stat().st_mtime, reverse=True):
        if (found := recorded_in(journal.parent)) is not None:
            yield found


def recorded_in(run: Path) -> MeasuredWith | None:
    """The same for all trials of a run; None before the first one, and where an earlier version wrote them."""
    for file in sorted(run.glob("trials/*/request.json")):
        try:
            request = TrialRequest.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue
        return MeasuredWith(workload=request.workload, evaluation=request.evaluation, calibration=request.calibration)
    return None
