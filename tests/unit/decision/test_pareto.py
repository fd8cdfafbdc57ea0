from __future__ import annotations

from tests.builders import make_baseline, make_trial

from haqa_operator.api import Constraint, Objective
from haqa_operator.decision.choose import decide
from haqa_operator.decision.pareto import axes, front

THROUGHPUT = Objective(metric="throughput")
TTFT = Objective(metric="ttft")

SLOW_EXACT = make_baseline().throughput(100).metric("perplexity", 10).metric("ttft", 50).obj()
MIDDLE = make_trial(1).tried("W8A8-INT8").throughput(150).metric("perplexity", 10.1).metric("ttft", 40).obj()
FAST_COARSE = make_trial(2).tried("W4A16").throughput(200).metric("perplexity", 11).metric("ttft", 60).obj()
DOMINATED = make_trial(3).tried("W4A16", "gptq").throughput(140).metric("perplexity", 10.2).metric("ttft", 45).obj()
ALL = [SLOW_EXACT, MIDDLE, FAST_COARSE, DOMINATED]


def test_the_front_holds_what_no_other_trial_beats_in_everything() -> None:
    over = (THROUGHPUT, Objective(metric="perplexity"))
    assert front(ALL, over) == (FAST_COARSE, MIDDLE, SLOW_EXACT)
    assert front(ALL, (THROUGHPUT,)) == (FAST_COARSE,)


def test_equal_points_are_all_on_the_front() -> None:
    twin = MIDDLE.model_copy(update={"number": 9, "name": "twin"})
    assert front([twin, MIDDLE], (THROUGHPUT, TTFT)) == (MIDDLE, twin)


def test_a_trial_that_lacks_a_metric_is_not_on_the_front() -> None:
    blind = make_trial(5).throughput(999).obj()
    assert blind not in front([*ALL, blind], (THROUGHPUT, TTFT))


def test_several_objectives_are_the_axes_and_the_first_decides() -> None:
    decision = decide(ALL, (TTFT, THROUGHPUT), (), 3)
    assert decision.winner == MIDDLE.name
    assert decision.pareto == (MIDDLE.name, FAST_COARSE.name)
    assert axes(ALL, (TTFT, THROUGHPUT), ()) == (TTFT, THROUGHPUT)


def test_a_single_objective_is_set_against_what_it_costs_in_accuracy() -> None:
    accuracy = Constraint(metric="accuracy.arc_easy", max_degradation_percent=1)
    latency = Constraint(metric="ttft", max=100)
    assert axes(ALL, (THROUGHPUT,), (latency, accuracy))[1].metric == "accuracy.arc_easy"
    assert axes(ALL, (THROUGHPUT,), (latency,))[1].metric == "perplexity"


def test_without_accuracy_the_second_axis_is_the_first_other_limit() -> None:
    trials = [make_trial(n).throughput(100 * n).metric("col", n).obj() for n in (1, 2)]
    assert axes(trials, (THROUGHPUT,), (Constraint(metric="throughput", min=1),)) == (THROUGHPUT,)
    second = axes(trials, (THROUGHPUT,), (Constraint(metric="col", max=5),))[1]
    assert (second.metric, second.maximize) == ("col", False)
    assert axes(trials, (THROUGHPUT,), ()) == (THROUGHPUT,)


def test_only_trials_that_keep_the_limits_are_on_the_front() -> None:
    decision = decide(ALL, (THROUGHPUT,), (Constraint(metric="perplexity", max=10.5),), 3)
    assert decision.pareto == (MIDDLE.name, SLOW_EXACT.name)


def test_the_baseline_is_on_a_divergence_axis_by_definition() -> None:
    near = make_trial(1).tried("W8A8-INT8").throughput(150).metric("klDivergence", 0.01).obj()
    base = make_baseline().throughput(100).obj()
    assert axes([base, near], (THROUGHPUT,), ())[1].metric == "klDivergence"
    decision = decide([base, near], (THROUGHPUT,), (), 3)
    assert decision.pareto == (near.name, base.name)
