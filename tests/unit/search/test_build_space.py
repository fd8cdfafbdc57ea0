"""The space of a pool: everything named is a candidate, the baseline or excluded with a reason."""

import tracemalloc
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optional import present
from tests.unit.search.builders import LLAMA_8B, LLAMA_SMALL, VLLM, amd, cpu, gaudi, gpu_of, model, nvidia

from haqa_contract import MADE_ALGORITHMS, MADE_SCHEMES, Algorithm, Configuration, Scalar, Scheme, Workload
from haqa_operator.api.search_spec import Search
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.algorithms import DEFAULT
from haqa_operator.search.build import MAX_CANDIDATES, SpaceError, build_space
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.search.space import SearchSpace
from haqa_operator.serving.releases import known_releases
from haqa_operator.serving.settings import catalogue
from haqa_operator.serving.versions import Version, dotted

SMALL = model(LLAMA_SMALL)


def space(
    accelerator: Accelerator,
    profile: ModelProfile | None = SMALL,
    workload: Workload | None = None,
    vllm: str = VLLM,
    **search: Any,
) -> SearchSpace:
    """The space of what the search names alone; `test_default_space.py` has the defaults."""
    search = {"engine_defaults": False, **search}
    return build_space(Search(**search), accelerator, profile, workload or Workload(), vllm)


def schemes(found: SearchSpace) -> set[str]:
    return {candidate.scheme.value for candidate in found.candidates}


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [
        (cpu(), {"W8A8-INT8", "W4A16", "W4A16-ASYM", "W4A8", "FP8-DYNAMIC"}),
        (cpu("amx"), {"W8A8-INT8", "W4A16", "W4A16-ASYM", "W4A8", "FP8-DYNAMIC", "FP8-BLOCK"}),
        (nvidia("Tesla-T4"), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}),
        (nvidia("NVIDIA-A100-SXM4-80GB"), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}),
        (nvidia("NVIDIA-L40S"), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}),
        (nvidia("NVIDIA-B200"), {"W4A16", "FP8-DYNAMIC", "NVFP4"}),
        (amd("MI210"), {"W8A8-INT8", "W4A16"}),
        (amd("MI300X"), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}),
        (amd("MI355X"), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC", "MXFP4"}),
        (gaudi(), {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}),
    ],
    ids=lambda value: getattr(value, "product", ""),
)
def test_default_schemes_are_those_that_the_hardware_computes_in_and_eight_bits_of_weights(
    accelerator: Accelerator, expected: set[str]
) -> None:
    assert schemes(space(accelerator)) == expected


def test_default_schemes_that_the_hardware_lacks_are_on_record() -> None:
    excluded = {e.parameters["scheme"]: e.reason for e in space(cpu()).exclusions}
    assert "W8A16" in excluded
    assert "does not load W8A16 on CPUs" in excluded["W8A16"]
    assert set(excluded) | schemes(space(cpu())) | {"BF16"} == {scheme.value for scheme in MADE_SCHEMES}


def test_weight_only_fallback_may_be_asked_for_and_is_noted() -> None:
    found = space(nvidia("NVIDIA-A100-SXM4-80GB"), schemes=("BF16", "FP8-DYNAMIC"))
    assert schemes(found) == {"FP8-DYNAMIC"}
    assert any("FP8-DYNAMIC runs weight-only here" in note for note in found.notes)


def test_baseline_is_unquantized_with_the_fixed_settings_and_not_a_candidate() -> None:
    found = space(cpu(), fixed_engine={"block-size": 64}, engine={"max-num-seqs": (8, 16)})
    assert found.baseline == Configuration.of(block_size=64)
    assert found.baseline not in found.candidates
    assert all(candidate.settings["block-size"] == 64 for candidate in found.candidates)


def test_unquantized_model_with_other_settings_is_a_rival() -> None:
    found = space(cpu(), engine={"max-num-seqs": ("default", 8)})
    assert Configuration.of(max_num_seqs=8) in found.candidates
    assert Configuration.of("W8A8-INT8", "rtn") in found.candidates


@pytest.mark.parametrize(
    "engine",
    [
        {"enforce-eager": (False,)},
        {"kv-cache-dtype": ("auto",)},
        {"max-num-seqs": ("default",)},
        {"enable-prefix-caching": (True,)},
        {"optimization-level": (2,)},
        {"enforce-eager": ("default", False)},
    ],
)
def test_what_vllm_does_anyway_is_left_out(engine: dict[str, Any]) -> None:
    found = space(cpu(), schemes=("BF16", "W8A8-INT8"), algorithms=("rtn",), engine=engine)
    assert found.candidates == (Configuration.of("W8A8-INT8", "rtn"),)


def test_true_is_not_one_and_one_is_not_true() -> None:
    found = space(cpu(), schemes=("BF16",), engine={"enforce-eager": (True, False), "optimization-level": (1, 2)})
    assert len(found.candidates) == 3
    assert Configuration.of(enforce_eager=True, optimization_level=1) in found.candidates


def test_algorithms_and_group_sizes_multiply_where_they_apply() -> None:
    found = space(cpu(), schemes=("W4A16", "W8A8-INT8"), algorithms=("rtn", "gptq"), group_sizes=(32, 64))
    assert {candidate.describe() for candidate in found.candidates} == {
        "W4A16/rtn g32",
        "W4A16/rtn g64",
        "W4A16/gptq g32",
        "W4A16/gptq g64",
        "W8A8-INT8/rtn",
        "W8A8-INT8/gptq",
    }


def test_named_algorithm_that_does_nothing_for_a_scheme_is_excluded_with_the_reason() -> None:
    found = space(cpu(), schemes=("W4A16", "W8A8-INT8"), algorithms=("smoothquant-gptq",))
    assert [e.parameters for e in found.exclusions] == [{"scheme": "W4A16", "algorithm": "smoothquant-gptq"}]
    assert "does nothing for W4A16" in found.exclusions[0].reason


QWEN25_72B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 29568,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(("count", "group"), [(1, None), (2, 64), (4, 32), (8, -1)])
def test_groups_are_the_largest_that_fit_where_none_are_named(count: int, group: int | None) -> None:
    profile = model(QWEN25_72B)
    found = space(nvidia("NVIDIA-H200", count), profile, schemes=["W4A16"], algorithms=["gptq"])
    assert [candidate.group_size for candidate in found.candidates] == [group]


def test_groups_that_are_named_are_the_only_ones() -> None:
    named: dict[str, Any] = {"schemes": ["W4A16"], "algorithms": ["gptq"], "group_sizes": [128]}
    assert space(nvidia("NVIDIA-H200", 4), model(QWEN25_72B), **named).candidates == ()


def test_exclusions_are_grouped_by_cause_and_counted() -> None:
    found = space(
        cpu(), schemes=("W4A16", "NVFP4"), engine={"max-num-seqs": (4, 8, 16), "max-num-batched-tokens": (8, 64)}
    )
    counts = {tuple(e.parameters.items()): e.configurations for e in found.exclusions}
    assert counts == {
        (("scheme", "NVFP4"),): 2 * 6,
        (("max-num-batched-tokens", 8), ("max-num-seqs", 16)): 2,
    }


def test_baseline_that_does_not_fit_says_so_and_the_quantized_go_on() -> None:
    found = space(nvidia("Tesla-T4"), model())
    assert "weights under BF16 take 15.0 GiB" in present(found.baseline_problem)
    assert schemes(found) == {"W8A8-INT8", "W4A16", "FP8-DYNAMIC"}
    assert space(nvidia("NVIDIA-L4"), model()).baseline_problem is None


def test_every_scheme_is_seen_before_any_is_seen_twice() -> None:
    found = space(cpu(), engine={"max-num-seqs": ("default", 2, 4, 8)})
    first = [candidate.scheme for candidate in found.candidates[:5]]
    assert len(set(first)) == 5
    assert first[0] is Scheme.W8A8_INT8, "the fastest on a CPU with VNNI"


def test_without_vnni_four_bits_come_first() -> None:
    assert space(cpu("avx512")).candidates[0].scheme is Scheme.W4A16


def test_without_avx512_four_bits_are_ruled_out_with_what_to_use_instead() -> None:
    found = space(cpu("avx2"))
    assert schemes(found) == {"W8A8-INT8", "W4A8", "FP8-DYNAMIC"}
    assert any(
        exclusion.parameters == {"scheme": "W4A16"} and "use W8A8-INT8 or W4A8" in exclusion.reason
        for exclusion in found.exclusions
    )


def test_order_depends_on_the_inputs_alone() -> None:
    search: dict[str, Any] = {"engine": {"max-num-seqs": (2, 4, 8), "enforce-eager": (True, False)}}
    turned: dict[str, Any] = {"engine": {"enforce-eager": (False, True), "max-num-seqs": (8, 2, 4)}}
    assert space(nvidia(), **search).candidates == space(nvidia(), **search).candidates
    assert set(space(nvidia(), **search).candidates) == set(space(nvidia(), **turned).candidates)


def test_too_large_a_space_says_what_to_cut() -> None:
    engine = {
        "max-num-seqs": tuple(range(1, 301)),
        "max-num-batched-tokens": tuple(range(2048, 2148)),
        "block-size": (16,),
    }
    with pytest.raises(
        SpaceError, match=r"more than 50,000 candidates; leave out values, first of search.engine.max-num-seqs"
    ):
        space(cpu(), engine=engine)
    assert MAX_CANDIDATES == 50_000


def test_what_is_too_many_is_refused_before_it_is_multiplied_out() -> None:
    values = tuple(range(1, 257))
    engine = {name: values for name in ("max-num-seqs", "max-num-batched-tokens", "block-size", "no-such-setting")}
    tracemalloc.start()
    try:
        with pytest.raises(SpaceError, match="4294967296 combinations"):
            space(cpu(), engine=engine)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * 2**20


def test_model_that_could_not_be_read_leaves_its_checks_to_the_trials() -> None:
    assert space(nvidia("Tesla-T4"), None).baseline_problem is None


def test_closed_candidates_keep_their_numbers_and_are_not_open() -> None:
    found = space(cpu())
    running = dict.fromkeys(found.candidates[:2], "is being measured")
    closed = found.closing(running).closing({found.candidates[0]: "must fail"})
    assert closed.candidates == found.candidates
    assert tuple(closed.open({found.candidates[2]})) == found.candidates[3:]
    assert closed.closed[found.candidates[0]] == "is being measured"


SETTINGS = st.dictionaries(
    st.sampled_from(["max-num-seqs", "max-num-batched-tokens", "kv-cache-dtype", "enforce-eager", "max-model-len"]),
    st.lists(st.sampled_from([16, 256, 2048, 8192]), min_size=1, max_size=3, unique=True).map(tuple),
    max_size=3,
)
TYPED = {"kv-cache-dtype": ("auto", "fp8", "nvfp4"), "enforce-eager": (True, False)}


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(MADE_SCHEMES), min_size=1, max_size=5, unique=True).map(tuple),
    algorithms=st.none() | st.lists(st.sampled_from(MADE_ALGORITHMS), min_size=1, max_size=3, unique=True).map(tuple),
    groups=st.lists(st.sampled_from([-1, 32, 48, 128]), max_size=3, unique=True).map(tuple),
    engine=SETTINGS,
    accelerator=st.sampled_from([cpu(), nvidia("Tesla-T4"), nvidia("NVIDIA-H200"), amd("MI300X"), gpu_of(7, 0, 16)]),
)
def test_candidates_baseline_and_exclusions_are_the_whole_product(
    chosen: tuple[Scheme, ...],
    algorithms: tuple[Algorithm, ...] | None,
    groups: tuple[int, ...],
    engine: dict[str, tuple[Scalar, ...]],
    accelerator: Accelerator,
) -> None:
    """Nothing is lost, nothing is counted twice, and every exclusion has a reason."""
    engine = engine | {name: values for name, values in TYPED.items() if name in engine}
    found = space(accelerator, schemes=chosen, algorithms=algorithms, group_sizes=groups, engine=engine)
    whole = 0
    for scheme in chosen:
        own = (Algorithm.NONE,) if scheme is Scheme.BF16 else algorithms or DEFAULT[scheme]
        sizes = groups if groups and FORMATS[scheme].groups_chosen else (None,)
        whole += len(own) * len(sizes) * len(list(product(*engine.values())))
    excluded = sum(e.configurations for e in found.exclusions)
    baseline = int(Scheme.BF16 in chosen and _has_defaults(engine) and not found.baseline_problem)
    assert len(found.candidates) + excluded + baseline == whole
    assert len(set(found.candidates)) == len(found.candidates)
    assert all(e.reason and e.configurations > 0 for e in found.exclusions)


def _has_defaults(engine: dict[str, tuple[Scalar, ...]]) -> bool:
    defaults = {"kv-cache-dtype": "auto", "enforce-eager": False}
    return all(defaults.get(name, object()) in values for name, values in engine.items())


def test_a_quantized_head_is_part_of_what_is_weighed_and_shaped() -> None:
    profile = model(LLAMA_8B)
    plain, headed = (
        build_space(
            Search(engine_defaults=False, quantize_head=asked), nvidia("NVIDIA-L40S"), profile, Workload(), VLLM
        )
        for asked in (False, True)
    )
    assert set(plain.candidates) == set(headed.candidates)
    one = Configuration.of("W4A16", "rtn")
    assert headed.speeds[one] > plain.speeds[one]


def test_a_head_that_is_the_embedding_table_cannot_be_quantized() -> None:
    tied = model(LLAMA_8B | {"tie_word_embeddings": True})
    with pytest.raises(SpaceError, match=r"spec\.search\.quantizeHead true: .* is its embedding table"):
        space(nvidia("NVIDIA-L40S"), tied, quantize_head=True)


def test_settings_that_the_pool_s_release_lacks_are_ruled_out_with_a_sentence() -> None:
    found = space(
        nvidia("NVIDIA-L40S"),
        model(),
        vllm="0.16.0",
        engine={"performance-mode": ("default", "throughput"), "max-num-seqs": ("default", 64)},
    )
    reasons = {exclusion.reason for exclusion in found.exclusions}
    assert "vLLM 0.16.0 has no performance-mode; vLLM 0.17.0 has it" in reasons
    assert found.baseline_problem is None
    assert found.candidates
    assert not any("performance-mode" in candidate.settings for candidate in found.candidates)


def test_a_fixed_setting_that_the_pool_s_release_lacks_leaves_nothing_to_try() -> None:
    found = space(nvidia("NVIDIA-L40S"), model(), vllm="0.16.0", fixed_engine={"performance-mode": "throughput"})
    assert found.baseline_problem == "vLLM 0.16.0 has no performance-mode; vLLM 0.17.0 has it"
    assert found.candidates == ()


@pytest.mark.parametrize("release", known_releases())
def test_default_settings_are_those_of_the_pool_s_release(release: Version) -> None:
    found = space(
        nvidia("NVIDIA-H100-80GB-HBM3"), model(), vllm=dotted(release), engine_defaults=True, schemes=("FP8-DYNAMIC",)
    )
    known = set(catalogue(release).settings) | catalogue(release).variables
    assert found.candidates
    assert {name for candidate in found.candidates for name in candidate.settings} <= known
