"""What trials rule out: which parameters explain a failure, and what is left to try."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import TrialBuilder, make_baseline, make_trial
from tests.unit.contract.endings import ENDINGS
from tests.unit.search.builders import space_of

from haqa_contract import Configuration, FailureReason
from haqa_contract.engine_log.diagnosis import diagnose
from haqa_operator.api.trial import Trial
from haqa_operator.search.lessons.causes import cause_of
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.space import SearchSpace

LOAD = FailureReason.ENGINE_LOAD_FAILED
BIND = "VLLM_CPU_OMP_THREADS_BIND"
BOUND: dict[str, Any] = {BIND: "0-1"}
NO_OPERATOR = (
    "this engine build has no such kernel for this device: cpu_gemm_wna16 (the device lacks instructions that it "
    "needs, or the image is made for other hardware); take the scheme or setting that uses it out of the search"
)
NO_ANSWER = "the engine started but cannot answer a plain request (HTTP 500: EngineCore encountered an issue)"
NO_KERNEL = "this device has no kernel for the scheme (Marlin FP4 not available); take the scheme out of the search"

DEMO = space_of(
    *(
        Configuration.of(scheme, algorithm, None, **binding)
        for binding in ({}, BOUND)
        for scheme, algorithm in (("W4A16", "rtn"), ("W4A16-ASYM", "rtn"), ("W8A8-INT8", "rtn"), ("BF16", "none"))
        if binding or scheme != "BF16"
    )
)
"""The space of `examples/demo.yaml`, W4A16 first as the prior has it."""


def after(space: SearchSpace, *trials: TrialBuilder) -> SearchSpace:
    built: list[Trial] = [make_baseline().throughput(100).obj(), *(trial.obj() for trial in trials)]
    return taught(space, built, [])


def left(space: SearchSpace, *trials: TrialBuilder) -> list[Configuration]:
    """What may still be tried."""
    return list(space.open({trial.configuration for trial in trials}))


@pytest.mark.parametrize("message", [NO_OPERATOR, NO_ANSWER])
def test_the_demo_on_avx2_spends_two_trials_on_a_kernel_that_is_not_there(message: str) -> None:
    """Finding C1: it spent four of its six."""
    trials = [make_baseline().throughput(16.7).obj()]
    failures = 0
    while True:
        space = taught(DEMO, trials, [])
        left = list(space.open({trial.configuration for trial in trials}))
        if not left:
            break
        trial = make_trial(len(trials)).of(left[0])
        bad = left[0].scheme.value.startswith("W4A16")
        failures += bad
        trials.append((trial.failed(LOAD, message) if bad else trial.throughput(12)).obj())
    assert failures == 2
    assert len(trials) == 1 + 2 + 3, "everything else is tried"


def test_a_lesson_says_what_why_which_trial_and_how_much() -> None:
    space = after(DEMO, make_trial(1).tried("W4A16").failed(LOAD, NO_KERNEL))
    (lesson, *_) = space.lessons
    assert lesson.parameters == {"scheme": "W4A16"}
    assert lesson.trial == 1
    assert lesson.configurations == 1
    assert lesson.reason == (
        "trial 1 ended with EngineLoadFailed: this device has no kernel for the scheme (Marlin FP4 not available)"
    )
    assert space.closed[Configuration.of("W4A16", "rtn", **BOUND)] == lesson.reason


def test_what_has_worked_elsewhere_is_not_at_fault() -> None:
    trials = [
        make_trial(1).tried("BF16", **BOUND).throughput(90),
        make_trial(2).tried("W8A8-INT8", **BOUND).failed(LOAD, NO_ANSWER),
    ]
    space = after(DEMO, *trials)
    (lesson,) = space.lessons
    assert lesson.parameters == {"scheme": "W8A8-INT8"}
    assert "left to show" not in lesson.reason
    assert "W8A8-INT8" not in {configuration.scheme.value for configuration in left(space, *trials)}


def test_a_pair_is_at_fault_where_each_of_the_two_has_worked() -> None:
    space = space_of(
        *(Configuration.of(s, "rtn", kv_cache_dtype=kv, block_size=b) for s in ("W8A16", "W4A16", "FP8-DYNAMIC")
          for kv in ("fp8", "auto") for b in (16, 32))
    )  # fmt: skip
    space = after(
        space,
        make_trial(1).tried("W4A16", kv_cache_dtype="auto", block_size=16).throughput(1),
        make_trial(2).tried("W8A16", kv_cache_dtype="fp8", block_size=16).throughput(1),
        make_trial(3).tried("W4A16", kv_cache_dtype="fp8", block_size=16).failed(LOAD, NO_ANSWER),
    )
    (lesson,) = space.lessons
    assert lesson.parameters == {"scheme": "W4A16", "kv-cache-dtype": "fp8"}
    assert [c.settings["block-size"] for c in space.closed] == [32]


def test_a_doubt_leaves_one_candidate_open_that_differs_in_all_else() -> None:
    space = space_of(*(Configuration.of("W8A8-INT8", "rtn", x=x, y=y) for x in ("a", "b") for y in ("a", "b")),
                     *(Configuration.of("FP8-DYNAMIC", "rtn", x=x, y="a") for x in ("a", "b")))  # fmt: skip
    trial = make_trial(1).tried("W8A8-INT8", x="a", y="a").failed(LOAD, NO_ANSWER)
    space = after(space, trial)
    assert [c.describe() for c in left(space, trial) if c.scheme.value == "W8A8-INT8"] == ["W8A8-INT8/rtn, x=b, y=b"]
    assert "x=b, y=b is left to show whether that is so" in space.lessons[0].reason


def test_no_second_candidate_is_opened_while_the_first_is_running() -> None:
    space = space_of(*(Configuration.of("W8A8-INT8", "rtn", x=x) for x in ("a", "b", "c")))
    running = make_trial(2).tried("W8A8-INT8", x="b").pending()
    failed = make_trial(1).tried("W8A8-INT8", x="a").failed(LOAD, NO_ANSWER)
    assert len(left(after(space, failed), failed)) == 1
    assert not left(after(space, failed, running), failed, running)


def test_a_doubt_that_is_settled_opens_everything_else_again() -> None:
    space = space_of(*(Configuration.of("W8A8-INT8", "rtn", x=x, y=y) for x in ("a", "b") for y in (True, False)))
    space = after(
        space,
        make_trial(1).tried("W8A8-INT8", x="a", y=True).failed(LOAD, NO_ANSWER),
        make_trial(2).tried("W8A8-INT8", x="b", y=False).throughput(100),
    )
    assert Configuration.of("W8A8-INT8", "rtn", x="b", y=True) in list(space.open(()))


def test_what_alike_failures_have_in_common_is_at_fault() -> None:
    space = space_of(*(Configuration.of(s, "rtn", x=x) for s in ("W8A8-INT8", "FP8-DYNAMIC", "W8A16") for x in "ab"))
    trials = [
        make_trial(1).tried("W8A8-INT8", x="a").failed(LOAD, NO_ANSWER),
        make_trial(2).tried("FP8-DYNAMIC", x="a").failed(LOAD, NO_ANSWER),
    ]
    (lesson,) = after(space, *trials).lessons
    assert lesson.parameters == {"x": "a"}
    assert {c.settings["x"] for c in left(after(space, *trials), *trials)} == {"b"}


def test_failures_that_are_not_alike_have_causes_of_their_own() -> None:
    space = space_of(*(Configuration.of(s, "rtn", x=x) for s in ("W8A8-INT8", "FP8-DYNAMIC", "W8A16") for x in "ab"))
    space = after(
        space,
        make_trial(1).tried("W8A8-INT8", x="a").failed(LOAD, NO_ANSWER),
        make_trial(2).tried("FP8-DYNAMIC", x="a").failed(LOAD, "the engine ended with exit code 1: KeyError: 'q'"),
    )
    assert [dict(lesson.parameters) for lesson in space.lessons] == []
    assert len(list(space.open(()))) == 6, "each doubt leaves one open, and has no more than two candidates"


def test_a_number_is_not_taken_for_the_cause_unless_the_message_mentions_it() -> None:
    space = space_of(*(Configuration.of("W8A8-INT8", "rtn", max_num_seqs=n, x=x) for n in (8, 64) for x in "ab"))
    tried = [make_trial(1).tried("W8A8-INT8", max_num_seqs=8, x="a").throughput(1)]
    failed = make_trial(2).tried("W8A8-INT8", max_num_seqs=64, x="a")
    assert not after(space, *tried, failed.failed(LOAD, NO_ANSWER)).lessons
    space = after(space, *tried, failed.failed(LOAD, "the engine ended with exit code 1: max_num_seqs is too odd"))
    assert [lesson.parameters for lesson in space.lessons] == [{"max-num-seqs": 64}]


TRANSIENT = [reason for reason in FailureReason if reason.transient]


@pytest.mark.parametrize("reason", [*TRANSIENT, FailureReason.TIMEOUT, FailureReason.LOAD_ERRORS])
def test_what_another_attempt_may_mend_teaches_nothing(reason: FailureReason) -> None:
    assert not after(DEMO, make_trial(1).tried("W4A16").failed(reason)).lessons


def test_a_cause_that_is_the_configurations_own_teaches_whatever_step_has_noticed_it() -> None:
    trial = make_trial(1).tried("W4A16").failed(FailureReason.LOAD_ERRORS, NO_KERNEL)
    assert trial.status.failure is not None
    own = trial.status.failure.model_copy(update={"of_configuration": True})
    assert after(DEMO, trial._with(failure=own)).lessons


@pytest.mark.parametrize("message", [
    "port 8000 is taken by another process; stop that, or name another port",
    "the disk is full at /cache (OSError: No space left on device); free space there",
    "a GPU of this node is faulty (uncorrectable ECC error); drain the node, and reset or replace the GPU",
])  # fmt: skip
def test_the_machines_troubles_teach_nothing(message: str) -> None:
    assert not after(DEMO, make_trial(1).tried("W4A16").failed(LOAD, message)).lessons


PARAMETERS = ("scheme", "group-size", "kv-cache-dtype", "attention-backend", "max-model-len", "tensor-parallel-size")


@pytest.mark.parametrize(("says", "at_fault"), [
    ("no kernel for the scheme (Marlin FP4", {"scheme"}),
    ("Marlin does not support weight_bits", {"scheme", "group-size"}),
    ("this kv-cache-dtype does not work here (FlashAttention", {"kv-cache-dtype", "attention-backend"}),
    ("the model's columns cannot be split so", {"scheme", "group-size", "tensor-parallel-size"}),
    ("vLLM refuses the argument --kv-cache-dtype", {"kv-cache-dtype"}),
    ("vLLM refuses the settings (SchedulerConfig): max_num_batched_tokens (512)", {"max-model-len"}),
    ("own all-reduce kernel", {"tensor-parallel-size"}),
])  # fmt: skip
def test_what_the_engine_says_is_at_fault_is_read_from_its_own_logs(says: str, at_fault: set[str]) -> None:
    failures = [diagnose(ending.log, ending.exit_code) for ending in ENDINGS]
    found = [failure for failure in failures if says in failure.message]
    assert found
    for failure in found:
        trial = make_trial(1).tried("W4A16")._with(failure=failure).failed(failure.reason, failure.message).obj()
        assert set(cause_of(trial, PARAMETERS).at_fault) == at_fault


def test_what_cannot_be_quantized_is_closed_whatever_would_serve_it() -> None:
    reason = FailureReason.QUANTIZATION_FAILED
    space = space_of(
        *(Configuration.of(s, a, x=x) for s in ("W8A8-INT8", "W4A16") for a in ("rtn", "gptq") for x in "ab")
    )
    failed = make_trial(1).tried("W8A8-INT8", "gptq", x="a")
    failed = failed.failed(reason, "W8A8-INT8/gptq, x=a: llm-compressor could not make it (E: no mapping)")
    space = after(space, failed)
    assert Configuration.of("W8A8-INT8", "gptq", x="b") in space.closed
    assert all(c.algorithm.value == "gptq" for c in space.closed), "of an algorithm that calibrates, the algorithm"
    assert len([c for c in left(space, failed) if c.algorithm.value == "gptq"]) == 1, (
        "one other scheme may show otherwise"
    )


def test_settings_of_the_engine_are_not_blamed_for_quantizing() -> None:
    reason = FailureReason.QUANTIZATION_FAILED
    space = space_of(*(Configuration.of(s, "rtn", x=x) for s in ("W8A8-INT8", "W4A16") for x in "ab"))
    space = after(
        space,
        make_trial(1).tried("W4A16", x="a").throughput(1),
        make_trial(2).tried("W8A8-INT8", x="b").failed(reason, "W8A8-INT8/rtn, x=b: no"),
    )
    assert {c.scheme.value for c in space.closed} == {"W8A8-INT8"}
    assert Configuration.of("W4A16", "rtn", x="b") in list(space.open(()))


def test_lessons_do_not_depend_on_the_order_of_looking() -> None:
    trials = [
        make_baseline().throughput(1).obj(),
        make_trial(1).tried("W4A16").failed(LOAD, NO_OPERATOR).obj(),
        make_trial(2).tried("W8A8-INT8").throughput(1).obj(),
    ]
    assert taught(DEMO, trials, []).lessons == taught(DEMO, trials[::-1], []).lessons


def test_two_that_were_tried_side_by_side_leave_open_what_would_tell_them_apart() -> None:
    space = space_of(
        *(Configuration.of(s, "rtn", x=x, y=y) for s in ("W8A8-INT8", "W8A16") for x in "ab" for y in "ab")
    )
    trials = [
        make_trial(1).tried("W8A8-INT8", x="a", y="a").failed(LOAD, NO_ANSWER),
        make_trial(2).tried("W8A8-INT8", x="a", y="b").failed(LOAD, NO_ANSWER),
    ]
    open_ = [c for c in left(after(space, *trials), *trials) if c.scheme.value == "W8A8-INT8"]
    assert [c.settings["x"] for c in open_] == ["b"], "the scheme or x=a"


def test_two_that_cannot_be_told_apart_are_closed_together() -> None:
    space = space_of(*(Configuration.of("W8A8-INT8", "rtn", x="a", y=y) for y in "abc"), Configuration.of(x="b"))
    trials = [
        make_trial(1).tried("W8A8-INT8", x="a", y="a").failed(LOAD, NO_ANSWER),
        make_trial(2).tried("W8A8-INT8", x="a", y="b").failed(LOAD, NO_ANSWER),
    ]
    assert left(after(space, *trials), *trials) == [Configuration.of(x="b")]
