"""What all plots share: the shape of a plot, marks for outcomes, error bars, safe texts."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from haqa_contract import Estimate
from haqa_operator.api.goals import Objective
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import measured
from haqa_operator.metrics.quantities import unit
from haqa_operator.report import wording
from haqa_operator.report.trials import Outcome, TrialRow

Json = dict[str, Any]

GREEN, BLUE, VERMILION, GREY = "#009E73", "#2F86C9", "#D55E00", "#8A8A8A"

_BROKEN_BASELINE = "baseline, breaks a limit"

_MARKS: dict[str, tuple[str, str, int]] = {
    Outcome.FAILED: ("x-thin-open", VERMILION, 9),
    Outcome.BREAKS_LIMIT: ("x-thin-open", VERMILION, 9),
    Outcome.ENDED_EARLY: ("circle-open", GREY, 8),
    Outcome.KEEPS_LIMITS: ("circle-open", BLUE, 9),
    Outcome.FRONT: ("circle", BLUE, 10),
    Outcome.BASELINE: ("diamond", GREY, 12),
    _BROKEN_BASELINE: ("diamond", VERMILION, 12),
    Outcome.WINNER: ("star", GREEN, 16),
}
"""Shape, colour and size of a trial's mark, the least important first so that the winner is drawn on top."""

_LONGEST_LABEL = 40


@dataclass(frozen=True)
class Chart:
    """One plot.

    Attributes:
        summary: What the plot shows, for readers who do not see it.
        data, layout: Plotly's.
        height: Pixels.
    """

    key: str
    title: str
    summary: str
    data: tuple[Json, ...]
    layout: Json
    height: int = 400


def value(trial: Trial, key: MetricKey) -> float | None:
    """The point that is drawn: measured, or known by definition of the baseline."""
    return measured(trial, key)


def with_values(rows: Sequence[TrialRow], *keys: MetricKey) -> list[TrialRow]:
    """The rows that can be drawn: those with a value for every one of these metrics."""
    return [row for row in rows if all(value(row.trial, key) is not None for key in keys)]


def by_value(rows: Sequence[TrialRow], objective: Objective) -> list[TrialRow]:
    """Best first; rows without a value left out."""
    known = [(found, row) for row in rows if (found := value(row.trial, objective.key)) is not None]
    known.sort(key=lambda pair: (-pair[0] if objective.maximize else pair[0], pair[1].number))
    return [row for _, row in known]


EstimateOf = Callable[[Trial], Estimate | None]


def marks(rows: Sequence[TrialRow], across: EstimateOf, up: EstimateOf, keys: Sequence[MetricKey]) -> list[Json]:
    """One series of marks for each outcome, the winner on top.

    Args:
        across, up: Where a trial stands; every row has both.
        keys: The metrics to name when a mark is pointed at.
    """
    return [
        _mark_series(kind, of_kind, across, up, keys)
        for kind in _MARKS
        if (of_kind := [row for row in rows if _kind(row) == kind])
    ]


def _kind(row: TrialRow) -> str:
    return _BROKEN_BASELINE if row.trial.is_baseline and row.outcome is Outcome.BREAKS_LIMIT else row.outcome


def _mark_series(
    kind: str, rows: Sequence[TrialRow], across: EstimateOf, up: EstimateOf, keys: Sequence[MetricKey]
) -> Json:
    symbol, colour, size = _MARKS[kind]
    horizontal = [estimate for row in rows if (estimate := across(row.trial))]
    vertical = [estimate for row in rows if (estimate := up(row.trial))]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": str(kind),
        "x": [estimate.value for estimate in horizontal],
        "y": [estimate.value for estimate in vertical],
        "error_x": error_bars(horizontal, colour),
        "error_y": error_bars(vertical, colour),
        "marker": {"symbol": symbol, "color": colour, "size": size, "line": {"width": 2, "color": colour}},
        "text": [_hover(row, keys) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def error_bars(estimates: Sequence[Estimate | None], colour: str) -> Json:
    """The 95 % intervals around the points; nothing where there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [estimate.high - estimate.value if estimate else 0 for estimate in estimates],
        "arrayminus": [estimate.value - estimate.low if estimate else 0 for estimate in estimates],
        "color": colour,
        "thickness": 1.2,
        "width": 3,
    }


def axis_title(objective: Objective) -> str:
    better = "higher is better" if objective.maximize else "lower is better"
    named_unit = unit(objective.key.metric)
    return safe(f"{wording.metric_title(objective.key)} ({f'{named_unit}, ' if named_unit else ''}{better})")


def role(row: TrialRow) -> str:
    if row.outcome is Outcome.WINNER:
        return "Winner, the baseline" if row.trial.is_baseline else "Winner"
    return "Baseline" if row.trial.is_baseline else ""


def numbered(row: TrialRow) -> str:
    """`#3 W8A8-INT8/rtn, max-num-seqs=64`, cut to what fits beside a plot."""
    return safe(cut(f"#{row.number} {row.trial.configuration.describe()}"))


def cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def safe(text: str) -> str:
    """Plotly reads a little HTML in texts; what comes from elsewhere is shown, not read."""
    return html.escape(text, quote=False)


def _hover(row: TrialRow, keys: Sequence[MetricKey]) -> str:
    lines = [f"<b>{safe(f'#{row.number} {row.trial.configuration.describe()}')}</b>", safe(row.outcome.value)]
    for key in keys:
        estimate = row.trial.status.metrics.get(str(key))
        interval = wording.interval_text(key, estimate) if estimate else ""
        found = wording.value_text(key, value(row.trial, key))
        lines.append(safe(f"{wording.metric_title(key, short=True)}: {found}{f' ({interval})' if interval else ''}"))
    return "<br>".join([*lines, safe(f"proposed by {row.proposer}")])
