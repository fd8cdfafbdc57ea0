"""The guess that orders candidates: right about what is known, silent about the rest."""

from typing import Any

import pytest
from tests.optional import present
from tests.unit.search.builders import LLAMA_8B, case, cpu, model, nvidia

from haqa_contract import Configuration, Workload
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.prior import estimate, promise
from haqa_operator.search.roofline import roofline_of

ONE_STREAM = Workload(input_tokens=512, output_tokens=256, concurrency=(1,))
MANY = Workload(input_tokens=1024, output_tokens=64, concurrency=(256,))


def guess(accelerator: Accelerator, scheme: str, workload: Workload = ONE_STREAM, **engine: Any) -> float:
    return estimate(case(accelerator, scheme, profile=model(), workload=workload, **engine))


def test_fewer_bits_are_faster_for_one_stream() -> None:
    h100 = nvidia("NVIDIA-H100-80GB-HBM3")
    assert guess(h100, "W4A16") > guess(h100, "FP8-DYNAMIC") > guess(h100, "BF16")


def test_arithmetic_decides_for_many_streams_of_long_prompts() -> None:
    h100 = nvidia("NVIDIA-H100-80GB-HBM3")
    assert guess(h100, "FP8-DYNAMIC", MANY) > guess(h100, "W4A16", MANY)


def test_weight_only_fallback_has_the_arithmetic_of_bf16() -> None:
    a100 = roofline_of(case(nvidia("NVIDIA-A100-SXM4-80GB"), "FP8-DYNAMIC", profile=model()))
    h100 = roofline_of(case(nvidia("NVIDIA-H100-80GB-HBM3"), "FP8-DYNAMIC", profile=model()))
    assert present(a100).flops == 312e12
    assert present(h100).flops == 1979e12


@pytest.mark.parametrize(
    ("gpu", "scheme", "latency_s"),
    [
        ("NVIDIA-RTX-A6000", "BF16", 23.6),
        ("NVIDIA-RTX-A6000", "W8A8-INT8", 15.2),
        ("NVIDIA-RTX-A6000", "W4A16", 9.1),
        ("NVIDIA-A100-SXM4-80GB", "BF16", 12.1),
        ("NVIDIA-A100-SXM4-80GB", "W8A8-INT8", 9.0),
        ("NVIDIA-A100-SXM4-80GB", "W4A16", 6.4),
        ("NVIDIA-H100-80GB-HBM3", "BF16", 7.6),
        ("NVIDIA-H100-80GB-HBM3", "FP8-DYNAMIC", 5.7),
        ("NVIDIA-H100-80GB-HBM3", "W4A16", 5.6),
    ],
)
def test_guess_for_one_stream_is_within_a_fifth_of_what_is_published(gpu: str, scheme: str, latency_s: float) -> None:
    """Red Hat's model cards of R1-Distill-Llama-8B: latency of 1024 output tokens after 256, vLLM 0.7.2."""
    workload = Workload(input_tokens=256, output_tokens=1024, concurrency=(1,))
    assert guess(nvidia(gpu), scheme, workload) == pytest.approx(1024 / latency_s, rel=0.2)


@pytest.mark.parametrize(
    ("isa", "cap", "first"),
    [
        ("avx512_vnni", None, "W8A8-INT8"),
        ("amx", None, "W4A16"),
        ("avx512", None, "W4A16"),
        ("avx512_vnni", "avx2", "W4A16"),
        ("avx2", None, "BF16"),
        ("avx2", "avx2", "BF16"),
        ("neon", None, "W8A8-INT8"),
        (None, None, "W8A8-INT8"),
    ],
)
def test_cpu_prior_follows_what_vllm_and_what_onednn_may_use(isa: str | None, cap: str | None, first: str) -> None:
    accelerator = cpu(isa, onednn_cap=cap)
    guesses = {scheme: guess(accelerator, scheme) for scheme in ("BF16", "W8A8-INT8", "W4A16", "FP8-DYNAMIC")}
    assert max(guesses, key=lambda scheme: guesses[scheme]) == first


def test_limits_on_running_sequences_cost_throughput() -> None:
    h100 = nvidia("NVIDIA-H100-80GB-HBM3")
    assert guess(h100, "BF16", MANY, max_num_seqs=16) < guess(h100, "BF16", MANY)
    assert guess(cpu(), "BF16", MANY, max_num_seqs=16) < guess(cpu(), "BF16", MANY)


def test_eager_execution_is_guessed_slower() -> None:
    assert guess(cpu(), "BF16", enforce_eager=True) < guess(cpu(), "BF16")


def test_mixture_reads_more_experts_the_more_sequences_choose() -> None:
    mixtral = model(LLAMA_8B | {"num_local_experts": 8, "num_experts_per_tok": 2})
    roofline = roofline_of(case(nvidia("NVIDIA-H200"), profile=mixtral, workload=ONE_STREAM))
    assert present(roofline).usual_step_s(1) == present(roofline).least_step_s(1)
    assert present(roofline).usual_step_s(8) > present(roofline).least_step_s(8)


def test_calibrated_algorithm_goes_first_where_speed_is_the_same() -> None:
    rtn, gptq = (Configuration.of("W4A16", algorithm) for algorithm in ("rtn", "gptq"))
    assert promise(gptq, 1.0) < promise(rtn, 1.0)


def test_unknown_device_and_unknown_model_get_a_guess_all_the_same() -> None:
    assert estimate(case(nvidia("Quadro-P2000", memory_gib=5.0), "W4A16")) > 0
    assert estimate(case(nvidia("NVIDIA-L4"), "W4A16")) > 0
