"""When what happened: a bar for every trial, split into its phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from haqa_operator.report import wording
from haqa_operator.report.charts.chart import Chart, Json, numbered, safe
from haqa_operator.report.phases import TITLES
from haqa_operator.report.trials import TrialRow

_COLOURS = dict(
    zip(
        TITLES.values(),
        ("#7F7F7F", "#E69F00", "#F0C566", "#56B4E9", "#A6D8F0", "#CC79A7", "#9BD8C3", "#009E73", "#BBBBBB"),
        strict=True,
    )
)

_OTHER = "#BBBBBB"


@dataclass(frozen=True)
class _Span:
    row: TrialRow
    phase: str
    start_s: float
    seconds: float


def timeline(rows: Sequence[TrialRow]) -> Chart | None:
    """None where no trial has times."""
    timed = [row for row in rows if row.trial.status.started is not None and row.phases]
    if not timed:
        return None
    origin = min(row.trial.status.started or 0.0 for row in timed)
    spans = [span for row in timed for span in _spans(row, origin)]
    titles = sorted(
        {span.phase for span in spans}, key=lambda title: list(_COLOURS).index(title) if title in _COLOURS else 99
    )
    end = max(span.start_s + span.seconds for span in spans)
    return Chart(
        key="timeline",
        title="Timeline",
        summary=f"{wording.count_text(len(timed), 'trial')} over {wording.duration_text(end)}: "
        "each a bar from its start to its end, split into what it was doing.",
        data=tuple(_series(title, [span for span in spans if span.phase == title]) for title in titles),
        layout={
            "barmode": "overlay",
            "bargap": 0.3,
            "xaxis": {"title": {"text": "Minutes since the first trial began"}, "rangemode": "tozero"},
            "yaxis": {
                "categoryorder": "array",
                "categoryarray": [numbered(row) for row in reversed(timed)],
                "automargin": True,
            },
        },
        height=170 + 24 * len(timed),
    )


def _spans(row: TrialRow, origin: float) -> Iterator[_Span]:
    """A trial's phases one after the other, from its start."""
    at = (row.trial.status.started or origin) - origin
    for phase in row.phases:
        yield _Span(row, phase.title, at, phase.seconds)
        at += phase.seconds


def _series(title: str, spans: Sequence[_Span]) -> Json:
    return {
        "type": "bar",
        "orientation": "h",
        "name": safe(title),
        "y": [numbered(span.row) for span in spans],
        "base": [span.start_s / 60 for span in spans],
        "x": [span.seconds / 60 for span in spans],
        "marker": {"color": _COLOURS.get(title, _OTHER)},
        "text": [f"{safe(title)}: {wording.duration_text(span.seconds)}" for span in spans],
        "textposition": "none",
        "hovertemplate": "%{y}<br>%{text}<extra></extra>",
    }
