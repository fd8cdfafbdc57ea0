"""The trials that no other beats in everything: what there is to choose from, beside the one answer."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api.goals import Constraint, Direction, Objective
from haqa_operator.api.metrics import MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import measured

_ACCURACY_AXES = ("perplexity", "klDivergence")


def axes(
    trials: Sequence[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> tuple[Objective, ...]:
    """What the front is drawn over.

    Several objectives: those. A single one would give a front of one point, so a second axis shows what the speed
    costs: the accuracy metric of the first accuracy constraint, else the first of perplexity, klDivergence and
    accuracy.<task> that every trial given has, else the metric of the first constraint whose good direction is known.
    """
    if len(objectives) > 1:
        return tuple(objectives)
    own = objectives[0].key
    limits = [c for c in constraints if c.key != own]
    for constraint in limits:
        if is_accuracy(constraint.metric):
            return (objectives[0], _axis(constraint))
    for metric in _accuracy_of_all(trials):
        if metric != own.metric:
            return (objectives[0], Objective(metric=metric))
    for constraint in limits:
        if higher_is_better(constraint.metric) is not None or (constraint.min is None) != (constraint.max is None):
            return (objectives[0], _axis(constraint))
    return (objectives[0],)


def front(trials: Sequence[Trial], over: Sequence[Objective]) -> tuple[Trial, ...]:
    """The trials of the front by their point estimates, best in the first objective first.

    A trial that lacks one of the metrics is left out. Equal points are all kept.
    """
    points = [(trial, point) for trial in trials if (point := _point(trial, over)) is not None]
    best = [(trial, point) for trial, point in points if not any(_dominates(other, point) for _, other in points)]
    best.sort(key=lambda item: ([-value for value in item[1]], item[0].number, item[0].name))
    return tuple(trial for trial, _ in best)


def _point(trial: Trial, over: Sequence[Objective]) -> tuple[float, ...] | None:
    point = []
    for objective in over:
        value = measured(trial, objective.key)
        if value is None:
            return None
        point.append(value if objective.maximize else -value)
    return tuple(point)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _accuracy_of_all(trials: Sequence[Trial]) -> list[str]:
    tasks = {name for trial in trials for name in trial.status.metrics if name.startswith("accuracy.")}
    return [
        metric
        for metric in (*_ACCURACY_AXES, *sorted(tasks))
        if all(measured(trial, MetricKey(metric)) is not None for trial in trials)
    ]


def _axis(constraint: Constraint) -> Objective:
    direction = None
    if higher_is_better(constraint.metric) is None:
        direction = Direction.MINIMIZE if constraint.max is not None else Direction.MAXIMIZE
    return Objective(
        metric=constraint.metric,
        percentile=constraint.percentile,
        concurrency=constraint.concurrency,
        direction=direction,
    )
