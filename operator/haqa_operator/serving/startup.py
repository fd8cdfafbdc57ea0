"""How long an engine may take until it answers: its own work, and loading its weights from wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from haqa_operator.api.base import format_duration

MAX_STARTUP_S = 6 * 3600.0
"""Whatever is loaded: an engine that has not answered by then will not."""

_PART = 0.1
"""Of a trial's time: loading that takes less is no reason to say anything."""


@dataclass(frozen=True)
class StartupLimit:
    """Attributes:
    base_s: For everything but loading: imports, compiling, capturing graphs, measuring the memory. Also the least.
    megabytes_per_s: Assumed of whatever weights are read from, a network file system at the worst.
    """

    base_s: float = 900.0
    megabytes_per_s: float = 200.0

    def loading_s(self, weight_bytes: float | None) -> float:
        """Loading at the assumed rate; 0 where nobody knows how much there is to load."""
        return (weight_bytes or 0.0) / (self.megabytes_per_s * 1e6)

    def seconds(self, weight_bytes: float | None) -> float:
        """What the engine gets; None: the size is not known."""
        return max(self.base_s, min(MAX_STARTUP_S, self.base_s + self.loading_s(weight_bytes)))

    def cramped(self, weight_bytes: float | None, trial_timeout: timedelta) -> str | None:
        """A sentence where a trial's time may not hold the start of its engine; None where it does."""
        timeout_s = trial_timeout / timedelta(seconds=1)
        limit_s, loading_s = self.seconds(weight_bytes), self.loading_s(weight_bytes)
        if limit_s < timeout_s or loading_s < _PART * timeout_s:
            return None
        return (
            f"budget.trialTimeout {format_duration(trial_timeout)} may end before an engine has started, which gets "
            f"{limit_s / 60:.0f} min: {(weight_bytes or 0) / 1e9:.0f} GB of weights at {self.megabytes_per_s:g} MB/s "
            f"take {loading_s / 60:.0f} of them; raise it, so that it holds quantizing and measuring too"
        )
