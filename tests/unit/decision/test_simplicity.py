from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.builders import TrialBuilder, make_baseline, make_trial

from haqa_contract import Configuration
from haqa_operator.api import Trial
from haqa_operator.decision.simplicity import simplicity

IN_ORDER = [
    make_baseline(),
    make_trial(9).tried("BF16"),
    make_trial(8).tried("BF16", max_num_seqs=64),
    make_trial(7).tried("BF16", max_num_seqs=64, enforce_eager=True),
    make_trial(6).tried("W8A16"),
    make_trial(5).tried("W4A16"),
    make_trial(4).tried("W4A16", "gptq"),
    make_trial(3).tried("W8A8-INT8"),
    make_trial(2).tried("NVFP4"),
    make_trial(1).tried("W4A16", max_num_seqs=64),
]


def key(trial: Trial, score: float = 1.0, reference: Configuration | None = None) -> object:
    return simplicity(trial, reference, score)


def test_the_order_is_the_documented_one() -> None:
    trials = [builder.obj() for builder in IN_ORDER]
    assert sorted(trials, key=lambda trial: simplicity(trial, Configuration(), 1.0)) == trials


def test_settings_count_against_the_baselines_and_not_against_none() -> None:
    fixed = Configuration.of(max_num_seqs=64)
    same = make_trial(1).tried("BF16", max_num_seqs=64).obj()
    without = make_trial(2).tried("BF16").obj()
    assert simplicity(same, fixed, 1.0) < simplicity(without, fixed, 1.0)


def test_a_scheme_from_a_table_is_a_scheme_and_not_a_setting() -> None:
    plain = make_trial(1).tried("BF16").obj()
    foreign = Configuration(engine=(("scheme", "W4A4-QuaRot"),))
    strange = make_trial(2).of(foreign).obj()
    known = make_trial(3).tried("NVFP4").obj()
    assert simplicity(plain, None, 1.0) < simplicity(known, None, 1.0) < simplicity(strange, None, 1.0)
    assert simplicity(strange, foreign, 1.0) < simplicity(known, foreign, 1.0)


def test_equally_simple_trials_are_ordered_by_the_better_value() -> None:
    one, other = make_trial(1).tried("W4A16", "gptq").obj(), make_trial(2).tried("W4A16", "awq").obj()
    assert simplicity(other, None, 120.0) < simplicity(one, None, 100.0)


@given(st.permutations(IN_ORDER))
def test_no_two_trials_share_a_place(builders: list[TrialBuilder]) -> None:
    keys = [simplicity(builder.obj(), None, 1.0) for builder in builders]
    assert len(set(keys)) == len(keys)
