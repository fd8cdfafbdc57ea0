"""Where a tuning's time went."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.api.trial import Trial
from haqa_operator.decision.results import PoolResult

TITLES: dict[str, str] = {
    "fetch": "Fetching the model",
    "quantize": "Quantizing",
    "publish": "Storing the quantized model",
    "load": "Starting the engine",
    "sanity": "Checking that it answers",
    "accuracy": "Measuring accuracy",
    "warmup": "Warming up",
    "load_test": "Load test",
    "overhead": "Around the steps",
}
"""The runner's phases in the order in which a trial goes through them."""

CONFIRMATION = "Confirming the winner"
BETWEEN = "Between trials"

MEASURING = frozenset({TITLES["accuracy"], TITLES["warmup"], TITLES["load_test"], CONFIRMATION})


@dataclass(frozen=True)
class PhaseTime:
    """Seconds of one phase, of one trial or of all.

    Attributes:
        share: Of the whole, 0 to 1.
    """

    title: str
    seconds: float
    share: float

    @property
    def measuring(self) -> bool:
        """Whether this is time spent on learning something, not on getting there."""
        return self.title in MEASURING


def phase_times(trial: Trial) -> tuple[PhaseTime, ...]:
    """One trial's time by phase; what no phase accounts for comes last as overhead."""
    known = {TITLES.get(name, name): seconds for name, seconds in trial.status.phase_seconds.items() if seconds > 0}
    status = trial.status
    if status.started is not None and status.finished is not None:
        rest = status.finished - status.started - sum(known.values())
        if rest > 1:
            known[TITLES["overhead"]] = known.get(TITLES["overhead"], 0) + rest
    return _shares(known)


def pool_times(result: PoolResult) -> tuple[PhaseTime, ...]:
    """All trials' time by phase, the confirmation, and the time between trials (deciding, writing, waiting)."""
    totals: dict[str, float] = {}
    for trial in result.trials:
        for phase in phase_times(trial):
            totals[phase.title] = totals.get(phase.title, 0) + phase.seconds
    if result.confirmation is not None and result.confirmation.seconds > 0:
        totals[CONFIRMATION] = result.confirmation.seconds
    if result.started is not None and result.finished is not None:
        rest = result.finished - result.started - sum(totals.values())
        if rest > 1:
            totals[BETWEEN] = rest
    return _shares(totals)


def measuring_share(times: tuple[PhaseTime, ...]) -> float:
    """How much of the time was spent on measuring itself, 0 to 1."""
    return sum(phase.share for phase in times if phase.measuring)


def _shares(seconds: dict[str, float]) -> tuple[PhaseTime, ...]:
    total = sum(seconds.values())
    order = {title: position for position, title in enumerate((*TITLES.values(), CONFIRMATION, BETWEEN))}
    titles = sorted(seconds, key=lambda title: (order.get(title, len(order)), title))
    return tuple(PhaseTime(title, seconds[title], seconds[title] / total if total else 0) for title in titles)
