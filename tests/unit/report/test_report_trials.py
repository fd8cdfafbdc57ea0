"""Rows, limits and times: what the tables of a report say."""

import pytest
from tests import sample_results
from tests.builders import make_baseline, make_trial

from haqa_operator.report.answer import Tone
from haqa_operator.report.limits import build_limits
from haqa_operator.report.model import TuningReport
from haqa_operator.report.phases import BETWEEN, CONFIRMATION, TITLES, measuring_share, phase_times, pool_times
from haqa_operator.report.trials import Column, Outcome, TrialRow, build_columns, build_rows


def rows_of(report: TuningReport) -> tuple[tuple[Column, ...], tuple[TrialRow, ...]]:
    (result,) = report.pools
    columns = build_columns(report.tuning.spec, result.trials)
    return columns, build_rows(report.tuning.spec, result, report.evidence(result), columns)


def test_every_trial_has_a_row_with_how_it_ended() -> None:
    _, rows = rows_of(sample_results.winner())
    assert [row.outcome for row in rows] == [
        Outcome.BASELINE,
        Outcome.KEEPS_LIMITS,
        Outcome.FAILED,
        Outcome.KEEPS_LIMITS,
        Outcome.BREAKS_LIMIT,
        Outcome.FRONT,
        Outcome.FAILED,
        Outcome.WINNER,
    ]
    assert "perplexity is 12.64" in rows[2].reason
    assert rows[7].reason == ""


def test_a_trial_that_ended_early_says_so() -> None:
    report = sample_results.winner()
    (result,) = report.pools
    slow = result.trials[1]
    early = slow.model_copy(update={"status": slow.status.model_copy(update={"ended_early": "out of reach"})})
    trials = tuple(early if trial is slow else trial for trial in result.trials)
    pools = (result.model_copy(update={"trials": trials}),)
    _, rows = rows_of(report.model_copy(update={"pools": pools}))
    assert rows[1].outcome is Outcome.ENDED_EARLY


def test_baseline_is_on_the_front_without_losing_its_name() -> None:
    _, rows = rows_of(sample_results.winner())
    assert [row.number for row in rows if row.on_front] == [0, 5, 7]


def test_columns_are_what_was_measured_the_objective_first() -> None:
    columns, rows = rows_of(sample_results.winner())
    assert [str(column.key) for column in columns] == [
        "throughput",
        "perplexity",
        "ttft.p95",
        "itl.p95",
        "throughput@1",
        "throughput@8",
        "throughput@32",
        "ttft.p95@32",
        "klDivergence",
        "artifactBytes",
    ]
    assert all(len(row.cells) == len(columns) for row in rows)


def test_cells_are_compared_with_the_baseline() -> None:
    _, rows = rows_of(sample_results.winner())
    baseline, winner = rows[0].cells, rows[7].cells
    assert (baseline[0].text, baseline[0].note) == ("130.9", "")
    assert (winner[0].text, winner[0].note, winner[0].tone) == ("320.5", "+145 %", Tone.GOOD)
    assert (winner[2].note, winner[2].tone) == ("−69 %", Tone.GOOD)


def test_difference_of_less_than_a_percent_has_no_colour() -> None:
    _, rows = rows_of(sample_results.winner())
    assert (rows[7].cells[1].note, rows[7].cells[1].tone) == ("+0.71 %", Tone.PLAIN)


def test_unfinished_trial_has_a_row() -> None:
    report = sample_results.one_trial()
    running = make_trial(1).pending().obj()
    pool = report.pools[0].model_copy(update={"trials": (*report.pools[0].trials, running)})
    _, rows = rows_of(report.model_copy(update={"pools": (pool,)}))
    assert rows[1].outcome is Outcome.UNFINISHED
    assert rows[1].took.text == "–"


def test_limits_say_who_keeps_them_and_what_came_closest() -> None:
    report = sample_results.winner()
    (result,) = report.pools
    perplexity, ttft = build_limits(report.tuning.spec.constraints, result, report.evidence(result))
    assert (perplexity.kept, perplexity.judged, perplexity.closest_miss) == (6, 7, "#2 at +3.1 %")
    assert perplexity.baseline == "12.26"
    assert ttft.winner is not None
    assert ttft.winner.achieved == "221.7 ms"


def test_limit_that_nothing_breaks_has_no_closest_miss() -> None:
    report = sample_results.one_trial()
    (result,) = report.pools
    row, _ = build_limits(report.tuning.spec.constraints, result, report.evidence(result))
    assert (row.kept, row.judged, row.closest_miss) == (1, 1, "")


def test_time_that_no_phase_accounts_for_is_shown_as_such() -> None:
    trial = make_trial().between(100, 160).obj()
    status = trial.status.model_copy(update={"phase_seconds": {"load": 20.0, "load_test": 30.0, "own": 4.0}})
    times = phase_times(trial.model_copy(update={"status": status}))
    assert [(phase.title, phase.seconds) for phase in times] == [
        (TITLES["load"], 20),
        (TITLES["load_test"], 30),
        (TITLES["overhead"], 6),
        ("own", 4),
    ]


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_shares_of_time_add_up(name: str) -> None:
    for result in sample_results.SAMPLES[name]().pools:
        times = pool_times(result)
        assert sum(phase.share for phase in times) == pytest.approx(1)
        assert result.started is not None
        assert result.finished is not None
        assert sum(phase.seconds for phase in times) == pytest.approx(result.finished - result.started, abs=2)


def test_confirmation_and_pauses_are_part_of_the_time() -> None:
    times = pool_times(sample_results.winner().pools[0])
    titles = {phase.title for phase in times}
    assert {CONFIRMATION, BETWEEN} <= titles
    assert 0.3 < measuring_share(times) < 0.9


def test_trial_that_has_not_run_has_no_time() -> None:
    assert phase_times(make_baseline().pending().obj()) == ()
