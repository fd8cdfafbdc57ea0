"""What speed costs: every trial by the objective and by the second axis of the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from haqa_contract import Estimate
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import MetricKey, higher_is_better
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.evidence import Evidence
from haqa_operator.decision.pareto import axes
from haqa_operator.report import wording
from haqa_operator.report.charts.chart import BLUE, VERMILION, Chart, Json, axis_title, by_value, marks, role, value
from haqa_operator.report.trials import TrialRow

_PERPLEXITY = MetricKey("perplexity")
_RATIO = "perplexityRatio"


@dataclass(frozen=True)
class _Axis:
    """One direction of the plot.

    Perplexity is drawn as its change against the baseline where that was measured text by text: how much the texts
    differ from each other then says nothing, and the interval is that of the change.
    """

    objective: Objective
    relative: bool = False

    @property
    def title(self) -> str:
        return "Perplexity against the baseline (%, lower is better)" if self.relative else axis_title(self.objective)

    @property
    def name(self) -> str:
        title = wording.metric_title(self.objective.key)
        return f"{title} against the baseline" if self.relative else title

    def estimate(self, trial: Trial) -> Estimate | None:
        if not self.relative:
            found = value(trial, self.objective.key)
            exact = Estimate(value=found, low=found, high=found, n=1) if found is not None else None
            return trial.status.metrics.get(str(self.objective.key), exact)
        if trial.is_baseline:
            return Estimate(value=0, low=0, high=0, n=1)
        ratio = trial.status.metrics.get(_RATIO)
        return ratio and Estimate(
            value=100 * (ratio.value - 1), low=100 * (ratio.low - 1), high=100 * (ratio.high - 1), n=ratio.n
        )

    def text(self, trial: Trial) -> str:
        estimate = self.estimate(trial)
        if self.relative and estimate is not None and not trial.is_baseline:
            return wording.change_text(estimate.value / 100)
        if self.relative:
            return wording.value_text(self.objective.key, value(trial, self.objective.key))
        return wording.value_text(self.objective.key, estimate.value if estimate else None)

    def limit_of(self, constraint: Constraint, baseline: Trial | None) -> Iterator[float]:
        """Where on this axis a limit lies."""
        reference = value(baseline, self.objective.key) if baseline is not None else None
        percent = constraint.max_degradation_percent
        if percent is not None and reference is not None:
            worse = -percent if higher_is_better(self.objective.metric) else percent
            yield worse if self.relative else reference + abs(reference) * worse / 100
        for bound in (constraint.min, constraint.max):
            if bound is not None and not self.relative:
                yield bound
            elif bound is not None and reference:
                yield 100 * (bound / reference - 1)


def trade_off(spec: TuningSpec, evidence: Evidence, rows: Sequence[TrialRow]) -> Chart | None:
    """None where there is no second axis, or no trial with both figures."""
    succeeded = [row.trial for row in rows if row.trial.succeeded]
    over = axes([item.trial for item in evidence.feasible] or succeeded, spec.objectives, spec.constraints)
    if len(over) < 2:
        return None
    across, up = _Axis(over[0]), _Axis(over[1], relative=_is_relative(over[1], succeeded))
    drawn = [row for row in rows if across.estimate(row.trial) and up.estimate(row.trial)]
    if not drawn:
        return None
    limits = [*_limits(spec, evidence, across, "x"), *_limits(spec, evidence, up, "y")]
    return Chart(
        key="trade-off",
        title=f"{across.name} against {up.name.lower()}" if not up.relative else "What the speed costs in accuracy",
        summary=" ".join(_summary(rows, drawn, across, up, len(limits))),
        data=(*_front(drawn, across, up), *marks(drawn, across.estimate, up.estimate, (over[0].key, over[1].key))),
        layout={
            "xaxis": {"title": {"text": across.title}},
            "yaxis": {"title": {"text": up.title}},
            "shapes": limits,
        },
        height=440,
    )


def _is_relative(objective: Objective, succeeded: Sequence[Trial]) -> bool:
    others = [trial for trial in succeeded if not trial.is_baseline]
    return objective.key == _PERPLEXITY and bool(others) and all(_RATIO in trial.status.metrics for trial in others)


def _summary(
    rows: Sequence[TrialRow], drawn: Sequence[TrialRow], across: _Axis, up: _Axis, limits: int
) -> Iterator[str]:
    yield f"{across.name} and {up.name.lower()} of every trial, with 95 % intervals."
    if limits:
        yield f"Dashed: {wording.count_text(limits, 'limit')} of the tuning."
    if absent := len(rows) - len(drawn):
        yield f"Not drawn, for want of a figure: {wording.count_text(absent, 'trial')}."
    for row in drawn:
        if role(row):
            yield f"{role(row)}: {across.text(row.trial)}, {up.text(row.trial)}."


def _front(drawn: Sequence[TrialRow], across: _Axis, up: _Axis) -> list[Json]:
    front = by_value([row for row in drawn if row.on_front], across.objective)
    if len(front) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [estimate.value for row in front if (estimate := across.estimate(row.trial))],
            "y": [estimate.value for row in front if (estimate := up.estimate(row.trial))],
            "line": {"color": BLUE, "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
        }
    ]


def _limits(spec: TuningSpec, evidence: Evidence, axis: _Axis, letter: str) -> Iterator[Json]:
    """A line across the whole plot for each limit of this metric."""
    other = "y" if letter == "x" else "x"
    baseline = evidence.baseline.trial if evidence.baseline else None
    constraints = [constraint for constraint in spec.constraints if constraint.key == axis.objective.key]
    for limit in dict.fromkeys(at for constraint in constraints for at in axis.limit_of(constraint, baseline)):
        yield {
            "type": "line",
            f"{letter}0": limit,
            f"{letter}1": limit,
            f"{other}0": 0,
            f"{other}1": 1,
            f"{other}ref": "paper",
            "line": {"color": VERMILION, "width": 1, "dash": "dash"},
        }
