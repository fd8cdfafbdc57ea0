"""What follows for candidates that differ from a trial in one direction only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.builders import TrialBuilder, make_baseline, make_trial
from tests.unit.search.builders import space_of

from haqa_contract import Configuration, FailureReason, Scalar
from haqa_operator.api.goals import Constraint
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.space import SearchSpace

OOM = FailureReason.ENGINE_OOM
TOO_SMALL = "the KV cache is too small: it holds 10 tokens; lower max-model-len or raise gpu-memory-utilization"
TOO_MUCH = "the accelerator ran out of memory (it asked for 2 GiB more); lower gpu-memory-utilization or max-num-seqs"
LATENCY = Constraint(metric="itl", percentile=95, max=50)
ACCURACY = Constraint(metric="perplexity", max_degradation_percent=5)

LOADS = replace(
    space_of(
        *(Configuration.of(s, "rtn", **{"batch-size": b, "tp": tp}) for s in ("W4A16", "W8A16") for tp in (1, 2)
          for b in (1, 8, 32, 64))
    ),
    load_parameters=frozenset({"batch-size"}),
    accelerator_parameters=frozenset({"tp"}),
)  # fmt: skip


def after(space: SearchSpace, *trials: TrialBuilder, limits: tuple[Constraint, ...] = ()) -> SearchSpace:
    baseline = make_baseline().throughput(100).metric("perplexity", 10)
    return taught(space, [baseline.obj(), *(trial.obj() for trial in trials)], limits)


def closed(space: SearchSpace, *names: str) -> set[tuple[Scalar | None, ...]]:
    return {tuple(configuration.parameters.get(name) for name in names) for configuration in space.closed}


def test_more_load_never_repairs_a_latency_limit() -> None:
    trial = make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", 80)
    space = after(LOADS, trial, limits=(LATENCY,))
    assert closed(space, "scheme", "tp", "batch-size") == {("W4A16", 1, 64)}
    (lesson,) = space.lessons
    assert lesson.parameters == {"scheme": "W4A16", "algorithm": "rtn", "tp": 1, "batch-size": "32 or 64"}
    assert lesson.configurations == 1
    assert lesson.reason.startswith("trial 1, with no more load: itl.p95 is 80 ms, above the limit of 50 ms")


@pytest.mark.parametrize("trial", [
    make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", 40),
    make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", 51, margin=5),
    make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", 51),
    make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9),
])  # fmt: skip
def test_a_limit_that_is_kept_or_broken_within_noise_or_not_measured_closes_nothing(trial: TrialBuilder) -> None:
    assert not after(LOADS, trial, limits=(LATENCY,)).closed


@pytest.mark.parametrize(("latency", "count"), [(58, 0), (80, 1)])
def test_a_load_test_that_ended_early_teaches_what_is_beyond_its_rough_figures(latency: float, count: int) -> None:
    trial = make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", latency)
    rough = replace(trial, status=trial.status.model_copy(update={"ended_early": "too slow"}))
    assert len(after(LOADS, trial, limits=(LATENCY,)).lessons) == 1
    assert len(after(LOADS, rough, limits=(LATENCY,)).lessons) == count


def test_without_a_parameter_that_is_declared_as_load_nothing_is_concluded_from_a_latency() -> None:
    trial = make_trial(1).tried("W4A16", batch_size=32, tp=1).throughput(9).metric("itl.p95", 80)
    assert not after(replace(LOADS, load_parameters=frozenset()), trial, limits=(LATENCY,)).closed


def test_more_load_fewer_accelerators_and_wider_weights_never_repair_an_oom() -> None:
    space = after(LOADS, make_trial(1).tried("W4A16", batch_size=32, tp=2).failed(OOM))
    assert closed(space, "scheme", "tp", "batch-size") == {
        (scheme, tp, load) for scheme in ("W4A16", "W8A16") for tp in (1, 2) for load in (32, 64)
    } - {("W4A16", 2, 32)}


ENGINE: dict[str, Any] = {"max_num_seqs": 64, "gpu_memory_utilization": 0.9, "kv_cache_dtype": "fp8", "x": "a"}


@pytest.mark.parametrize(("message", "changes", "is_closed"), [
    (TOO_SMALL, {"max_num_seqs": 128}, True),
    (TOO_SMALL, {"max_num_seqs": 32}, False),
    (TOO_SMALL, {"gpu_memory_utilization": 0.8}, True),
    (TOO_SMALL, {"gpu_memory_utilization": 0.95}, False),
    (TOO_MUCH, {"gpu_memory_utilization": 0.8}, False),
    (TOO_MUCH, {"gpu_memory_utilization": 0.95}, True),
    ("it said nothing", {"gpu_memory_utilization": 0.8}, False),
    ("it said nothing", {"gpu_memory_utilization": 0.95}, False),
    ("it said nothing", {"max_num_seqs": 128}, True),
    (TOO_SMALL, {"kv_cache_dtype": "auto"}, True),
    (TOO_SMALL, {"max_num_seqs": 128, "kv_cache_dtype": "auto", "gpu_memory_utilization": 0.8}, True),
    (TOO_SMALL, {"max_num_seqs": 128, "gpu_memory_utilization": 0.95}, False),
    (TOO_SMALL, {"x": "b"}, False),
    (TOO_SMALL, {"max_num_seqs": None}, False),
    (TOO_SMALL, {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, True),
])  # fmt: skip
def test_less_memory_never_repairs_an_oom(message: str, changes: dict[str, Scalar | None], is_closed: bool) -> None:
    def of(settings: dict[str, Scalar | None]) -> Configuration:
        return Configuration.of("W8A16", "rtn", None, **{name: v for name, v in settings.items() if v is not None})

    tried, other = of({**ENGINE}), of({**ENGINE, **changes})
    space = after(space_of(tried, other), make_trial(1).of(tried).failed(OOM, message))
    assert (other in space.closed) is is_closed


@pytest.mark.parametrize(("scheme", "group_size", "more", "is_closed"), [
    ("BF16", None, {}, True),
    ("W8A16", 128, {}, False),
    ("W8A16", 32, {}, True),
    ("W4A16", 32, {}, False),
    ("W4A16", 64, {}, False),
    ("W8A8-INT8", None, {}, False),
    ("W8A16", 64, {"dtype": "float32"}, True),
])  # fmt: skip
def test_wider_weights_never_repair_an_oom(
    scheme: str, group_size: int | None, more: dict[str, Scalar], is_closed: bool
) -> None:
    tried = Configuration.of("W8A16", "rtn", 64, x=1)
    other = Configuration.of(scheme, "none" if scheme == "BF16" else "gptq", group_size, x=1, **more)
    space = after(space_of(tried, other), make_trial(1).of(tried).failed(OOM))
    assert (other in space.closed) is is_closed


def test_memory_that_something_else_had_taken_teaches_nothing() -> None:
    message = "only 3.2 of the accelerator's 79.1 GiB are free at start; stop what else runs on it or lower it"
    space = space_of(*(Configuration.of("W8A16", "rtn", max_num_seqs=n) for n in (8, 64)))
    assert not after(space, make_trial(1).tried("W8A16", max_num_seqs=8).failed(OOM, message)).closed


NUMBERS = space_of(
    *(
        Configuration.of(scheme, "rtn", **more)
        for scheme in ("W4A16", "W8A16")
        for more in ({}, {"max_num_seqs": 8}, {"kv_cache_dtype": "fp8"}, {"dtype": "float16"}, {"linear_backend": "x"})
    )
)


@pytest.mark.parametrize("ended_early", [True, False])
def test_what_computes_the_same_numbers_misses_the_same_accuracy_limit(ended_early: bool) -> None:
    trial = make_trial(1).tried("W4A16").throughput(200).metric("perplexity", 12)
    if ended_early:
        trial = trial.failed(FailureReason.ACCURACY_GATE, "perplexity is 12, above its limit 10.5")
    space = after(NUMBERS, trial, limits=(ACCURACY,))
    assert set(space.closed) == {Configuration.of("W4A16", "rtn", max_num_seqs=8)}
    assert "perplexity is 12" in space.lessons[0].reason


def test_accuracy_that_was_not_measured_closes_nothing() -> None:
    reason, message = FailureReason.ACCURACY_GATE, "perplexity has a limit but was not measured (nothing was); add it"
    assert not after(NUMBERS, make_trial(1).tried("W4A16").failed(reason, message), limits=(ACCURACY,)).closed


def test_answers_that_make_no_sense_are_attributed_like_an_engine_that_does_not_start() -> None:
    reason = FailureReason.ACCURACY_GATE
    message = "the engine answers 3 different prompts with one token over and over (a): the weights or a kernel are "
    message += "broken for this configuration on this device; take it out of the search"
    space = after(NUMBERS, make_trial(1).tried("W4A16").failed(reason, message), limits=(ACCURACY,))
    assert space.closed
    assert all(configuration.scheme.value == "W4A16" for configuration in space.closed)


def test_an_artifact_that_takes_too_long_to_make_takes_as_long_for_any_engine() -> None:
    space = space_of(*(Configuration.of(s, "gptq", max_num_seqs=n) for s in ("W4A16", "W8A16") for n in (8, 64)))
    message = "quantize was still working after 3600 s, at the end of budget.trialTimeout (3600 s); raise it"
    trial = make_trial(1).tried("W4A16", "gptq", max_num_seqs=8).failed(FailureReason.TIMEOUT, message)
    assert closed(after(space, trial), "scheme") == {("W4A16",)}
    later = trial.failed(FailureReason.TIMEOUT, message.replace("quantize", "measure"))
    assert not after(space, later).closed
