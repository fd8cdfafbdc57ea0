"""How the search got there: every trial in the order in which it was tried, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_contract import Estimate
from haqa_operator.api.goals import Objective
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.evidence import Evidence
from haqa_operator.report import wording
from haqa_operator.report.charts.chart import GREEN, Chart, Json, axis_title, marks, value
from haqa_operator.report.trials import TrialRow

_FEWEST = 3
"""Points that make a course."""


def progress(spec: TuningSpec, evidence: Evidence, rows: Sequence[TrialRow]) -> Chart | None:
    """None where too few trials have a value."""
    objective = spec.objectives[0]
    drawn = [row for row in rows if str(objective.key) in row.trial.status.metrics]
    if len(drawn) < _FEWEST:
        return None

    feasible = {item.trial.name for item in evidence.feasible}
    best = best_so_far([row for row in drawn if row.trial.name in feasible], objective)
    found = f" The last improvement came with trial {best[-1][0]}." if best else ""
    return Chart(
        key="progress",
        title="How the search went",
        summary=f"{wording.metric_title(objective.key)} of the trials in the order in which they were tried.{found}",
        data=(
            *_course(best, rows[-1].number),
            *marks(drawn, _number, lambda trial: trial.status.metrics.get(str(objective.key)), (objective.key,)),
        ),
        layout={
            "xaxis": {"title": {"text": "Trial"}, "dtick": 1 if len(rows) <= 16 else 5, "zeroline": False},
            "yaxis": {"title": {"text": axis_title(objective)}, "rangemode": "tozero"},
        },
        height=340,
    )


def _number(trial: Trial) -> Estimate:
    return Estimate(value=trial.number, low=trial.number, high=trial.number, n=1)


def best_so_far(rows: Sequence[TrialRow], objective: Objective) -> list[tuple[int, float]]:
    """Trial number and value at every improvement."""
    best: list[tuple[int, float]] = []
    for row in rows:
        found = value(row.trial, objective.key)
        if found is None:
            continue
        if not best or (found > best[-1][1] if objective.maximize else found < best[-1][1]):
            best.append((row.number, found))
    return best


def _course(best: Sequence[tuple[int, float]], last: int) -> list[Json]:
    if not best:
        return []
    points = [*best, (last, best[-1][1])]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far within the limits",
            "x": [number for number, _ in points],
            "y": [found for _, found in points],
            "line": {"shape": "hv", "color": GREEN, "width": 2},
            "hoverinfo": "skip",
        }
    ]
