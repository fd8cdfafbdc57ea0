"""What a tuning may set of vLLM is checked before anything is started."""

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from haqa_contract import Scalar
from haqa_operator.api.pools import NodePool
from haqa_operator.api.search_spec import Search
from haqa_operator.serving.reserved import RESERVED_SETTINGS, why_variable_is_reserved
from haqa_operator.serving.settings import SettingKind, catalogue, check_pool_env, check_search, check_settings


def test_catalogue_is_that_of_the_pinned_vllm() -> None:
    assert catalogue().version == "0.32.0"
    assert catalogue().settings["max-num-seqs"].kind is SettingKind.INT
    assert catalogue().settings["enforce-eager"].kind is SettingKind.SWITCH
    assert "fp8" in catalogue().settings["kv-cache-dtype"].choices
    assert "VLLM_CPU_OMP_THREADS_BIND" in catalogue().variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-num-seqs", 64),
        ("max-num-batched-tokens", "2k"),
        ("max-model-len", "auto"),
        ("gpu-memory-utilization", 0.9),
        ("enforce-eager", False),
        ("kv-cache-dtype", "fp8_e5m2"),
        ("linear-backend", "flashinfer-trtllm"),
        ("optimization-level", 3),
        ("compilation-config", '{"cudagraph_mode": "NONE"}'),
        ("hf-overrides", '{"rope_theta": 1000000}'),
        ("max-cpu-loras", 16),
        ("data-parallel-size", 2),
        ("VLLM_CPU_OMP_THREADS_BIND", "0-31|32-63"),
        ("VLLM_CPU_KVCACHE_SPACE", 4),
        ("VLLM_GRAPH_RESERVED_MEM", 0.1),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("VLLM_USE_DEEP_GEMM", False),
        ("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4:/opt/venv/lib/libiomp5.so"),
    ],
)
def test_setting_that_vllm_takes_is_allowed(name: str, value: Scalar) -> None:
    assert check_settings({name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("max-num-sequences", 64, "max-num-sequences is not a setting of vLLM 0.32.0; did you mean max-num-seqs?"),
        ("--max_num_seqs", 64, "--max_num_seqs is not how HAQA writes it; write max-num-seqs"),
        ("no-enforce-eager", True, "no-enforce-eager is not how HAQA writes it; write enforce-eager: false"),
        ("device-memory-utilization", 0.5, "not how HAQA writes it; write gpu-memory-utilization"),
        ("max-num-seqs", "many", "max-num-seqs is 'many'; give a whole number"),
        ("max-num-seqs", 1.5, "max-num-seqs is 1.5; give a whole number"),
        ("max-num-seqs", True, "max-num-seqs is true, but it is not a switch; give a whole number"),
        ("gpu-memory-utilization", "nan", "gpu-memory-utilization is 'nan'; give a number"),
        ("max-num-batched-tokens", "1.5K", "give a whole number like 2048 or 2k"),
        ("enforce-eager", "yes", "enforce-eager is 'yes', but it is a switch; give true or false"),
        ("dtype", "int8", "dtype is 'int8'; give one of auto, bfloat16, float, float16, float32, half"),
        ("compilation-config", "{level: 3}", "give JSON in one string"),
        ("served-model-name", "m", "cannot be set here: HAQA names the model"),
        ("quantization", "awq", "cannot be set here: it follows from the artifact; set search.schemes"),
        ("trust-remote-code", True, "set spec.model.trustRemoteCode"),
        ("ssl-keyfile", "/k", "end TLS in front of the Service"),
        ("data-parallel-rank", 0, "one engine on one node"),
        ("worker-cls", "my.Worker", "load Python code"),
        ("VLLM_CPU_OMP_THREAD_BIND", "all", "did you mean VLLM_CPU_OMP_THREADS_BIND?"),
        ("VLLM_CPU_KVCACHE_SPACE", "0.5", "VLLM_CPU_KVCACHE_SPACE '0.5' is not a whole number"),
        ("VLLM_API_KEY", "abc", "its name says that it is a secret"),
        ("HF_TOKEN", "abc", "its name says that it is a secret"),
        ("VLLM_PLUGINS", "x", "load Python code"),
        ("PATH", "/tmp", "is not a variable of the engine or its runtime"),
        ("PYTHONPATH", "/tmp", "is not a variable of the engine or its runtime"),
        ("OMP_PLACES", "cores\nX=1", "characters that cannot be printed"),
        ("LD_PRELOAD", "libtcmalloc.so", "not the absolute path of a shared object"),
        ("LD_PRELOAD", "/opt/../tmp/x.so", "not the absolute path of a shared object"),
        ("LD_PRELOAD", "/opt/x.so; rm -rf /", "not the absolute path of a shared object"),
    ],
)
def test_refusal_names_the_setting_and_what_to_do(name: str, value: Scalar, sentence: str) -> None:
    (problem,) = check_settings({name: value})
    assert problem.startswith(name)
    assert sentence in problem


def test_search_names_the_field_once_for_a_wrong_name_and_each_wrong_value() -> None:
    search = Search(
        engine={"max_num_seqs": (1, 2, 3), "block-size": (16, "a", "b")}, fixed_engine={"model": "somebody/else"}
    )
    assert check_search(search) == [
        "search.engine.max_num_seqs is not how HAQA writes it; write max-num-seqs",
        "search.engine.block-size is 'a'; give a whole number",
        "search.engine.block-size is 'b'; give a whole number",
        "search.fixedEngine.model cannot be set here: the artifact that HAQA makes from spec.model is what is served; "
        "set spec.model.uri",
    ]


def test_pool_environment_is_checked_with_the_pool_in_the_sentence() -> None:
    pool = NodePool(name="cpu", env={"ONEDNN_MAX_CPU_ISA": "AVX2", "AWS_SECRET_ACCESS_KEY": "x"})
    (problem,) = check_pool_env(pool)
    assert problem.startswith('nodePools "cpu".env.AWS_SECRET_ACCESS_KEY cannot be set here')


def test_every_reserved_setting_exists_in_this_vllm() -> None:
    assert set(RESERVED_SETTINGS) <= set(catalogue().settings)


def test_of_vllms_own_variables_only_the_api_key_looks_like_a_secret() -> None:
    secret = [name for name in catalogue().variables if "secret" in (why_variable_is_reserved(name) or "")]
    assert secret == ["VLLM_API_KEY"]


@run(deadline=None)
@given(name=st.text(min_size=1), value=st.one_of(st.booleans(), st.integers(), st.floats(), st.text()))
def test_checking_never_fails_and_only_known_names_pass(name: str, value: Scalar) -> None:
    problems = check_settings({name: value})
    assert problems or name in catalogue().settings
