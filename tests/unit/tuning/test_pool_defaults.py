"""What a pool is measured with where the tuning does not say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_tuning
from tests.unit.search.builders import LLAMA_8B, cpu, gpu_of, model, nvidia

from haqa_contract import Calibration, Evaluation, Workload
from haqa_operator.api import TuningSpec
from haqa_operator.api.status import MeasuredWith, PoolStatus
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.tuning.fingerprint import fingerprint
from haqa_operator.tuning.pool_defaults import left_to_haqa, levels, measured_with, pool_spec

L40S, H100 = nvidia("NVIDIA-L40S"), nvidia("NVIDIA-H100-80GB-HBM3")
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}


def spec_of(**fields: Any) -> TuningSpec:
    return make_tuning().on_pool("here").having(**fields).obj().spec


def resolved(
    spec: TuningSpec,
    accelerator: Accelerator = L40S,
    profile: ModelProfile | None = None,
    recorded: Iterable[MeasuredWith] = (),
    has_trials: Callable[[TuningSpec], bool] = lambda _: False,
) -> TuningSpec:
    return pool_spec(
        spec,
        spec.node_pools[0],
        accelerator,
        profile or model(),
        "0.32.0",
        recorded=recorded,
        has_trials=has_trials,
    )


def test_a_cpu_keeps_the_defaults_of_the_resource() -> None:
    spec = spec_of()
    assert resolved(spec, cpu()) is spec
    assert (spec.workload, spec.evaluation, spec.calibration) == (Workload(), Evaluation(), Calibration())
    assert spec.workload.concurrency == (1, 8)


def test_an_accelerator_is_measured_with_a_chat_up_to_what_its_memory_holds() -> None:
    found = resolved(spec_of()).workload
    assert found.concurrency == (1, 8, 64, 256)
    assert (found.input_tokens, found.output_tokens) == (512, 256)
    assert (found.duration_s, found.repeats) == (30.0, 4)


@pytest.mark.parametrize(
    ("accelerator", "config", "expected"),
    [
        # 16 GB of weights leave 26 GiB of KV cache, of which a request of 768 tokens takes 96 MiB.
        (L40S, LLAMA_8B, (1, 8, 64, 256)),
        # 141 GB of weights leave two H100 little; 240 MiB a request, cut in two.
        (replace(H100, count=2), LLAMA_70B, (1, 8, 32)),
        # It does not fit at all: beside 4-bit weights.
        (H100, LLAMA_70B, (1, 8, 32, 128)),
        (replace(L40S, memory_gib=17.6), LLAMA_8B, (1, 4)),
    ],
)
def test_levels_follow_the_memory_beside_the_weights(
    accelerator: Accelerator, config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert resolved(spec_of(), accelerator, model(config)).workload.concurrency == expected


def test_nothing_is_concluded_of_a_memory_that_nobody_knows() -> None:
    assert resolved(spec_of(), replace(gpu_of(9, 0), memory_gib=None)).workload.concurrency == (1, 8, 32)


def test_a_limit_on_sequences_is_a_limit_on_levels() -> None:
    fixed = spec_of(search={"fixedEngine": {"max-num-seqs": 32}})
    assert resolved(fixed).workload.concurrency == (1, 8, 32)


@given(held=st.one_of(st.none(), st.floats(0, 1e6)))
def test_levels_are_few_powers_of_two_that_fit(held: float | None) -> None:
    found = levels(held)
    assert found[0] == 1
    assert 1 <= len(found) <= 4
    assert list(found) == sorted(set(found))
    assert all(level & (level - 1) == 0 for level in found)
    assert found[-1] <= 256
    if held is not None:
        assert found[-1] <= max(1.0, held)
        assert 2 * found[-1] > min(held, 256)


@given(
    given_=st.fixed_dictionaries(
        {},
        optional={
            "concurrency": st.lists(st.integers(1, 512), min_size=1, max_size=4, unique=True),
            "inputTokens": st.integers(1, 4096),
            "outputTokens": st.integers(1, 2048),
            "repeats": st.integers(1, 9),
            "durationSeconds": st.floats(1, 99),
        },
    ),
    longest=st.one_of(st.none(), st.integers(7000, 9000)),
)
def test_what_the_tuning_names_stays_as_it_is(given_: dict[str, Any], longest: int | None) -> None:
    serving = {"serving": {"maxModelLen": longest}} if longest else {}
    found = resolved(spec_of(workload=given_, **serving)).workload
    shown = found.model_dump(by_alias=True)
    assert {name: shown[name] for name in given_} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in given_.items()
    }
    Workload.model_validate(found.model_dump())


@pytest.mark.parametrize("longest", [400, 700, 767, 768, 4096])
def test_requests_are_no_longer_than_what_is_served(longest: int) -> None:
    found = resolved(spec_of(serving={"maxModelLen": longest}))
    assert found.workload.input_tokens + found.workload.output_tokens <= longest
    assert found.evaluation.sequence_length < longest
    assert (found.workload.input_tokens == 512) == (longest >= 768)
    short = resolved(spec_of(), profile=model(LLAMA_8B, max_position_embeddings=longest))
    assert short.workload == found.workload


def test_windows_end_by_requests_where_the_tuning_says_how_many() -> None:
    assert resolved(spec_of(workload={"requestsPerLevel": 100})).workload.duration_s is None


def test_prompts_of_a_dataset_are_cut_later() -> None:
    assert resolved(spec_of(workload={"dataset": "hf://datasets/a/b"})).workload.input_tokens == 1024


def test_levels_of_limits_and_objectives_are_measured_too() -> None:
    spec = spec_of(
        objective={"metric": "throughput", "concurrency": 8},
        constraints=[{"metric": "ttft", "max": 9, "concurrency": 1}],
    )
    assert resolved(spec, replace(L40S, memory_gib=17.6)).workload.concurrency == (1, 4, 8)


def test_accuracy_is_judged_on_more_text_and_nobody_is_said_to_have_named_how_much() -> None:
    found = resolved(spec_of(evaluation={"topLogprobs": 5}))
    assert (found.evaluation.samples, found.evaluation.sequence_length) == (128, 512)
    assert (found.calibration.samples, found.calibration.sequence_length) == (128, 2048)
    assert found.evaluation.model_fields_set == {"top_logprobs"}


def print_of(spec: TuningSpec) -> str:
    return fingerprint(spec, spec.node_pools[0], L40S, "files-1", "0.32.0")


def test_a_pool_goes_on_with_what_its_trials_were_measured_with() -> None:
    spec = spec_of()
    # As an earlier version, or nodes that then had another memory, resolved it.
    earlier = resolved(spec, replace(L40S, memory_gib=24))
    known = {print_of(earlier)}
    found = resolved(spec, recorded=(measured_with(earlier),), has_trials=lambda one: print_of(one) in known)
    assert print_of(found) == print_of(earlier)


def test_a_run_from_when_accelerators_had_the_defaults_of_cpus_is_not_thrown_away() -> None:
    spec = spec_of()
    found = resolved(spec, has_trials=lambda one: print_of(one) == print_of(spec))
    assert found is spec


def test_a_record_without_trials_is_not_kept_to() -> None:
    spec = spec_of()
    old = MeasuredWith(workload=Workload(concurrency=(3,)))
    assert resolved(spec, recorded=(old,)) == resolved(spec)


def test_a_record_gives_way_to_what_the_tuning_names_since() -> None:
    spec = spec_of(workload={"outputTokens": 64})
    old = measured_with(resolved(spec_of()))
    found = resolved(spec, recorded=(old,), has_trials=lambda _: True)
    assert found.workload.output_tokens == 64
    assert found.workload.concurrency == old.workload.concurrency


def test_pools_resolve_alike_however_often() -> None:
    assert print_of(resolved(spec_of())) == print_of(resolved(spec_of()))


def test_a_status_of_a_newer_operator_can_be_read() -> None:
    written = PoolStatus(name="a", measured_with=measured_with(resolved(spec_of()))).model_dump(
        mode="json", by_alias=True
    )
    written["measuredWith"]["workload"]["burstiness"] = 2
    read = PoolStatus.model_validate(written)
    assert read.measured_with == measured_with(resolved(spec_of()))


def test_what_is_measured_is_said_for_the_platforms_that_the_pools_may_have() -> None:
    either = left_to_haqa(spec_of())
    assert [line.partition(":")[0] for line in either] == ["on CPUs", "on accelerators"]
    assert "concurrency 1, 8, 64, 256, prompts of 512 and answers of 256" in either[1]
    assert "as far as the memory goes" in either[1]
    (known,) = left_to_haqa(make_tuning().on_pool("x", hardware={"vendor": "cpu"}).obj().spec)
    assert known.startswith("on CPUs: concurrency 1, 8, prompts of 256 and answers of 128 tokens")
    (named,) = left_to_haqa(make_tuning().on_pool("x", hardware={"vendor": "amd"}).workload(concurrency=[7]).obj().spec)
    assert "concurrency 7," in named
    assert "memory" not in named


def test_a_dataset_is_named_where_there_is_one() -> None:
    used = measured_with(spec_of(workload={"dataset": "file:///prompts.jsonl"}))
    assert "prompts from file:///prompts.jsonl, cut to 256 and" in used.describe()
