"""The rows and the table of `make gpu-check`; that it runs is for a machine with an accelerator, or a patient one."""

from __future__ import annotations

import pytest
from benchmarks.gpu_check.pace import Pace
from benchmarks.gpu_check.rows import COUNT, FORMATS, rows
from benchmarks.gpu_check.table import Outcome, report

from haqa_contract import Algorithm, Estimate, Failure, FailureReason, Scheme
from haqa_operator.api import TrialPhase, TrialStatus

OK = TrialStatus(
    phase=TrialPhase.SUCCEEDED,
    metrics={"throughput": Estimate(value=512.3, low=500.3, high=524.3, n=3)},
    phase_seconds={"quantize": 12.4, "load": 41.0},
)
FAILED = TrialStatus(
    phase=TrialPhase.FAILED,
    failure=Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message="no kernel | for it\nhere"),
)


def test_everything_is_tried_where_nothing_is_refused() -> None:
    tried = rows(lambda scheme: None, on_cpu=False)
    assert tried[0].configuration.scheme is Scheme.BF16
    quantized = {(row.configuration.scheme, row.configuration.algorithm) for row in tried[1:]}
    assert quantized == {
        (scheme, rounding) for scheme in FORMATS[:COUNT] for rounding in (Algorithm.RTN, Algorithm.GPTQ)
    }
    settings = [row.configuration.settings for row in tried]
    assert sum(one.get("kv-cache-dtype") == "fp8" for one in settings) == 1
    assert sum("enforce-eager" not in one for one in settings) == 1
    assert len({row.configuration for row in tried}) == len(tried)


def test_another_format_takes_the_place_of_a_refused_one_and_the_reason_is_kept() -> None:
    tried = rows(lambda scheme: "too old" if scheme is Scheme.FP8_DYNAMIC else None, on_cpu=False)
    run = {row.configuration.scheme for row in tried if row.refused is None}
    assert run == {Scheme.BF16, *FORMATS[1 : COUNT + 1]}
    assert [(row.configuration.scheme, row.refused) for row in tried if row.refused] == [
        (Scheme.FP8_DYNAMIC, "too old")
    ]


def test_a_device_without_any_format_is_still_checked_with_the_unquantized_model() -> None:
    tried = rows(lambda scheme: "none", on_cpu=False)
    assert {row.configuration.scheme for row in tried if row.refused is None} == {Scheme.BF16}


def test_a_cpu_gets_no_setting_of_a_gpus() -> None:
    named = {name for row in rows(lambda scheme: None, on_cpu=True) for name in row.configuration.settings}
    assert named == {"enforce-eager"}


def test_the_first_rows_have_every_format() -> None:
    tried = rows(lambda scheme: None, on_cpu=False)
    assert [row.configuration.scheme for row in tried[: COUNT + 1]] == [Scheme.BF16, *FORMATS[:COUNT]]


TIMED_OUT = TrialStatus(
    phase=TrialPhase.FAILED,
    failure=Failure(reason=FailureReason.TIMEOUT, message="at the end of budget.trialTimeout"),
)


def test_a_format_in_which_the_device_crawls_leaves_time_for_the_others() -> None:
    tried = rows(lambda scheme: None, on_cpu=False)
    pace, left_s, ran = Pace(tried), 540.0, set()
    for number, row in enumerate(tried):
        if pace.skipped(row, left_s) is None:
            crawls = row.configuration.scheme is Scheme.FP8_DYNAMIC
            limit_s = pace.limit_s(number, left_s)
            left_s -= limit_s if crawls else min(limit_s, 45.0)
            pace.ended(row, TIMED_OUT if crawls else OK)
            ran.add(row.configuration)
    others = {row.configuration for row in tried if row.configuration.scheme is not Scheme.FP8_DYNAMIC}
    assert others < ran
    assert len(ran - others) == 1
    again = next(row for row in tried if row.configuration not in ran)
    assert "FP8-DYNAMIC" in str(pace.skipped(again, 540.0))


def test_what_is_left_goes_to_the_last_row_whole() -> None:
    pace = Pace(rows(lambda scheme: "none", on_cpu=True))
    assert pace.limit_s(0, 300.0) == 300.0


def test_a_row_is_not_begun_for_a_few_seconds() -> None:
    pace = Pace(rows(lambda scheme: None, on_cpu=True))
    assert pace.skipped(pace.rows[0], 5.0) == "no time was left"


def test_the_table_shows_figures_failures_and_what_was_left_out() -> None:
    outcomes = [Outcome("BF16", OK), Outcome("FP8", FAILED), Outcome("NVFP4", why="no time was left")]
    text = report({"device": "NVIDIA-L40S"}, outcomes, ["_quantize_kernel"], 321.0)
    assert text.startswith("### HAQA GPU check: 1 of 2 configurations ok, 321 s\n")
    assert "- device: NVIDIA-L40S\n" in text
    assert "compiled while quantizing: `_quantize_kernel`\n" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[2] == "| BF16 | ok | 12 | 41 | 512.3 ± 12 |  |  |  |  |"
    assert table[3] == r"| FP8 | failed: EngineLoadFailed |  |  |  |  |  |  | no kernel \| for it here |"
    assert table[4] == "| NVFP4 | not run |  |  |  |  |  |  | no time was left |"


def test_what_every_row_says_is_said_once() -> None:
    shared, own = OK.model_copy(update={"warnings": ("a", "b")}), OK.model_copy(update={"warnings": ("b", "c")})
    text = report({}, [Outcome("BF16", shared), Outcome("FP8", own), Outcome("INT8", FAILED)], [], 1.0)
    assert "- in every row: b\n" in text
    assert [line.split(" | ")[-1] for line in text.splitlines() if "| ok |" in line] == ["a |", "c |"]


@pytest.mark.parametrize(("status", "failed"), [(OK, False), (FAILED, True), (None, False)])
def test_only_what_was_run_can_fail(status: TrialStatus | None, failed: bool) -> None:
    assert Outcome("BF16", status).failed is failed
