"""What a tuning needs from the place where its trials run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from haqa_operator.api import Trial, TrialPhase, TrialStatus
from haqa_operator.decision.results import Confirmation


@dataclass(frozen=True)
class TrialProgress:
    """Where a running trial is.

    Attributes:
        phase: Of the trial as a whole.
        done: Share of that phase, 0 to 1.
        message: For people.
    """

    phase: TrialPhase
    done: float = 0.0
    message: str = ""


OnProgress = Callable[[TrialProgress], None]


class Executor(ABC):
    """Runs trials to their end, one call each."""

    @abstractmethod
    def execute(self, trial: Trial, earlier: Sequence[Trial], on_progress: OnProgress) -> TrialStatus:
        """Measures a trial.

        Never raises for what happens to the trial: every such end is a status with a failure. `earlier` are the pool's
        trials before it, from which limits relative to the baseline become absolute, and what there is to beat.
        """

    @abstractmethod
    def confirm(self, winner: Trial, baseline: Trial, on_progress: OnProgress) -> Confirmation | None:
        """Measures both alternately; None where this executor cannot, for example when both do not fit at once."""

    def close(self) -> None:
        """Ends everything that the executor started."""
        return
