"""A configuration becomes one command, the same wherever it runs."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from haqa_contract import Configuration, EngineLaunch, Scalar
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.adapters import ServedAdapters
from haqa_operator.serving.launch import (
    DEFAULTS,
    LaunchError,
    drain_s,
    engine_launch,
    kv_cache_space_gib,
    relocated,
)
from haqa_operator.serving.model_length import MaxModelLen
from haqa_operator.serving.settings import catalogue, check_settings

CPU = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=24, cores=2, isa="avx512_bf16")
TWO_GPUS = Accelerator(vendor=Vendor.NVIDIA, product="NVIDIA-L40S", count=2, memory_gib=48, compute_capability=(8, 9))


def launch(configuration: Configuration | None = None, accelerator: Accelerator = CPU, **options: Any) -> EngineLaunch:
    return engine_launch(
        configuration or Configuration.of(), accelerator, model_path="/model", served_model_name="m", **options
    )


def test_command_on_cpu() -> None:
    configuration = Configuration.of("W8A8-INT8", "rtn", max_num_seqs=64, VLLM_CPU_OMP_THREADS_BIND="0-1")
    made = launch(configuration, pool_env={"ONEDNN_MAX_CPU_ISA": "AVX2"}, max_model_len=512, seed=7)
    assert made.args == (
        "--model=/model",
        "--served-model-name=m",
        "--max-model-len=512",
        "--max-num-seqs=64",
        "--seed=7",
        "--shutdown-timeout=60",
    )
    assert made.env == {
        "HF_HUB_OFFLINE": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "VLLM_CPU_KVCACHE_SPACE": "6",
        "VLLM_CPU_OMP_THREADS_BIND": "0-1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_replica_uses_all_its_gpus() -> None:
    made = launch(accelerator=TWO_GPUS)
    assert "--tensor-parallel-size=2" in made.args
    assert "VLLM_CPU_KVCACHE_SPACE" not in made.env


def test_pipeline_stages_leave_the_other_gpus_to_tensor_parallelism() -> None:
    four = Accelerator(vendor=Vendor.NVIDIA, product="NVIDIA-L40S", count=4)
    assert "--tensor-parallel-size=2" in launch(Configuration.of(pipeline_parallel_size=2), four).args


@pytest.mark.parametrize("sizes", [{"tensor_parallel_size": 4}, {"pipeline_parallel_size": 3}])
def test_parallel_sizes_that_do_not_fit_the_replica_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(LaunchError, match=r"parallel-size \d do not fit nodePools\[\]\.gpusPerReplica 2"):
        launch(Configuration.of(**sizes), TWO_GPUS)


def test_parallel_size_of_zero_is_refused() -> None:
    with pytest.raises(LaunchError, match="pipeline-parallel-size 0: a parallel size is at least 1"):
        launch(Configuration.of(pipeline_parallel_size=0), TWO_GPUS)


def test_a_setting_goes_before_the_pools_environment_and_that_before_the_default() -> None:
    pool_env = {"VLLM_CPU_KVCACHE_SPACE": "3", "OMP_NUM_THREADS": "2"}
    configuration = Configuration.of(max_model_len=1024, seed=3, OMP_NUM_THREADS=1)
    made = launch(configuration, pool_env=pool_env, max_model_len=512, seed=7)
    assert {"--max-model-len=1024", "--seed=3"} <= set(made.args)
    assert made.env["OMP_NUM_THREADS"] == "1"
    assert made.env["VLLM_CPU_KVCACHE_SPACE"] == "3"


@pytest.mark.parametrize("settings", [{"kv_cache_memory_bytes": "2G"}, {"gpu_memory_utilization": 0.4}])
def test_no_default_kv_cache_size_over_one_that_was_asked_for(settings: dict[str, Any]) -> None:
    assert "VLLM_CPU_KVCACHE_SPACE" not in launch(Configuration.of(**settings)).env


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"enforce_eager": True}, "--enforce-eager"),
        ({"enforce_eager": False}, "--no-enforce-eager"),
        ({"max_num_batched_tokens": "2k"}, "--max-num-batched-tokens=2k"),
        ({"max_model_len": -1}, "--max-model-len=-1"),
        ({"compilation_config": '{"cudagraph_mode": "NONE"}'}, '--compilation-config={"cudagraph_mode": "NONE"}'),
    ],
)
def test_one_setting_is_one_argument(settings: dict[str, Any], argument: str) -> None:
    assert argument in launch(Configuration.of(**settings)).args


def test_flag_without_a_negative_form_is_left_out_when_false() -> None:
    assert not [a for a in launch(Configuration.of(aggregate_engine_logging=False)).args if "aggregate" in a]


def test_remote_code_runs_only_when_the_model_says_so() -> None:
    assert "--trust-remote-code" not in launch().args
    assert "--trust-remote-code" in launch(trust_remote_code=True).args


def test_every_default_is_one_that_vllm_knows() -> None:
    known = set(catalogue().settings) | catalogue().variables | {"HF_HUB_OFFLINE"}
    assert {default.name for default in DEFAULTS} <= known


def test_nothing_is_added_to_vllms_defaults_that_is_not_documented() -> None:
    added = {a.removeprefix("--").partition("=")[0] for a in launch(max_model_len=512).args} | set(launch().env)
    assert added - {"model", "served-model-name"} <= {default.name for default in DEFAULTS}


@pytest.mark.parametrize(
    ("length", "arguments"),
    [("auto", ["--max-model-len=auto"]), (16384, ["--max-model-len=16384"]), (None, [])],
)
def test_the_longest_request_is_written_as_vllm_reads_it(length: MaxModelLen, arguments: list[str]) -> None:
    assert [text for text in launch(max_model_len=length).args if "max-model-len" in text] == arguments


@pytest.mark.parametrize(("memory_gib", "workers", "space"), [(24, 1, 6), (512, 2, 64), (2, 1, 1)])
def test_kv_cache_takes_a_quarter_of_the_memory(memory_gib: int, workers: int, space: int) -> None:
    assert kv_cache_space_gib(memory_gib, workers) == space


def test_time_to_drain_is_read_from_the_command() -> None:
    assert drain_s(launch()) == 60
    assert drain_s(launch(Configuration.of(shutdown_timeout=5))) == 5


SETTINGS = st.dictionaries(
    st.sampled_from(sorted(catalogue().settings)),
    st.one_of(st.booleans(), st.integers(-9, 4096), st.sampled_from(["auto", "fp8", '{"a": [1, "--b"]}'])),
    max_size=6,
).filter(lambda settings: not check_settings(settings) and not any("parallel-size" in name for name in settings))


def configured(settings: dict[str, Scalar]) -> Configuration:
    return Configuration(engine=tuple(sorted(settings.items())))


@run(deadline=None)
@given(settings=SETTINGS)
def test_arguments_do_not_depend_on_the_order_of_settings(settings: dict[str, Scalar]) -> None:
    backwards = Configuration(engine=tuple(sorted(settings.items(), reverse=True)))
    assert launch(configured(settings)).args == launch(backwards).args


@run(deadline=None)
@given(settings=SETTINGS)
def test_no_value_can_become_an_option(settings: dict[str, Scalar]) -> None:
    names = {
        text.partition("=")[0].removeprefix("--").removeprefix("no-") for text in launch(configured(settings)).args
    }
    allowed = {"model", "served-model-name", "seed", "shutdown-timeout"}
    assert all(text.startswith("--") for text in launch(configured(settings)).args)
    assert {name for name in names if name not in settings} <= allowed


@run(deadline=None)
@given(settings=SETTINGS)
def test_moving_the_model_changes_nothing_else(settings: dict[str, Scalar]) -> None:
    made = launch(configured(settings))
    moved = relocated(
        made.model_copy(update={"env": {**made.env, "LD_PRELOAD": "/here/x.so"}}), "/elsewhere", port=9000
    )
    assert moved.args == tuple(a if a != "--model=/model" else "--model=/elsewhere" for a in made.args)
    assert (moved.env, moved.port) == (made.env, 9000)


@dataclass(frozen=True)
class Looked:
    name: str
    rank: int
    targets: tuple[str, ...]


def test_adapters_are_loaded_all_at_once_and_only_where_they_change_something() -> None:
    both = (Looked("sql", 8, ("q_proj",)), Looked("chat", 20, ("q_proj", "down_proj")))
    adapters = ServedAdapters.of(both, "/adapters")
    assert launch(adapters=adapters).args[-9:] == (
        *("--enable-lora", "--max-lora-rank=32", "--max-loras=2", "--lora-target-modules", "down_proj", "q_proj"),
        *("--lora-modules", "sql=/adapters/sql", "chat=/adapters/chat"),
    )
    assert ServedAdapters.of((), "/adapters") is None


def test_adapters_of_a_relocated_command_lie_where_they_lie_there() -> None:
    made = launch(adapters=ServedAdapters.of((Looked("sql", 8, ("sql",)),), "/here/adapters"))
    moved = relocated(made, "/there/model", adapters={"sql": "/there/adapters/sql"})
    assert (moved.args[0], *moved.args[-2:]) == ("--model=/there/model", "--lora-modules", "sql=/there/adapters/sql")
    assert "--lora-target-modules" in moved.args
    assert "sql" in moved.args, "a module of the adapter's name stays one"


def test_what_an_older_release_does_not_have_is_not_passed() -> None:
    older, newer = launch(engine_version=(0, 17, 0)), launch(engine_version=(0, 18, 1))
    assert [text for text in newer.args if text not in older.args] == ["--shutdown-timeout=60"]
    assert (drain_s(older), drain_s(newer)) == (0, 60)
