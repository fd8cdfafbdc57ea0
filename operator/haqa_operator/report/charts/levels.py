"""The objective at every level of the workload, for the configurations worth comparing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from haqa_operator.api.goals import Objective
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.metrics.quantities import unit
from haqa_operator.report import wording
from haqa_operator.report.charts.chart import (
    BLUE,
    GREEN,
    GREY,
    Chart,
    Json,
    by_value,
    cut,
    error_bars,
    role,
    safe,
    value,
    with_values,
)
from haqa_operator.report.trials import Outcome, TrialRow

_OTHERS = (BLUE, "#E69F00", "#CC79A7", "#56B4E9")
_MOST = 2 + len(_OTHERS)


def levels(spec: TuningSpec, rows: Sequence[TrialRow]) -> Chart | None:
    """None where no trial has a figure at every level."""
    objective = spec.objectives[0]
    metric = objective.metric if objective.metric != "throughputPerCost" else "throughput"
    keys = [MetricKey(metric, objective.percentile, level) for level in spec.workload.concurrency]
    shown = _most_telling(with_values(rows, *keys), objective)
    if not shown:
        return None
    baseline = next((row.trial for row in shown if row.trial.is_baseline), None)
    title = wording.metric_title(MetricKey(metric, objective.percentile))
    named_unit = unit(metric)
    counts = wording.list_text([str(key.concurrency) for key in keys])
    up = safe(f"{title} ({named_unit})" if named_unit else title)
    relative = " The figures in the bars are relative to the baseline." if baseline and len(shown) > 1 else ""
    return Chart(
        key="levels",
        title=f"{title} under load",
        summary=f"{title} with {counts} requests in flight, with 95 % intervals: {_who(shown)}.{relative}",
        data=tuple(_series(row, keys, baseline, colour) for row, colour in zip(shown, _colours(shown), strict=True)),
        layout={
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"type": "category"},
            "yaxis": {"title": {"text": up}, "rangemode": "tozero"},
        },
        height=380,
    )


def _most_telling(rows: Sequence[TrialRow], objective: Objective) -> list[TrialRow]:
    """Baseline, winner, then the best of each scheme that neither of them has."""
    chosen = [row for row in rows if row.trial.is_baseline]
    chosen += [row for row in rows if row.outcome is Outcome.WINNER and not row.trial.is_baseline]
    seen = {_scheme(row) for row in chosen}
    for row in by_value(rows, objective):
        if _scheme(row) not in seen:
            seen.add(_scheme(row))
            chosen.append(row)
    return chosen[:_MOST]


def _colours(rows: Sequence[TrialRow]) -> Iterator[str]:
    """The winner's green and the baseline's grey are theirs alone."""
    others = cycle(_OTHERS)
    for row in rows:
        if row.outcome is Outcome.WINNER:
            yield GREEN
        else:
            yield GREY if row.trial.is_baseline else next(others)


def _scheme(row: TrialRow) -> object:
    return row.trial.configuration.parameters["scheme"]


def _who(shown: Sequence[TrialRow]) -> str:
    named = [f"the {role(row).lower()}" for row in shown if role(row)]
    others = len(shown) - len(named)
    if others:
        named.append("the best of each other number format" if named else "the best of each number format")
    return wording.list_text(named)


def _series(row: TrialRow, keys: Sequence[MetricKey], baseline: Trial | None, colour: str) -> Json:
    name = f"{role(row) or f'#{row.number}'}: {row.trial.configuration.describe()}"
    return {
        "type": "bar",
        "name": safe(cut(name)),
        "x": [f"{key.concurrency} in flight" for key in keys],
        "y": [value(row.trial, key) for key in keys],
        "error_y": error_bars([row.trial.status.metrics.get(str(key)) for key in keys], "#555555"),
        "marker": {"color": colour},
        "text": [_factor(row.trial, baseline, key) for key in keys],
        "textposition": "inside",
        "insidetextanchor": "end",
        "textangle": 0,
        "hovertemplate": f"{safe(name)}<br>%{{x}}: %{{y:.4g}} {safe(unit(keys[0].metric))}<extra></extra>",
    }


def _factor(trial: Trial, baseline: Trial | None, key: MetricKey) -> str:
    if baseline is None or trial is baseline:
        return ""
    own, reference = value(trial, key), value(baseline, key)
    return wording.factor_text(own / reference) if own is not None and reference else ""
