"""The chance that a configuration runs at all, from those that did and those that did not.

What must fail is closed before (`search.lessons`); this is what a failure says of the rest: each value of a parameter
is trusted by how often it has run, and a configuration by its least trusted value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, FailureReason
from haqa_operator.api.trial import Trial

_RUNS, _FAILS = 4.0, 0.15
"""What each value is taken to have run and failed already."""


def chances_to_run(trials: Sequence[Trial], candidates: Sequence[Configuration]) -> npt.NDArray[np.float64]:
    """One chance for each candidate, 0 to 1."""
    ran: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        (ran if _runs(trial) else failed).update(_values(trial.configuration))
    if not failed:
        return np.full(len(candidates), _RUNS / (_RUNS + _FAILS))
    suspects = {value: _trust(ran[value], count) for value, count in failed.items()}
    usual = _RUNS / (_RUNS + _FAILS)
    return np.array([min((suspects.get(v, usual) for v in _values(c)), default=usual) for c in candidates])


def _runs(trial: Trial) -> bool:
    return trial.succeeded or (
        trial.status.failure is not None and trial.status.failure.reason is FailureReason.ACCURACY_GATE
    )


def _trust(ran: int, failed: int) -> float:
    return (ran + _RUNS) / (ran + failed + _RUNS + _FAILS)


def _values(configuration: Configuration) -> list[tuple[str, str]]:
    return [(name, repr(value)) for name, value in configuration.parameters.items()]
