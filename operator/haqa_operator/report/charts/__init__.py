"""The report's plots as plotly figures: data and layout as plain JSON, drawn by the page.

Colours of axes and text come from the page, which knows whether it is light or dark; colours of the data are close to
Okabe and Ito's, which people with any colour vision can tell apart, and shapes repeat what colours say.
"""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.evidence import Evidence
from haqa_operator.report.charts.chart import Chart
from haqa_operator.report.charts.levels import levels
from haqa_operator.report.charts.progress import progress
from haqa_operator.report.charts.timeline import timeline
from haqa_operator.report.charts.trade_off import trade_off
from haqa_operator.report.trials import TrialRow


def build_charts(spec: TuningSpec, evidence: Evidence, rows: Sequence[TrialRow]) -> tuple[Chart, ...]:
    """The plots that there is something to show in, in reading order."""
    charts = (
        trade_off(spec, evidence, rows),
        levels(spec, rows),
        progress(spec, evidence, rows),
        timeline(rows),
    )
    return tuple(chart for chart in charts if chart is not None)


__all__ = ["Chart", "build_charts"]
