"""The chance that a configuration runs at all, from those that did and those that did not.

What must fail is closed before (`search.lessons`); this is what a failure says of the rest: it is put down to the
values of its configuration that have run least, and a configuration is trusted as far as its least trusted value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, FailureReason
from haqa_operator.api.trial import Trial

_RUNS, _FAILS = 0.6, 0.03
"""What each value is taken to have run and failed already."""


def chances_to_run(trials: Sequence[Trial], candidates: Sequence[Configuration]) -> npt.NDArray[np.float64]:
    """One chance for each candidate, 0 to 1."""
    ran: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        if _runs(trial):
            ran.update(_values(trial.configuration))
    for trial in trials:
        if not _runs(trial):
            failed.update(_blamed(_values(trial.configuration), ran))
    if not failed:
        return np.full(len(candidates), _RUNS / (_RUNS + _FAILS))
    suspects = {value: _trust(ran[value], count) for value, count in failed.items()}
    usual = _RUNS / (_RUNS + _FAILS)

    def least(values: frozenset[tuple[str, str]]) -> float:
        suspected = [suspects[value] for value in values & suspects.keys()]
        return min(suspected if len(suspected) == len(values) else (usual, *suspected), default=usual)

    return np.array([least(_values(candidate)) for candidate in candidates])


def _runs(trial: Trial) -> bool:
    return trial.succeeded or (
        trial.status.failure is not None and trial.status.failure.reason is FailureReason.ACCURACY_GATE
    )


def _trust(ran: int, failed: int) -> float:
    return (ran + _RUNS) / (ran + failed + _RUNS + _FAILS)


def _blamed(values: Collection[tuple[str, str]], ran: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    least = min(ran[value] for value in values)
    return [value for value in values if ran[value] == least]


@lru_cache(maxsize=4096)  # every proposal asks for the same trials and for much the same candidates
def _values(configuration: Configuration) -> frozenset[tuple[str, str]]:
    return frozenset((name, repr(value)) for name, value in configuration.parameters.items())
