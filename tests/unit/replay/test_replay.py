from __future__ import annotations

import json
import math
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from tests.builders import TuningBuilder, make_tuning

from haqa_contract import Configuration, FailureReason
from haqa_operator.api import Proposal, Proposer, Trial, TuningSpec
from haqa_operator.decision.choose import decide
from haqa_operator.decision.observations import observations_of
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.replay.executor import TableExecutor
from haqa_operator.replay.scoring import ReplayReport, best_possible, progress_curve, replay_report
from haqa_operator.replay.tables.table import Table
from haqa_operator.tuning.executor import TrialProgress

TEXT = """scheme,algorithm,max-num-seqs,throughput,e2e,perplexity
BF16,none,,100,150,10
W8A8-INT8,rtn,,160,120,10.1
W8A8-INT8,rtn,64,200,190,10.1
W4A16,gptq,,250,240,10.4
W4A16,gptq,64,OOM,OOM,10.4
NVFP4,rtn,,400,90,14
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    path = tmp_path / "measured.csv"
    path.write_text(TEXT, encoding="utf-8")
    return Table.load(path)


def limited() -> TuningBuilder:
    tuning = make_tuning().objective("throughput").constraint("e2e", max=200)
    return tuning.constraint("perplexity", maxDegradationPercent=5)


SPEC: TuningSpec = limited().obj().spec


def silent(progress: TrialProgress) -> None:
    assert progress.done == 1


def tried(table: Table, *configurations: Configuration, executor: TableExecutor | None = None) -> list[Trial]:
    """The baseline and then these, answered by the table."""
    executor = executor or TableExecutor(table, SPEC)
    trials: list[Trial] = []
    for number, configuration in enumerate((table.baseline, *configurations)):
        proposer = Proposer.RANDOM if number else Proposer.BASELINE
        proposal = Proposal(configuration=configuration, proposer=proposer, reasoning="because")
        trial = Trial(name=f"t-{number}", tuning="t", pool="p", number=number, proposal=proposal)
        status = executor.execute(trial, trials, silent)
        trials.append(trial.model_copy(update={"status": status}))
    return trials


INT8 = Configuration.of("W8A8-INT8", "rtn")
INT8_64 = Configuration.of("W8A8-INT8", "rtn", max_num_seqs=64)
INT4 = Configuration.of("W4A16", "gptq")
INT4_64 = Configuration.of("W4A16", "gptq", max_num_seqs=64)
FP4 = Configuration.of("NVFP4", "rtn")


def test_a_trial_is_answered_from_the_table(table: Table) -> None:
    baseline, int8, oom = tried(table, INT8, INT4_64)
    assert baseline.status.metrics["throughput"].value == 100
    assert (int8.status.source, int8.status.metrics["e2e"].value) == ("table", 120)
    assert oom.status.failure is not None
    assert oom.status.failure.reason is FailureReason.ENGINE_OOM


def test_an_answer_takes_no_time(table: Table) -> None:
    executor = TableExecutor(table, SPEC)
    trial = tried(table)[0]
    started = time.perf_counter()
    for _ in range(100):
        executor.execute(trial, (), silent)
    assert (time.perf_counter() - started) / 100 < 0.005


def test_what_is_not_in_the_table_cannot_be_tried(table: Table) -> None:
    (_, stranger) = tried(table, Configuration.of("MXFP4", "rtn"))
    assert stranger.status.failure is not None
    assert "measured.csv has no MXFP4/rtn" in stranger.status.failure.message


def test_the_best_possible_keeps_every_limit(table: Table) -> None:
    optimum = best_possible(table, SPEC)
    assert optimum is not None
    assert optimum.configuration == INT8_64.parameters
    assert (optimum.value, optimum.feasible) == (200, 3)


def test_the_baseline_may_be_the_best_possible(table: Table) -> None:
    optimum = best_possible(table, make_tuning().constraint("perplexity", max=10.0).obj().spec)
    assert optimum is not None
    assert optimum.configuration == table.baseline.parameters


def test_where_nothing_keeps_the_limits_there_is_no_best(table: Table) -> None:
    spec = make_tuning().constraint("e2e", max=1).obj().spec
    assert best_possible(table, spec) is None
    curve = progress_curve(tried(table, INT8), spec, table)
    assert [(point.fraction, point.best_so_far, point.feasible) for point in curve] == [(None, None, False)] * 2


def test_the_curve_climbs_with_feasible_trials_only(table: Table) -> None:
    curve = progress_curve(tried(table, FP4, INT8, INT4_64, INT4, INT8_64), SPEC, table)
    assert [point.best_so_far for point in curve] == [100, 100, 160, 160, 160, 200]
    assert [point.fraction for point in curve] == [0.5, 0.5, 0.8, 0.8, 0.8, 1.0]
    assert [point.feasible for point in curve] == [True, False, True, False, False, True]
    assert curve[1].value == 400
    assert "perplexity is 14" in curve[1].broken[0]
    assert curve[3].value is None
    assert "EngineOOM" in curve[3].broken[0]


def test_before_anything_feasible_the_fraction_is_zero(table: Table) -> None:
    spec = make_tuning().constraint("e2e", max=130).obj().spec
    curve = progress_curve(tried(table, INT4, INT8), spec, table)
    assert [point.fraction for point in curve] == [0.0, 0.0, 160 / 400]


def test_for_a_latency_the_fraction_is_best_over_reached(table: Table) -> None:
    spec = make_tuning().objective("e2e").constraint("perplexity", maxDegradationPercent=5).obj().spec
    curve = progress_curve(tried(table, INT4, INT8), spec, table)
    assert [point.fraction for point in curve] == [120 / 150, 120 / 150, 1.0]
    assert [point.best_so_far for point in curve] == [150, 150, 120]


def noisy(table: Table, seed: int = 0, percent: float = 5, builder: TuningBuilder | None = None) -> TableExecutor:
    spec = (builder or limited().workload(repeats=4)).obj().spec
    return TableExecutor(table, spec, noise_percent=percent, seed=seed)


def test_noise_gives_repeats_with_an_interval(table: Table) -> None:
    status = tried(table, executor=noisy(table))[0].status
    assert len(status.samples["throughput"]) == 4
    assert status.metrics["throughput"].low < status.metrics["throughput"].high
    assert status.metrics["perplexity"].value == 10


def test_noise_follows_from_the_seed_and_not_from_the_order(table: Table) -> None:
    one = {t.configuration: t.status for t in tried(table, INT8, INT4, executor=noisy(table, seed=3))}
    other = {t.configuration: t.status for t in tried(table, INT4, INT8, executor=noisy(table, seed=3))}
    assert one == other
    assert tried(table, executor=noisy(table, seed=4))[0].status != one[table.baseline]


def test_noise_has_the_spread_that_was_asked_for(table: Table) -> None:
    factors = []
    for seed in range(200):
        status = tried(table, executor=noisy(table, seed=seed))[0].status
        factors += [math.log(value / 100) for value in status.samples["throughput"]]
    assert fmean(factors) == pytest.approx(0, abs=0.01)
    assert stdev(factors) == pytest.approx(0.05, rel=0.1)


def test_a_slow_moment_lowers_rates_and_raises_latencies(table: Table) -> None:
    samples = tried(table, executor=noisy(table))[0].status.samples
    products = [rate * latency for rate, latency in zip(samples["throughput"], samples["e2e"], strict=True)]
    assert products == pytest.approx([100 * 150] * 4)


def test_progress_is_judged_by_the_table_and_not_by_lucky_noise(table: Table) -> None:
    trials = tried(table, INT8, executor=noisy(table, percent=30))
    assert trials[1].status.metrics["throughput"].value != 160
    assert progress_curve(trials, SPEC, table)[1].value == 160


def test_a_confirmation_is_a_new_draw_and_needs_noise(table: Table) -> None:
    baseline, int8 = tried(table, INT8)
    assert TableExecutor(table, SPEC).confirm(int8, baseline, silent) is None
    confirmation = noisy(table).confirm(int8, baseline, silent)
    assert confirmation is not None
    assert (confirmation.winner, confirmation.metric) == (int8.name, "throughput")
    assert confirmation.ratio.low < 1.6 < confirmation.ratio.high
    assert len(confirmation.winner_values) == len(confirmation.baseline_values) == 5
    assert noisy(table, builder=limited().having(confirmation={"rounds": 0})).confirm(int8, baseline, silent) is None


def test_a_confirmed_latency_is_better_above_one(table: Table) -> None:
    baseline, int8 = tried(table, INT8)
    confirmation = noisy(table, percent=1, builder=make_tuning().objective("e2e")).confirm(int8, baseline, silent)
    assert confirmation is not None
    assert confirmation.ratio.value == pytest.approx(150 / 120, rel=0.05)


def report_of(trials: list[Trial], table: Table, spec: TuningSpec = SPEC, **more: Any) -> ReplayReport:
    decision = decide(trials, spec.objectives, spec.constraints, spec.search.min_improvement_percent)
    result = PoolResult(
        pool="p", hardware="a table", stopped="budget", trials=tuple(trials), decision=decision, agent_tokens=7
    )
    return replay_report(result, spec, table, seed=1, **more)


def test_the_report_is_json_that_reads_back(table: Table) -> None:
    report = report_of(tried(table, INT8, INT4_64), table)
    text = report.model_dump_json(by_alias=True)
    assert ReplayReport.model_validate_json(text) == report
    document = json.loads(text, parse_constant=pytest.fail)
    assert document["trials"][1] == {
        "number": 1,
        "trial": "t-1",
        "configuration": {"scheme": "W8A8-INT8", "algorithm": "rtn"},
        "proposer": "random",
        "reasoning": "because",
        "note": None,
        "value": 160.0,
        "feasible": True,
        "broken": [],
        "bestSoFar": 160.0,
        "fraction": 0.8,
    }
    assert (document["winnerFraction"], document["configurations"], document["agentTokens"]) == (0.8, 6, 7)


def test_the_report_says_how_far_each_trial_came(table: Table) -> None:
    report = report_of(tried(table, FP4, INT8, INT8_64), table)
    assert [point.fraction for point in report.trials] == [0.5, 0.5, 0.8, 1.0]


def test_no_answer_has_reached_nothing(table: Table) -> None:
    spec = make_tuning().constraint("e2e", max=100).obj().spec
    report = report_of(tried(table, INT8), table, spec)
    assert report.decision.verdict is Verdict.NOTHING_FEASIBLE
    assert report.winner_fraction == 0
    hopeless = make_tuning().constraint("e2e", max=1).obj().spec
    assert report_of(tried(table, INT8), table, hopeless).winner_fraction is None


def test_the_search_learns_from_a_broken_limit_and_not_from_a_failure(table: Table) -> None:
    trials = tried(table, FP4, INT4_64)
    seen = observations_of(trials, SPEC.objectives, SPEC.constraints)
    assert seen[1].violation == pytest.approx((14 - 10.5) / 10.5)
    assert seen[2].violation == math.inf


TIMED = """scheme,algorithm,throughput,trial:machineHours,trial:loadHours
BF16,none,100,0.5,0.3
BF16,none,101,,
BF16,none,99,,
W8A8-INT8,rtn,200,0.5,0.3
W8A8-INT8,rtn,201,,
W8A8-INT8,rtn,199,,
W4A16,rtn,50,0.5,0.3
W4A16,rtn,50,,
W4A16,rtn,50,,
FP8-DYNAMIC,rtn,170,0.5,0.3
FP8-DYNAMIC,rtn,170,,
FP8-DYNAMIC,rtn,170,,
"""


def test_a_load_test_that_ends_early_spares_the_table_s_hours(tmp_path: Path) -> None:
    path = tmp_path / "timed.csv"
    path.write_text(TIMED, encoding="utf-8")
    table, tuning = Table.load(path), make_tuning().objective("throughput")
    tries = [Configuration.of(name, "rtn") for name in ("W8A8-INT8", "W4A16", "FP8-DYNAMIC")]
    ended = tried(table, *tries, executor=TableExecutor(table, tuning.obj().spec))
    looked, halved = "a short look gave throughput 50", "1 of the windows gave throughput 170"
    reach = "out of reach: trial 1 has 200 tokens/s"
    assert [t.status.ended_early for t in ended] == [None, None, f"{looked}, {reach}", f"{halved}, {reach}"]
    assert [t.status.machine_hours for t in ended] == pytest.approx([0.5, 0.5, 0.2 + 0.04, 0.2 + 0.14])
    assert [t.status.metrics["throughput"].n for t in ended] == [3, 3, 1, 1]
    full = tried(table, *tries, executor=TableExecutor(table, tuning.search(earlyStopping=False).obj().spec))
    assert [t.status.machine_hours for t in full] == [0.5] * 4
    assert not any(t.status.ended_early for t in full)
