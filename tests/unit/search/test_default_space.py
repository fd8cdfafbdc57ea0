"""The default space: what is on its lists, where it applies, how it is crossed, and what goes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.search.builders import VLLM, amd, case, cpu, model, nvidia
from tests.unit.search.default_cases import (
    MACHINES,
    MODELS,
    OPENMP,
    TCMALLOC,
    WORKLOADS,
)

from haqa_contract import MADE_SCHEMES, Configuration, Scalar, Scheme, Workload
from haqa_operator.api.goals import Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.hardware.accelerators import Accelerator, Platform, Vendor
from haqa_operator.search import build
from haqa_operator.search.bounds import best_possible
from haqa_operator.search.build import MAX_CANDIDATES, SpaceError, build_space
from haqa_operator.search.cases import Case, first_violation
from haqa_operator.search.engine_defaults import DEFAULT_SETTINGS, Value, expected_factor
from haqa_operator.search.engine_defaults.document import written
from haqa_operator.search.engine_defaults.joining import Offer, plan
from haqa_operator.search.engine_defaults.shared import default_batched_tokens, default_sequences
from haqa_operator.search.engine_policies import ENGINE_POLICIES
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.search.prior import by_roofline, estimate
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.verdicts import looked_at
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.settings import check_search
from haqa_operator.serving.versions import parse_version

OLDER = ("0.9.2", "0.13.0")

LITTLE = WORKLOADS["little"]
MTP = '{"method": "mtp", "num_speculative_tokens": 1}'


@cache
def found(machine: str, of: str = "llama", load: str = "little", vllm: str = VLLM) -> SearchSpace:
    search = Search(algorithms=("rtn",))
    return build_space(search, MACHINES[machine], MODELS[of], WORKLOADS[load], vllm, objective=Objective())


def space(
    accelerator: Accelerator,
    profile: ModelProfile | None = MODELS["small"],
    workload: Workload = LITTLE,
    env: Mapping[str, str] | None = None,
    **search: Any,
) -> SearchSpace:
    return build_space(Search(**search), accelerator, profile, workload, VLLM, env=env)


def settings_of(candidates: SearchSpace) -> set[str]:
    return {name for candidate in candidates.candidates for name in candidate.settings}


def case_of(machine: str, of: str, load: str, configuration: Configuration, vllm: str = VLLM) -> Case:
    return Case(MACHINES[machine], MODELS[of], configuration, WORKLOADS[load], parse_version(vllm))


EVERYWHERE = pytest.mark.parametrize(
    ("machine", "of", "load", "vllm"),
    [
        *((machine, "llama", "much", VLLM) for machine in MACHINES),
        *((machine, "small", "little", VLLM) for machine in MACHINES),
        *((machine, "small", "little", vllm) for machine in ("AVX512", "H100", "MI355X") for vllm in OLDER),
        *(("8 x H200", of, "prompts", VLLM) for of in MODELS),
        *((machine, "experts", "prompts", VLLM) for machine in ("AMX", "4 x MI300X", "Gaudi3")),
    ],
)


@EVERYWHERE
def test_every_setting_and_value_is_one_that_vllm_takes_and_a_tuning_may_name(
    machine: str, of: str, load: str, vllm: str
) -> None:
    values: dict[str, list[Scalar]] = {}
    for candidate in found(machine, of, load, vllm).candidates:
        for name, value in candidate.engine:
            if value not in values.setdefault(name, []):
                values[name].append(value)
    assert check_search(Search(engine={name: tuple(each) for name, each in values.items()})) == []


@EVERYWHERE
def test_every_candidate_keeps_the_policies_and_becomes_a_command(machine: str, of: str, load: str, vllm: str) -> None:
    candidates = found(machine, of, load, vllm).candidates
    for candidate in (*candidates[:40], *candidates[40::101]):
        assert first_violation(case_of(machine, of, load, candidate, vllm), ENGINE_POLICIES) is None
        engine_launch(candidate, MACHINES[machine], model_path="/m", served_model_name="m")


@EVERYWHERE
def test_no_limit_is_below_a_measured_level_and_group_sizes_are_for_integer_weights(
    machine: str, of: str, load: str, vllm: str
) -> None:
    level = max(WORKLOADS[load].concurrency)
    for candidate in found(machine, of, load, vllm).candidates:
        settings = candidate.settings
        assert int(settings.get("max-num-seqs", level)) >= level
        assert int(settings.get("max-num-batched-tokens", level)) >= level
        assert candidate.group_size is None or FORMATS[candidate.scheme].groups_chosen


@EVERYWHERE
def test_a_space_is_no_larger_than_can_be_searched_and_nothing_is_in_it_twice(
    machine: str, of: str, load: str, vllm: str
) -> None:
    candidates = found(machine, of, load, vllm).candidates
    assert len(set(candidates)) == len(candidates) <= MAX_CANDIDATES
    assert found(machine, of, load, vllm).baseline not in candidates


@EVERYWHERE
def test_what_a_candidate_is_not_judged_by_changes_no_judgement(machine: str, of: str, load: str, vllm: str) -> None:
    """`verdicts` asks once for all candidates that are alike in the settings that are looked at."""
    candidates = found(machine, of, load, vllm).candidates
    for candidate in candidates[::97]:
        whole = case_of(machine, of, load, candidate, vllm)
        engine = tuple(item for item in candidate.engine if item in looked_at(candidate.engine))
        part = case_of(machine, of, load, candidate.model_copy(update={"engine": engine}), vllm)
        for judged in (by_roofline, lambda one: best_possible(Objective(), one)):
            assert judged(whole) == judged(part)


def _tables() -> Iterator[tuple[str, Case, Value]]:
    for machine, accelerator in MACHINES.items():
        for of in MODELS:
            for load in WORKLOADS:
                for scheme in MADE_SCHEMES:
                    algorithm = "none" if scheme is Scheme.BF16 else "rtn"
                    one = case_of(machine, of, load, Configuration.of(scheme, algorithm))
                    for setting in DEFAULT_SETTINGS[accelerator.platform]:
                        yield from ((setting.name, one, value) for value in setting.offered(one, ()))


def test_nothing_that_vllm_does_by_itself_is_written_down() -> None:
    defaults = build._DEFAULTS | build._ATTENTION_DEFAULTS
    for name, one, value in _tables():
        for written_name, chosen in value.items:
            hybrid = one.model is None or not one.model.is_all_attention
            if not (hybrid and written_name in build._ATTENTION_DEFAULTS):
                assert repr(defaults.get(written_name)) != repr(chosen), name
        assert value.settings.get("max-num-batched-tokens") != default_batched_tokens(one)
        assert value.settings.get("max-num-seqs") != default_sequences(one)


def test_expectations_are_factors() -> None:
    for name, one, value in _tables():
        assert 0.05 < value.expected(one) < 5, name


def test_two_settings_of_a_platform_write_different_names() -> None:
    names: dict[tuple[Platform, str], set[str]] = {}
    for name, one, value in _tables():
        for written_name in value.settings:
            names.setdefault((one.accelerator.platform, written_name), set()).add(name)
    assert {key: value for key, value in names.items() if len(value) > 1} == {}


@pytest.mark.parametrize("platform", Platform)
def test_every_setting_says_why_and_where_from(platform: Platform) -> None:
    settings = DEFAULT_SETTINGS[platform]
    assert 10 <= len(settings) <= 16
    for setting in settings:
        assert len(setting.reason) > 30, setting.name
        assert setting.source, setting.name
        assert isinstance(setting.values, tuple) or setting.shown, setting.name
    crossed = [setting.crossed for setting in settings]
    assert crossed == sorted(crossed, reverse=True), "what is crossed has the highest ranks"


@pytest.mark.parametrize(
    ("machine", "of", "load", "scheme", "engine"),
    [
        ("two cores with AVX2", "small", "little", "BF16", {"dtype": "float32", "VLLM_CPU_NUM_OF_RESERVED_CPU": 0}),
        ("AMX", "small", "little", "W8A8-INT8", {"VLLM_CPU_NUM_OF_RESERVED_CPU": 0}),
        ("H100", "llama", "much", "FP8-DYNAMIC", {"kv-cache-dtype": "fp8"}),
        ("H100", "mtp", "little", "FP8-DYNAMIC", {"kv-cache-dtype": "fp8", "speculative-config": MTP}),
        ("H100", "mtp", "little", "BF16", {"kv-cache-dtype": "fp8", "speculative-config": MTP}),
        ("8 x H200", "experts", "much", "FP8-DYNAMIC", {"enable-expert-parallel": True, "kv-cache-dtype": "fp8"}),
        ("4 x L40S", "llama", "much", "BF16", {"kv-cache-dtype": "fp8", "max-num-batched-tokens": 8192}),
        ("MI355X", "llama", "little", "BF16", {"VLLM_ROCM_USE_AITER": True, "kv-cache-dtype": "fp8"}),
    ],
)
def test_the_recipe_is_the_first_of_its_scheme(
    machine: str, of: str, load: str, scheme: str, engine: dict[str, Scalar]
) -> None:
    first = next(c for c in found(machine, of, load).candidates if c.scheme.value == scheme)
    assert {name: value for name, value in first.settings.items() if name != "max-num-seqs"} == engine


@pytest.mark.parametrize("machine", ["two cores with AVX2", "AMX", "8 x H200", "4 x MI300X"])
def test_after_the_recipe_a_scheme_goes_by_what_is_expected(machine: str) -> None:
    by_scheme: dict[Scheme, list[float]] = {}
    for candidate in found(machine).candidates:
        one = case_of(machine, "llama", "little", candidate)
        by_scheme.setdefault(candidate.scheme, []).append(estimate(one))
    for guesses in by_scheme.values():
        assert guesses[1:] == pytest.approx(sorted(guesses[1:], reverse=True), rel=2e-6)


@pytest.mark.parametrize(
    ("isa", "scheme", "dtypes"),
    [
        ("avx2", "BF16", {"float32", "float16"}),
        ("avx2", "W8A8-INT8", {"float32", "float16"}),
        ("avx512_vnni", "W4A16", {"float16"}),
        ("avx512_vnni", "BF16", {"float32", "float16"}),
        ("avx512_bf16", "BF16", {"float16"}),
        ("amx", "BF16", {"float16"}),
        ("amx", "FP8-BLOCK", set()),
    ],
)
def test_types_of_a_cpu_are_those_that_its_instructions_and_kernels_serve(
    isa: str, scheme: str, dtypes: set[str]
) -> None:
    candidates = space(cpu(isa), schemes=(scheme,)).candidates
    assert {c.settings["dtype"] for c in candidates if "dtype" in c.settings} == dtypes


def test_a_capped_cpu_computes_in_float32_like_one_without_bf16() -> None:
    assert "float32" in {c.settings.get("dtype") for c in space(cpu("amx", onednn_cap="avx2")).candidates}


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, set()), (2, {0}), (64, {0})], ids=["one core", "two cores", "many cores"]
)
def test_the_core_that_vllm_keeps_free_may_be_used_where_there_are_two(cores: int, expected: set[int]) -> None:
    machine = Accelerator(Vendor.CPU, "EPYC", memory_gib=32, isa="avx2", cores=cores)
    settings = [candidate.settings for candidate in space(machine).candidates]
    assert {one[RESERVED] for one in settings if RESERVED in one} == expected
    assert {one.get("OMP_NUM_THREADS") for one in settings if one.get(BIND) == "nobind"} == {cores} - {1}


RESERVED, BIND = "VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_OMP_THREADS_BIND"


@pytest.mark.parametrize(
    ("machine", "of", "load", "name", "there"),
    [
        ("H100", "llama", "little", "data-parallel-size", False),
        ("8 x H200", "llama", "little", "data-parallel-size", True),
        ("8 x H200", "llama", "little", "enable-expert-parallel", False),
        ("8 x H200", "experts", "little", "enable-expert-parallel", True),
        ("8 x H200", "llama", "little", "speculative-config", False),
        ("8 x H200", "llama", "prompts", "speculative-config", True),
        ("8 x H200", "mtp", "little", "speculative-config", True),
        ("8 x H200", "llama", "little", "moe-backend", False),
        ("8 x H200", "experts", "little", "moe-backend", True),
        ("8 x H200", "latent", "prompts", "attention-backend", False),
        ("4 x L40S", "llama", "little", "kv-cache-dtype", True),
        ("T4", "small", "little", "kv-cache-dtype", False),
        ("H100", "llama", "little", "max-cudagraph-capture-size", False),
        ("H100", "llama", "much", "max-cudagraph-capture-size", True),
        ("MI210", "llama", "little", "VLLM_ROCM_USE_AITER", False),
        ("MI355X", "llama", "little", "VLLM_ROCM_USE_AITER", True),
        ("AVX512", "small", "little", "kv-cache-dtype", True),
        ("two cores with AVX2", "small", "little", "kv-cache-dtype", False),
        ("AMX", "small", "little", "VLLM_CPU_INT4_W4A8", True),
        ("AVX512", "small", "little", "VLLM_CPU_INT4_W4A8", False),
        ("AMX", "small", "little", "LD_PRELOAD", False),
        ("AMX here", "small", "little", "LD_PRELOAD", True),
        ("Gaudi3", "llama", "little", "VLLM_GRAPH_RESERVED_MEM", True),
    ],
)
def test_a_setting_is_there_where_it_means_something(machine: str, of: str, load: str, name: str, there: bool) -> None:
    assert (name in settings_of(found(machine, of, load))) is there


def test_libraries_that_lie_on_the_machine_are_preloaded_together_and_alone() -> None:
    values = {c.settings.get("LD_PRELOAD") for c in found("AMX here", "small").candidates}
    assert values == {None, f"{TCMALLOC}:{OPENMP}", TCMALLOC, OPENMP}
    first = next(iter(found("AMX here", "small").candidates))
    assert first.settings["LD_PRELOAD"] == f"{TCMALLOC}:{OPENMP}"
    alone = space(replace(cpu("amx"), preloads=(OPENMP,)))
    assert {c.settings.get("LD_PRELOAD") for c in alone.candidates} == {None, OPENMP}


def test_prediction_layers_are_used_by_the_model_and_by_what_is_made_of_it() -> None:
    candidates = found("H100", "mtp").candidates
    guessing = {c.scheme for c in candidates if "mtp" in str(c.settings.get("speculative-config"))}
    assert guessing == {c.scheme for c in candidates}
    assert not any("mtp" in str(c.settings.get("speculative-config")) for c in found("H100", "llama").candidates)


def test_settings_that_an_older_engine_lacks_are_not_given_to_it() -> None:
    old, later = (settings_of(found("H100", "small", "little", vllm)) for vllm in ("0.13.0", VLLM))
    assert "async-scheduling" in old - later
    assert "performance-mode" in later - old


def test_the_kv_cache_of_a_cpu_grows_where_the_highest_level_does_not_fit() -> None:
    small = Accelerator(Vendor.CPU, "EPYC", memory_gib=8, isa="avx512_vnni", cores=4)
    load = Workload(input_tokens=1024, output_tokens=128, concurrency=(1024,))
    sizes = {c.settings.get("VLLM_CPU_KVCACHE_SPACE") for c in space(small, workload=load).candidates} - {None}
    assert sizes
    assert all(2 < int(str(size)) <= 6 for size in sizes)
    assert "VLLM_CPU_KVCACHE_SPACE" not in settings_of(space(small))


def test_the_default_space_can_be_turned_off() -> None:
    assert settings_of(space(cpu(), engine_defaults=False)) == set()


def test_a_named_setting_takes_the_place_of_its_defaults() -> None:
    named = space(cpu("avx2"), engine={"dtype": ("auto", "float16")}, fixed_engine={"block-size": 64})
    assert {c.settings.get("dtype") for c in named.candidates} == {None, "float16"}
    assert {c.settings["block-size"] for c in named.candidates} == {64}
    assert "max-num-seqs" in settings_of(named)


def test_a_variable_of_the_pool_takes_the_place_of_its_defaults_and_of_what_it_leaves_without_effect() -> None:
    own = settings_of(space(cpu("avx2"), env={BIND: "0-7"}))
    assert own.isdisjoint({BIND, RESERVED, "OMP_NUM_THREADS"})
    assert RESERVED in settings_of(space(cpu("avx2")))


def test_without_graphs_nothing_is_said_of_graphs() -> None:
    eager = settings_of(space(nvidia(), fixed_engine={"enforce-eager": True}))
    assert eager.isdisjoint({"compilation-config", "optimization-level"})
    assert "compilation-config" in settings_of(space(nvidia()))


def test_every_combination_of_the_users_own_is_there_with_and_without_defaults() -> None:
    mine = space(nvidia(), engine={"stream-interval": (1, 4)}, schemes=("W4A16",), algorithms=("rtn",))
    alone = [c.settings for c in mine.candidates if set(c.settings) == {"stream-interval"}]
    assert sorted(int(one["stream-interval"]) for one in alone) == [1, 4]
    assert len(mine.candidates) > 20


def test_what_there_is_no_room_for_is_left_out_from_the_lowest_rank_and_noted() -> None:
    engine = {"stream-interval": tuple(range(1, 101)), "max-num-seqs": tuple(range(8, 108))}
    full = space(nvidia(), engine=engine, schemes=("BF16",))
    assert 10_000 <= len(full.candidates) <= MAX_CANDIDATES
    (note,) = full.notes
    assert note.startswith("no room among the candidates for the default settings")
    ranked = [setting.name for setting in DEFAULT_SETTINGS[Platform.CUDA]]
    left_out = [name for name in ranked if name in note]
    kept = [name for name in ranked if name in settings_of(full) - set(engine)]
    assert max(map(ranked.index, kept)) < min(map(ranked.index, left_out))


def test_the_users_own_settings_alone_may_be_too_many() -> None:
    engine = {"stream-interval": tuple(range(1, 502)), "max-num-seqs": tuple(range(8, 108))}
    with pytest.raises(SpaceError, match=r"leave out values, first of search\.engine\.stream-interval"):
        space(nvidia(), engine=engine)


OFFERS = st.lists(
    st.builds(
        lambda size, crossed: (size, crossed),
        st.integers(1, 6),
        st.booleans(),
    ),
    max_size=14,
).map(
    lambda sizes: [
        Offer(f"s{n}", tuple(Value({f"s{n}": v}) for v in range(size)), crossed)
        for n, (size, crossed) in enumerate(sizes)
    ]
)


@given(of_all=st.lists(OFFERS, min_size=1, max_size=5), others=st.integers(1, 3000))
def test_a_plan_fits_and_leaves_out_no_more_than_it_must(of_all: list[list[Offer]], others: int) -> None:
    limit = 20_000
    made = plan(of_all, others, limit)
    if made.left_out or made.at_once < 2:
        assert made.crossed <= {o.setting for each in of_all for o in each if o.crossed}
    size = 0
    for each in of_all:
        crossed = prod(1 + len(o.values) for o in each if o.setting in made.crossed)
        rest = [len(o.values) for o in each if o.setting not in made.crossed and o.setting not in made.left_out]
        pairs = sum(a * b for n, a in enumerate(rest) for b in rest[n + 1 :]) if made.at_once == 2 else 0
        size += crossed * (1 + (sum(rest) if made.at_once else 0) + pairs)
    everything_left_out = set(made.left_out) >= {o.setting for each in of_all for o in each}
    assert size * others <= limit or everything_left_out


@pytest.mark.parametrize(
    ("accelerator", "engine", "factor"),
    [
        (cpu("avx2"), {"dtype": "float32"}, 2.5),
        (cpu("amx"), {"dtype": "float32"}, 0.6),
        (Accelerator(Vendor.CPU, "EPYC", isa="avx2", cores=2), {RESERVED: 0}, 1.4),
        (Accelerator(Vendor.CPU, "EPYC", isa="avx2", cores=2), {RESERVED: 0, "dtype": "float32"}, 3.5),
        (cpu("avx2"), {"enforce_eager": True}, 0.91),
        (amd("MI300X"), {"VLLM_ROCM_USE_AITER": True}, 1.3),
        (amd("MI300X"), {"VLLM_ROCM_USE_AITER": True, "VLLM_ROCM_USE_AITER_RMSNORM": False}, 1.25),
        (nvidia(), {"stream-interval": 4}, 1.0),
        (nvidia(), {}, 1.0),
    ],
)
def test_expected_factors_multiply_and_unknown_settings_count_for_nothing(
    accelerator: Accelerator, engine: dict[str, Any], factor: float
) -> None:
    assert expected_factor(case(accelerator, **engine)) == pytest.approx(factor)


def test_replicas_inside_a_replica_are_for_many_requests() -> None:
    """One request is served by all accelerators under tensor parallelism, and by an eighth of them without."""
    few, many = Workload(concurrency=(1,)), Workload(concurrency=(512,), input_tokens=1024)
    gains = [
        expected_factor(case(MACHINES["8 x H200"], profile=model(), workload=load, data_parallel_size=8))
        for load in (few, many)
    ]
    assert gains[0] < 0.8 < 1.1 < gains[1]


def test_the_tables_of_the_document_are_those_of_the_data() -> None:
    document = (Path(__file__).parents[3] / "docs" / "searching.md").read_text()
    assert written(document) == document, "python -m haqa_operator.search.engine_defaults.document docs/searching.md"
    assert all(f"<!-- settings of {platform.value} -->" in document for platform in Platform)
