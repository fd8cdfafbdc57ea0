"""Figures of a strategy over many searches, each with an interval.

The interval is a bootstrap of 95 % over families of problems and, within each, over its searches: problems of a family
(one accelerator and model) resemble each other, so that they are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from haqa_operator.api.base import ResourceModel
from haqa_operator.replay.bench.outcomes import Outcome

AFTER = (3, 5, 10, 20)
WITHIN = {"within 5 %": 0.95, "within 1 %": 0.99}
_DRAWS = 1000

Floats = npt.NDArray[np.float64]


class Figure(ResourceModel):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


class Summary(ResourceModel):
    """One strategy."""

    strategy: str
    searches: int
    problems: int
    errors: int
    """Searches in which the strategy failed; they count nowhere else"""
    share: dict[int, Figure]
    """After so many own trials: mean share of the best feasible value, 0 to 1"""
    regret: dict[int, Figure]
    """After so many own trials: mean distance to the best, 0 = the best, 1 = nothing feasible"""
    trials_to: dict[str, Figure]
    """Mean own trials until so near to the best; a search that never came there counts as one more than it could"""
    never: dict[str, float]
    """Share of the searches that never came there"""
    wasted: Figure
    """Mean share of own trials that failed or broke a limit"""
    own_trials: float
    """Mean; fewer than allowed where a strategy stops by itself or the table has no more"""
    tokens: float
    """Mean of a search"""
    slowest_proposal_seconds: float
    wrong_winners: float | None
    """Share of the searches on noise whose answer was wrong; none = no noise"""
    false_wins: float | None
    """Share of the searches on noise, of tables in which all is alike, that announced a winner; none = no noise"""
    curve: tuple[Figure, ...]
    """Share of the best feasible value after 0, 1, 2… own trials"""
    hours_curve: tuple[tuple[float, float], ...]
    """Machine-hours as multiples of the baseline's, and the mean share reached by then"""


def summarize(outcomes: Sequence[Outcome], trials: int) -> list[Summary]:
    """One summary a strategy, in the order in which they come."""
    labels = list(dict.fromkeys(outcome.label for outcome in outcomes))
    return [_summary(label, [o for o in outcomes if o.label == label], trials) for label in labels]


def _summary(label: str, outcomes: Sequence[Outcome], trials: int) -> Summary:
    good = [o for o in outcomes if o.error is None]
    families = [o.family for o in good]
    after = [n for n in AFTER if n <= trials]

    def mean(figure: Callable[[Outcome], float]) -> Figure:
        return _interval([figure(o) for o in good], families)

    def reached(outcome: Outcome, share: float) -> float:
        found = next((n for n, s in enumerate(outcome.shares) if s >= share - 1e-9), None)
        return trials + 1 if found is None else found

    noisy = [o for o in good if o.false_win is not None]
    return Summary(
        strategy=label,
        searches=len(good),
        problems=len({o.task.problem for o in good}),
        errors=len(outcomes) - len(good),
        share={n: mean(lambda o, n=n: _at(o.shares, n)) for n in after},  # type: ignore[misc]
        regret={n: mean(lambda o, n=n: _at(o.regrets, n)) for n in after},  # type: ignore[misc]
        trials_to={name: mean(lambda o, s=s: reached(o, s)) for name, s in WITHIN.items()},  # type: ignore[misc]
        never={name: _fraction([reached(o, share) > trials for o in good]) for name, share in WITHIN.items()},
        wasted=mean(lambda o: (o.failed + o.infeasible) / o.own_trials if o.own_trials else 0.0),
        own_trials=float(np.mean([o.own_trials for o in good])) if good else 0.0,
        tokens=float(np.mean([o.tokens for o in good])) if good else 0.0,
        slowest_proposal_seconds=max((s for o in good for s in o.thinking_seconds), default=0.0),
        wrong_winners=_fraction([bool(o.wrong_winner) for o in noisy]) if noisy else None,
        false_wins=_fraction([bool(o.false_win) for o in noisy]) if noisy else None,
        curve=tuple(mean(lambda o, n=n: _at(o.shares, n)) for n in range(trials + 1)),  # type: ignore[misc]
        hours_curve=_over_hours(good),
    )


def _at(values: Sequence[float], trials: int) -> float:
    return values[min(trials, len(values) - 1)]


def _fraction(which: Sequence[bool]) -> float:
    return sum(which) / len(which) if which else 0.0


def _interval(values: Sequence[float], families: Sequence[str]) -> Figure:
    """Mean of all values; families are drawn with replacement, and within each drawn family its searches."""
    if not values:
        return Figure(value=0.0, low=0.0, high=0.0)
    groups = [
        np.array([v for v, f in zip(values, families, strict=True) if f == name]) for name in dict.fromkeys(families)
    ]
    chance = np.random.default_rng(0)
    sizes = np.array([len(group) for group in groups])
    sums = np.stack([group[chance.integers(len(group), size=(_DRAWS, len(group)))].sum(axis=1) for group in groups])
    drawn = chance.integers(len(groups), size=(_DRAWS, len(groups)))
    totals = np.take_along_axis(sums.T, drawn, axis=1).sum(axis=1)
    low, high = np.quantile(totals / sizes[drawn].sum(axis=1), [0.025, 0.975])
    mean = float(np.mean(values))
    return Figure(value=mean, low=min(float(low), mean), high=max(float(high), mean))


def _over_hours(outcomes: Sequence[Outcome]) -> tuple[tuple[float, float], ...]:
    """Mean share reached after so many times the baseline's machine-hours; nothing where a table has no hours."""
    known = [o for o in outcomes if o.hours and o.hours[0] > 0]
    if not known:
        return ()
    grid = np.arange(1, 1 + max(2.0, min(max(o.hours[-1] / o.hours[0] for o in known), 100.0)), 0.5)
    shares = np.zeros(len(grid))
    for o in known:
        spent = np.array(o.hours) / o.hours[0]
        place = np.searchsorted(spent, grid + 1e-9, side="right") - 1
        shares += np.array(o.shares)[np.clip(place, 0, len(spent) - 1)]
    return tuple((round(float(x), 3), round(float(y), 6)) for x, y in zip(grid, shares / len(known), strict=True))
