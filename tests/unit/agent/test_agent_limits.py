from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import over
from tests.unit.agent.builders import CONSTRAINTS, baseline_trial, make_space, make_trial

from haqa_contract import Workload
from haqa_operator.agent.limits import candidate_bounds, demand, rate_bounds
from haqa_operator.api.goals import Constraint
from haqa_operator.decision.constraints import References, judge
from haqa_operator.decision.limits import absolute_limits

SPACE = make_space()
BASELINE = baseline_trial(SPACE)


def test_a_relative_constraint_becomes_a_number_once_the_baseline_is_measured() -> None:
    perplexity, e2e = absolute_limits(CONSTRAINTS, over(BASELINE))
    assert perplexity.maximum == pytest.approx(12.24)
    assert perplexity.describe() == "perplexity at most 12.24"
    assert e2e.maximum == 700


def test_without_a_baseline_a_relative_constraint_stays_in_words() -> None:
    perplexity, _ = absolute_limits(CONSTRAINTS, References())
    assert perplexity.describe() == "perplexity at most 2 % worse than the baseline"


def test_more_is_better_turns_a_degradation_into_a_lower_bound() -> None:
    (limit,) = absolute_limits([Constraint(metric="throughput", max_degradation_percent=10)], over(BASELINE))
    assert (limit.minimum, limit.maximum) == (90, None)


@given(st.floats(1, 50))
def test_slack_and_the_decision_agree_on_who_keeps_the_limit(perplexity: float) -> None:
    trial = make_trial(1, SPACE.candidates[0], {"perplexity": perplexity})
    (limit,) = absolute_limits(CONSTRAINTS[:1], over(BASELINE))
    room = limit.slack(perplexity)
    if abs(room) > 1e-6:
        assert (room > 0) == judge(CONSTRAINTS[0], trial, over(BASELINE)).met


def test_the_factor_that_the_baseline_is_away_from_a_limit_is_computed() -> None:
    perplexity, e2e = absolute_limits(CONSTRAINTS, over(BASELINE))
    assert demand(perplexity, BASELINE) == "perplexity at most 12.24; baseline 12: meets it with 2 % to spare"
    assert demand(e2e, BASELINE) == (
        "e2e.p95@8 at most 700 ms; baseline 900 ms: breaks it; it has to fall to 0.778x, 1.29 times better"
    )


def test_a_lower_bound_says_how_far_to_rise() -> None:
    (limit,) = absolute_limits([Constraint(metric="throughput", min=150)], over(BASELINE))
    assert demand(limit, BASELINE).endswith("breaks it; it has to rise to 1.5x")


def test_an_end_to_end_limit_is_a_demand_on_the_request_rate() -> None:
    limits = absolute_limits(CONSTRAINTS, over(BASELINE))
    (bound,) = rate_bounds(limits, Workload(output_tokens=32, concurrency=(1, 8)), 2, BASELINE)
    assert bound == (
        "concurrency 8, e2e 700 ms: at least 8 x 1000 / 700 = 11.43 requests/s (5.714 for each of 2 accelerators), "
        "that is 365.7 output tokens/s; baseline 203, factor 1.8"
    )


def test_an_inter_token_limit_is_a_demand_at_every_level() -> None:
    limits = absolute_limits([Constraint(metric="itl", max=25)], over(BASELINE))
    assert rate_bounds(limits, Workload(concurrency=(1, 8)), 1, BASELINE) == (
        "concurrency 1, itl 25 ms: decoding must reach 1 x 1000 / 25 = 40 output tokens/s; baseline 30, factor 1.33",
        "concurrency 8, itl 25 ms: decoding must reach 8 x 1000 / 25 = 320 output tokens/s; baseline 203, factor 1.58",
    )


def test_concurrency_as_a_parameter_of_a_table_is_bounded_for_each_value() -> None:
    limits = absolute_limits([Constraint(metric="e2e", max=2000)], References())
    assert candidate_bounds(limits, {"concurrency": ("16", "64"), "num_gpus": ("1", "2")}) == (
        "concurrency 16 on 1 accelerator: only with at least 8 requests/s for each accelerator",
        "concurrency 16 on 2 accelerators: only with at least 4 requests/s for each accelerator",
        "concurrency 64 on 1 accelerator: only with at least 32 requests/s for each accelerator",
        "concurrency 64 on 2 accelerators: only with at least 16 requests/s for each accelerator",
    )
    assert candidate_bounds(limits, {"scheme": ("a", "b")}) == ()
