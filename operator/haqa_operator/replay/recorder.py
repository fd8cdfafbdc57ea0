"""A tuning that nobody watches and that leaves no files: for replays and tests."""

from __future__ import annotations

from haqa_operator.api import Trial
from haqa_operator.decision.results import Confirmation
from haqa_operator.tuning.executor import TrialProgress
from haqa_operator.tuning.record import TuningRecord


class MemoryRecorder:
    """A journal in memory."""

    def __init__(self) -> None:
        self.state = TuningRecord()

    def read(self) -> TuningRecord:
        return self.state

    def started(self, time: float) -> None:
        self.state.started = time

    def proposed(self, trial: Trial) -> None:
        self.state.trials += (trial,)

    def finished(self, trial: Trial) -> None:
        self.state.trials = tuple(trial if trial.number == old.number else old for old in self.state.trials)

    def confirmed(self, confirmation: Confirmation) -> None:
        self.state.confirmations += (confirmation,)


class SilentObserver:
    """Sees everything and says nothing."""

    def on_trials(self, pool: str, trials: tuple[Trial, ...]) -> None:
        """Nobody asked."""

    def on_progress(self, pool: str, trial: Trial, progress: TrialProgress) -> None:
        """Nobody asked."""

    def on_note(self, pool: str, note: str) -> None:
        """Nobody asked."""
