"""What has been recorded of a pool's tuning so far, whoever keeps the record."""

from __future__ import annotations

from haqa_operator.api import Trial
from haqa_operator.decision.results import Confirmation


class TuningRecord:
    """Trials by number, each in its latest state, and the confirmations."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.trials: tuple[Trial, ...] = ()
        self.confirmations: tuple[Confirmation, ...] = ()

    def confirmation_of(self, winner: str) -> Confirmation | None:
        """The last confirmation of this trial against the baseline."""
        return next((c for c in reversed(self.confirmations) if c.winner == winner), None)
