"""The report's plots as plotly figures: data and layout only.

Colours of axes and text come from the page, which knows whether it is light or dark; colours of the data are
Okabe and Ito's, which people with any colour vision can tell apart, and shapes repeat what colours say.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from haqa_operator.api.metrics import MetricKey, higher_is_better
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import Objective, TuningSpec
from haqa_operator.decision.evidence import Evidence
from haqa_operator.decision.pareto import axes
from haqa_operator.decision.results import PoolResult
from haqa_operator.report import wording
from haqa_operator.report.phases import TITLES, phase_times
from haqa_operator.report.trials import Outcome, TrialRow
from haqa_runner.contract import Estimate

_MARKS: dict[Outcome, tuple[str, str, int]] = {
    Outcome.BREAKS_LIMIT: ("x-thin-open", "#D55E00", 9),
    Outcome.KEEPS_LIMITS: ("circle-open", "#0072B2", 9),
    Outcome.FRONT: ("circle", "#0072B2", 10),
    Outcome.BASELINE: ("diamond", "#999999", 12),
    Outcome.WINNER: ("star", "#009E73", 16),
}
"""Shape, colour and size of a trial's mark, the least important first so that the winner is drawn on top."""

_SERIES = ("#999999", "#009E73", "#0072B2", "#E69F00", "#CC79A7", "#56B4E9")

_PHASE_COLOURS = dict(
    zip(
        TITLES.values(),
        ("#7F7F7F", "#E69F00", "#F0C566", "#56B4E9", "#A6D8F0", "#CC79A7", "#9BD8C3", "#009E73", "#BBBBBB"),
        strict=True,
    )
)

_MOST_BARS = 6
_MOST_CHARACTERS = 44


@dataclass(frozen=True)
class Chart:
    """One plot.

    Attributes:
        summary: What the plot shows, for readers who do not see it.
        height: Pixels.
    """

    key: str
    title: str
    summary: str
    figure: dict[str, Any]
    height: int = 400


def build_charts(spec: TuningSpec, result: PoolResult, evidence: Evidence, rows: Sequence[TrialRow]) -> list[Chart]:
    """The plots that there is something to show in, in reading order."""
    makers = (
        lambda: _trade_off(spec, evidence, rows),
        lambda: _levels(spec, rows),
        lambda: _progress(spec, evidence, rows),
        lambda: _timeline(result, rows),
    )
    return [chart for make in makers if (chart := make()) is not None]


# Speed against accuracy


def _trade_off(spec: TuningSpec, evidence: Evidence, rows: Sequence[TrialRow]) -> Chart | None:
    feasible = [item.trial for item in evidence.feasible] or [row.trial for row in rows if row.trial.succeeded]
    over = axes(feasible, spec.objectives, spec.constraints)
    if len(over) < 2:
        return None
    across, up = over[0], over[1]
    drawn = [row for row in rows if _estimate(row.trial, across.key) and _estimate(row.trial, up.key)]
    if not drawn:
        return None
    figure = go.Figure()
    front = sorted((row for row in drawn if _on_front(row)), key=lambda row: _value(row.trial, across.key))
    if len(front) > 1:
        figure.add_scatter(
            x=[_value(row.trial, across.key) for row in front],
            y=[_value(row.trial, up.key) for row in front],
            mode="lines",
            line={"color": "#0072B2", "width": 1, "dash": "dot"},
            hoverinfo="skip",
            name="Pareto front",
        )
    for outcome in _MARKS:
        _add_marks(figure, outcome, [row for row in drawn if row.outcome is outcome], across.key, up.key)
    _add_limits(figure, spec, evidence, across.key, up.key)
    figure.update_layout(xaxis_title=_axis_title(across), yaxis_title=_axis_title(up))
    absent = len(rows) - len(drawn)
    left_out = f" {wording.count_text(absent, 'trial')} without both figures left out." if absent else ""
    summary = (
        f"{wording.metric_title(across.key)} against {wording.metric_title(up.key).lower()} of "
        f"{wording.count_text(len(drawn), 'trial')}, with 95 % intervals.{left_out} {_standing(drawn, across, up)}"
    )
    return Chart("trade-off", "Speed against accuracy", summary.strip(), _plain(figure), 440)


def _add_marks(figure: go.Figure, outcome: Outcome, rows: Sequence[TrialRow], across: MetricKey, up: MetricKey) -> None:
    if not rows:
        return
    symbol, colour, size = _MARKS[outcome]
    figure.add_scatter(
        x=[_value(row.trial, across) for row in rows],
        y=[_value(row.trial, up) for row in rows],
        error_x=_error_bars([row.trial for row in rows], across, colour),
        error_y=_error_bars([row.trial for row in rows], up, colour),
        mode="markers",
        marker={"symbol": symbol, "color": colour, "size": size, "line": {"width": 2, "color": colour}},
        name=outcome.value,
        text=[_hover(row, (across, up)) for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_limits(figure: go.Figure, spec: TuningSpec, evidence: Evidence, across: MetricKey, up: MetricKey) -> None:
    for key, add in ((across, figure.add_vline), (up, figure.add_hline)):
        for limit in _limits_of(spec, evidence, key):
            add(limit, line={"color": "#D55E00", "width": 1, "dash": "dash"})


def _limits_of(spec: TuningSpec, evidence: Evidence, key: MetricKey) -> Iterator[float]:
    baseline = _value(evidence.baseline.trial, key) if evidence.baseline else None
    for constraint in spec.constraints:
        if constraint.key != key:
            continue
        yield from (bound for bound in (constraint.min, constraint.max) if bound is not None)
        if constraint.max_degradation_percent is not None and baseline is not None:
            step = abs(baseline) * constraint.max_degradation_percent / 100
            yield baseline - step if higher_is_better(key.metric) else baseline + step


def _standing(drawn: Sequence[TrialRow], across: Objective, up: Objective) -> str:
    texts = [
        f"{name}: {wording.value_text(across.key, _value(row.trial, across.key))}, "
        f"{wording.value_text(up.key, _value(row.trial, up.key))}."
        for row in drawn
        if (name := _role(row))
    ]
    return " ".join(texts)


def _role(row: TrialRow) -> str:
    if row.outcome is Outcome.WINNER:
        return "Winner" if not row.trial.is_baseline else "Winner, the baseline"
    return "Baseline" if row.trial.is_baseline else ""


def _on_front(row: TrialRow) -> bool:
    return row.outcome in (Outcome.FRONT, Outcome.WINNER)


# Throughput at each level


def _levels(spec: TuningSpec, rows: Sequence[TrialRow]) -> Chart | None:
    metric = spec.objectives[0].metric if spec.objectives[0].metric != "throughputPerCost" else "throughput"
    keys = [MetricKey(metric, spec.objectives[0].percentile, level) for level in spec.workload.concurrency]
    measured_rows = [row for row in rows if all(_estimate(row.trial, key) for key in keys)]
    shown = _most_telling(spec, measured_rows)
    if not shown:
        return None
    names = [f"{key.concurrency} at a time" for key in keys]
    baseline = next((row.trial for row in shown if row.trial.is_baseline), None)
    figure = go.Figure()
    for row, colour in zip(shown, _SERIES, strict=False):
        figure.add_bar(
            x=names,
            y=[_value(row.trial, key) for key in keys],
            error_y=_bars_over(row.trial, keys, colour),
            marker={"color": colour},
            name=_label(row),
            text=[_factor(row.trial, baseline, key) for key in keys],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"{_safe(row.trial.configuration.describe())}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
        )
    title = wording.metric_title(MetricKey(metric, spec.objectives[0].percentile))
    unit = _unit(keys[0])
    figure.update_layout(barmode="group", yaxis_title=f"{title}{f' ({unit})' if unit else ''}", bargap=0.25)
    summary = (
        f"{title} at {wording.list_text([str(key.concurrency) for key in keys])} requests at a time, with 95 % intervals: "
        "the baseline, the winner and the best of each other number format. "
        "The figures on the bars are relative to the baseline."
    )
    return Chart("levels", f"{title} under load", summary, _plain(figure), 380)


def _most_telling(spec: TuningSpec, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Baseline, winner, then the best of each scheme that neither of them has."""
    objective = spec.objectives[0]
    first = [row for row in rows if row.trial.is_baseline]
    first += [row for row in rows if row.outcome is Outcome.WINNER and not row.trial.is_baseline]
    seen = {row.trial.configuration.parameters["scheme"] for row in first}
    scored = [row for row in rows if _estimate(row.trial, objective.key)]
    ordered = sorted(scored, key=lambda row: _value(row.trial, objective.key), reverse=objective.maximize)
    for row in ordered:
        scheme = row.trial.configuration.parameters["scheme"]
        if scheme not in seen:
            seen.add(scheme)
            first.append(row)
    return first[:_MOST_BARS]


def _factor(trial: Trial, baseline: Trial | None, key: MetricKey) -> str:
    reference = _value(baseline, key) if baseline is not None else None
    own = _value(trial, key)
    return wording.factor_text(own / reference) if reference and own and trial is not baseline else ""


# How the search went


def _progress(spec: TuningSpec, evidence: Evidence, rows: Sequence[TrialRow]) -> Chart | None:
    objective = spec.objectives[0]
    drawn = [row for row in rows if _estimate(row.trial, objective.key)]
    if len(drawn) < 3:
        return None
    feasible = {item.trial.name for item in evidence.feasible}
    figure = go.Figure()
    best = _best_so_far([row for row in drawn if row.trial.name in feasible], objective)
    if best:
        numbers, values = zip(*best, strict=True)
        figure.add_scatter(
            x=[*numbers, rows[-1].number],
            y=[*values, values[-1]],
            mode="lines",
            line={"shape": "hv", "color": "#009E73", "width": 2},
            name="best so far that keeps the limits",
            hoverinfo="skip",
        )
    for outcome in _MARKS:
        of_kind = [row for row in drawn if row.outcome is outcome]
        if not of_kind:
            continue
        symbol, colour, size = _MARKS[outcome]
        figure.add_scatter(
            x=[row.number for row in of_kind],
            y=[_value(row.trial, objective.key) for row in of_kind],
            mode="markers",
            marker={"symbol": symbol, "color": colour, "size": size, "line": {"width": 2, "color": colour}},
            name=outcome.value,
            text=[f"{_hover(row, (objective.key,))}<br>proposed by {_safe(row.proposer)}" for row in of_kind],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(
        xaxis_title="Trial", yaxis_title=_axis_title(objective), xaxis_dtick=1 if len(rows) <= 20 else 5
    )
    found = f" The last improvement came with trial {best[-1][0]}." if best else ""
    summary = f"{wording.metric_title(objective.key)} of every trial in the order in which they were tried.{found}"
    return Chart("progress", "How the search went", summary, _plain(figure), 340)


def _best_so_far(rows: Sequence[TrialRow], objective: Objective) -> list[tuple[int, float]]:
    """Trial number and value at every improvement."""
    best: list[tuple[int, float]] = []
    for row in sorted(rows, key=lambda row: row.number):
        value = _value(row.trial, objective.key)
        if value is None:
            continue
        better = not best or (value > best[-1][1] if objective.maximize else value < best[-1][1])
        if better:
            best.append((row.number, value))
    return best


# When what happened


def _timeline(result: PoolResult, rows: Sequence[TrialRow]) -> Chart | None:
    timed = [row for row in rows if row.trial.status.started is not None and row.phases]
    if not timed:
        return None
    origin = min(row.trial.status.started or 0 for row in timed)
    figure = go.Figure()
    for title in dict.fromkeys(phase.title for row in timed for phase in row.phases):
        spans = [span for row in timed for span in _spans(row, origin) if span[0] == title]
        figure.add_bar(
            orientation="h",
            y=[label for _, label, _, _ in spans],
            base=[start / 60 for _, _, start, _ in spans],
            x=[seconds / 60 for _, _, _, seconds in spans],
            marker={"color": _PHASE_COLOURS.get(title, "#BBBBBB")},
            name=title,
            text=[f"{label}<br>{_safe(title)}: {wording.duration_text(seconds)}" for _, label, _, seconds in spans],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(barmode="overlay", bargap=0.3, xaxis_title="Minutes since the search began")
    labels = [_row_label(row) for row in timed]
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], automargin=True, title=None)
    total = max(row.trial.status.finished or 0 for row in timed) - origin
    summary = (
        f"{wording.count_text(len(timed), 'trial')} over {wording.duration_text(max(total, 0))}, each as a bar from its "
        "start to its end, split into what it was doing."
    )
    return Chart("timeline", "Timeline", summary, _plain(figure), 150 + 24 * len(timed))


def _spans(row: TrialRow, origin: float) -> Iterator[tuple[str, str, float, float]]:
    """Phase, label, start and length of each part of a trial, in seconds; phases follow each other without a gap."""
    at = (row.trial.status.started or origin) - origin
    for phase in phase_times(row.trial):
        yield phase.title, _row_label(row), at, phase.seconds
        at += phase.seconds


# Parts


def _estimate(trial: Trial, key: MetricKey) -> Estimate | None:
    return trial.status.metrics.get(str(key))


def _value(trial: Trial, key: MetricKey) -> float | None:
    estimate = _estimate(trial, key)
    return estimate.value if estimate else None


def _error_bars(trials: Sequence[Trial], key: MetricKey, colour: str) -> dict[str, Any]:
    estimates = [estimate for trial in trials if (estimate := _estimate(trial, key))]
    return _bars(estimates, colour)


def _bars_over(trial: Trial, keys: Sequence[MetricKey], colour: str) -> dict[str, Any]:
    return _bars([estimate for key in keys if (estimate := _estimate(trial, key))], colour) | {"color": "#444444"}


def _bars(estimates: Sequence[Estimate], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [estimate.high - estimate.value for estimate in estimates],
        "arrayminus": [estimate.value - estimate.low for estimate in estimates],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }


def _hover(row: TrialRow, keys: Sequence[MetricKey]) -> str:
    lines = [f"<b>#{row.number} {_safe(row.trial.configuration.describe())}</b>", _safe(row.outcome.value)]
    for key in keys:
        estimate = _estimate(row.trial, key)
        if estimate is None:
            continue
        interval = wording.interval_text(key, estimate)
        value = f"{wording.metric_title(key, short=True)}: {wording.value_text(key, estimate.value)}"
        lines.append(_safe(f"{value}{f' ({interval})' if interval else ''}"))
    return "<br>".join(lines)


def _axis_title(objective: Objective) -> str:
    unit = _unit(objective.key)
    better = "higher is better" if objective.maximize else "lower is better"
    return f"{wording.metric_title(objective.key)} ({f'{unit}, ' if unit else ''}{better})"


def _unit(key: MetricKey) -> str:
    from haqa_operator.metrics.quantities import unit

    return unit(key.metric)


def _label(row: TrialRow) -> str:
    name = _role(row) or f"#{row.number}"
    return _safe(_cut(f"{name}: {row.trial.configuration.describe()}"))


def _row_label(row: TrialRow) -> str:
    return _safe(_cut(f"#{row.number} {row.trial.configuration.describe()}"))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _safe(text: str) -> str:
    """Plotly reads a little HTML in texts; what comes from elsewhere is shown, not read."""
    return html.escape(text)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Without plotly's own template, which would bring white backgrounds into a dark page."""
    figure.update_layout(template=None)
    data: dict[str, Any] = figure.to_plotly_json()
    return data
