"""The plots: what is drawn, and that plotly takes it."""

import re
from itertools import pairwise

import plotly.graph_objects as go
import pytest
from tests import sample_results

from haqa_operator.report.charts import Chart, build_charts
from haqa_operator.report.charts.chart import Json
from haqa_operator.report.charts.progress import best_so_far
from haqa_operator.report.model import TuningReport
from haqa_operator.report.trials import build_columns, build_rows


def charts_of(report: TuningReport, pool: int = 0) -> dict[str, Chart]:
    result = report.pools[pool]
    evidence = report.evidence(result)
    columns = build_columns(report.tuning.spec, result.trials)
    rows = build_rows(report.tuning.spec, result, evidence, columns)
    return {chart.key: chart for chart in build_charts(report.tuning.spec, evidence, rows)}


def series(chart: Chart, name: str) -> Json:
    (found,) = [one for one in chart.data if one["name"] == name]
    return found


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_plotly_takes_every_figure_and_every_figure_has_a_summary(name: str) -> None:
    report = sample_results.SAMPLES[name]()
    for pool in range(len(report.pools)):
        for chart in charts_of(report, pool).values():
            go.Figure(data=list(chart.data), layout=chart.layout)
            assert chart.summary.endswith(".")


def test_trade_off_marks_baseline_winner_front_and_broken_limits() -> None:
    chart = charts_of(sample_results.winner())["trade-off"]
    winner, baseline = series(chart, "winner"), series(chart, "baseline")
    assert winner["marker"]["symbol"] == "star"
    assert (round(winner["x"][0], 1), round(winner["y"][0], 2)) == (320.5, 0.71)
    assert baseline["y"] == [0]
    assert len(series(chart, "Pareto front")["x"]) == 3
    assert len(series(chart, "breaks a limit")["x"]) == 1
    assert "Not drawn, for want of a figure: 2 trials." in chart.summary


def test_perplexity_is_drawn_as_its_change_with_the_paired_interval() -> None:
    chart = charts_of(sample_results.winner())["trade-off"]
    assert chart.layout["yaxis"]["title"]["text"].startswith("Perplexity against the baseline (%")
    (interval,) = series(chart, "winner")["error_y"]["array"]
    assert interval == pytest.approx(0.14, abs=0.02)
    (limit,) = chart.layout["shapes"]
    assert limit["y0"] == limit["y1"] == 2


def test_perplexity_is_drawn_as_it_is_where_it_was_not_measured_in_pairs() -> None:
    report = sample_results.winner()
    unpaired = []
    for trial in report.pools[0].trials:
        metrics = {name: value for name, value in trial.status.metrics.items() if name != "perplexityRatio"}
        unpaired.append(trial.model_copy(update={"status": trial.status.model_copy(update={"metrics": metrics})}))
    pool = report.pools[0].model_copy(update={"trials": tuple(unpaired)})
    chart = charts_of(report.model_copy(update={"pools": (pool,)}))["trade-off"]
    assert chart.layout["yaxis"]["title"]["text"] == "Perplexity (lower is better)"
    (limit,) = chart.layout["shapes"]
    assert limit["y0"] == pytest.approx(12.26 * 1.02)


def test_baseline_that_breaks_a_limit_is_still_the_baseline() -> None:
    chart = charts_of(sample_results.nothing_feasible())["trade-off"]
    assert series(chart, "baseline, breaks a limit")["marker"]["symbol"] == "diamond"


def test_levels_compare_baseline_winner_and_the_best_of_each_other_format() -> None:
    chart = charts_of(sample_results.winner())["levels"]
    assert [one["name"].partition(":")[0] for one in chart.data] == ["Baseline", "Winner", "#4"]
    assert chart.data[1]["text"] == ["1.95×", "2.35×", "3.20×"]
    assert chart.data[0]["text"] == ["", "", ""]


def test_progress_shows_every_improvement_within_the_limits() -> None:
    chart = charts_of(sample_results.winner())["progress"]
    course = series(chart, "best so far within the limits")
    assert course["x"] == [0, 1, 3, 5, 7, 7]
    assert course["y"] == sorted(course["y"])


def test_two_points_are_no_course() -> None:
    assert "progress" not in charts_of(sample_results.one_trial())


def test_best_so_far_of_nothing_is_nothing() -> None:
    assert best_so_far([], sample_results.winner().tuning.spec.objectives[0]) == []


def test_timeline_has_every_trial_and_its_phases_follow_each_other() -> None:
    chart = charts_of(sample_results.winner())["timeline"]
    spans = sorted(
        (label, base, base + length)
        for one in chart.data
        for label, base, length in zip(one["y"], one["base"], one["x"], strict=True)
    )
    assert len({label for label, _, _ in spans}) == 8
    for (label, _, end), (following, start, _) in pairwise(spans):
        if label == following:
            assert start == pytest.approx(end)


def test_no_plot_where_nothing_was_measured() -> None:
    assert set(charts_of(sample_results.no_measurement())) == {"timeline"}


def test_texts_from_outside_are_shown_and_not_read() -> None:
    """Plotly would make links and line breaks of the few tags that it knows."""
    drawn = [one for chart in charts_of(sample_results.hostile()).values() for one in chart.data]
    shown = [text for one in drawn for text in (one["name"], *one.get("text", ()), *one["y"]) if isinstance(text, str)]
    assert any("&lt;script&gt;" in text for text in shown)
    assert not [text for text in shown if re.search(r"<(?!br>|b>|/b>)", text)]
