"""Bounds that are known before work begins: disk for the artifact, memory for the samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.optional import present

from haqa_contract import MADE_SCHEMES, Calibration, FailureReason, Scheme
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import Matrix, ModelFacts, Role
from haqa_runner.quantize.machine import memory_limit_bytes, multiplies_bfloat16, peak_rss_bytes, usable_cores
from haqa_runner.quantize.sizes import artifact_bytes, plan_samples

GIB = 2**30
SEVEN_BILLION = ModelFacts(
    architecture="LlamaForCausalLM",
    model_type="llama",
    source="class",
    parameters=4096 * 1_600_000 + 250_000_000,
    matrices=(Matrix(name="all", role=Role.MLP, rows=4096, columns=1_600_000, count=1, rounded=True),),
    weight_bytes=2 * (4096 * 1_600_000 + 250_000_000),
    layers=32,
    hidden_size=4096,
)


@pytest.mark.parametrize(
    ("scheme", "gib"),
    [
        (Scheme.W4A16, (3.5, 4.2)),
        (Scheme.W8A8_INT8, (6.5, 7.3)),
        (Scheme.NVFP4, (3.8, 4.5)),
        (Scheme.MXFP8, (6.6, 7.5)),
    ],
)
def test_artifact_of_a_7b_model_is_estimated_in_its_right_size(scheme: Scheme, gib: tuple[float, float]) -> None:
    assert gib[0] < artifact_bytes(SEVEN_BILLION, scheme) / GIB < gib[1]


def test_every_quantized_scheme_has_an_estimate_below_the_original() -> None:
    for scheme in MADE_SCHEMES:
        if scheme is not Scheme.BF16:
            assert artifact_bytes(SEVEN_BILLION, scheme) < present(SEVEN_BILLION.weight_bytes)


def test_samples_that_fit_are_all_used() -> None:
    plan = plan_samples(Calibration(samples=512, sequence_length=2048), SEVEN_BILLION, 128 * GIB)
    assert (plan.samples, plan.warning) == (512, None)


def test_samples_that_do_not_fit_are_cut_and_the_report_says_why() -> None:
    plan = plan_samples(Calibration(samples=4096, sequence_length=2048), SEVEN_BILLION, 32 * GIB)
    assert plan.samples < 4096
    assert plan.warning is not None
    assert f"calibrated with {plan.samples} of 4096 samples" in plan.warning


def test_model_larger_than_memory_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(TrialFailure, match="give the container or machine more memory") as raised:
        plan_samples(Calibration(), SEVEN_BILLION, 16 * GIB)
    assert raised.value.reason is FailureReason.QUANTIZATION_OOM


@given(samples=st.integers(1, 10**5), length=st.integers(8, 8192), memory=st.integers(21, 2048))
def test_more_memory_never_means_fewer_samples(samples: int, length: int, memory: int) -> None:
    calibration = Calibration(samples=samples, sequence_length=length)
    less = plan_samples(calibration, SEVEN_BILLION, memory * GIB).samples
    more = plan_samples(calibration, SEVEN_BILLION, (memory + 1) * GIB).samples
    assert 1 <= less <= more <= samples


def test_plan_does_not_depend_on_what_else_runs() -> None:
    small = SEVEN_BILLION.model_copy(update={"weight_bytes": 10**6})
    assert plan_samples(Calibration(), small, memory_limit_bytes()) == plan_samples(
        Calibration(), small, memory_limit_bytes()
    )


def test_container_s_limits_count(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert memory_limit_bytes(tmp_path) == GIB
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_no_limit_means_the_machine(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("max" if name == "memory.max" else "9223372036854771712")
    assert memory_limit_bytes(tmp_path) == memory_limit_bytes(tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "able"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("Features\t: fp asimd bf16", True),
        ("", False),
    ],
)
def test_bfloat16_instructions_are_read_from_the_processor_s_flags(tmp_path: Path, line: str, able: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is able


def test_peak_memory_is_this_process_s_own() -> None:
    assert 2**20 < peak_rss_bytes() < memory_limit_bytes()
