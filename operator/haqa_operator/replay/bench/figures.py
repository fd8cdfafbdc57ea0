"""A benchmark's plots, in one page that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from haqa_operator.replay.bench.measures import Summary

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442")
"""Okabe and Ito's."""
_DASHES = ("solid", "dash", "dot", "dashdot")

Json = dict[str, Any]


def page(groups: Mapping[str, Sequence[Summary]], about: Sequence[str]) -> str:
    """HTML with the two courses of each group: over own trials, and over machine-hours."""
    parts, figures = [], {}
    for i, (title, summaries) in enumerate(groups.items()):
        parts.append(f"<h2>{html.escape(title)}</h2>")
        for key, figure in (("trials", over_trials(summaries)), ("hours", over_hours(summaries))):
            if figure["data"]:
                figures[f"{key}-{i}"] = figure
                parts.append(f'<div id="{key}-{i}" style="height:420px"></div>')
    drawing = "for (const [id, f] of Object.entries(FIGURES)) Plotly.newPlot(id, f.data, f.layout, {responsive: true});"
    # `<` closed no script yet in JSON, and shall not.
    data = json.dumps(figures).replace("<", "\\u003c")
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in about)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>haqa bench search</title>'
        "<style>body{font:16px system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}</style>"
        f"<h1>Strategies on tables of measurements</h1><ul>{lines}</ul>{''.join(parts)}"
        f"<script>{get_plotlyjs()}</script><script>const FIGURES = {data};{drawing}</script></html>\n"
    )


def over_trials(summaries: Sequence[Summary]) -> Json:
    """Share of the best feasible value after each own trial, with its interval as a band."""
    data: list[Json] = []
    for i, summary in enumerate(summaries):
        trials = list(range(len(summary.curve)))
        colour = _COLOURS[i % len(_COLOURS)]
        band = [*(point.high for point in summary.curve), *(point.low for point in reversed(summary.curve))]
        data.append(
            {
                "x": [*trials, *reversed(trials)],
                "y": band,
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.12,
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
                "legendgroup": summary.strategy,
            }
        )
        data.append(_line(summary, i, trials, [point.value for point in summary.curve]))
    return {"data": data, "layout": _layout("Own trials after the baseline")}


def over_hours(summaries: Sequence[Summary]) -> Json:
    """The same over machine-hours."""
    drawn = [(i, summary) for i, summary in enumerate(summaries) if summary.hours_curve]
    data = [_line(s, i, [x for x, _ in s.hours_curve], [y for _, y in s.hours_curve]) for i, s in drawn]
    return {"data": data, "layout": _layout("Machine-hours, in those of the baseline's trial")}


def _line(summary: Summary, i: int, x: Sequence[float], y: Sequence[float]) -> Json:
    return {
        "x": list(x),
        "y": list(y),
        "mode": "lines",
        "name": summary.strategy,
        "legendgroup": summary.strategy,
        "line": {
            "color": _COLOURS[i % len(_COLOURS)],
            "dash": _DASHES[i // len(_COLOURS) % len(_DASHES)],
            "shape": "hv",
        },
    }


def _layout(x: str) -> Json:
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": "Share of the best feasible value"}, "range": [0, 1.02]},
        "margin": {"t": 20},
        "hovermode": "x unified",
    }
