"""A report gets out of its pod: whole where it fits, compressed where it does not, by the log where even that fails."""

from __future__ import annotations

import base64
import io
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from tests.checkpoints import write_checkpoint
from tests.model_headers import facts
from tests.optional import present
from tests.unit.cluster.observe.pods import measured
from tests.unit.runner.requests import trial_request
from tests.unit.search.builders import LLAMA_8B

from haqa_contract import (
    FETCH_TRIAL,
    ArtifactReport,
    Failure,
    FailureReason,
    ModelSource,
    Phase,
    TrialReport,
    TrialRequest,
)
from haqa_contract.failures import TrialFailure
from haqa_contract.termination import (
    LIMIT_BYTES,
    REPORT_PREFIX,
    TERMINATION_LOG_VARIABLE,
    ReportInLog,
    compact,
    decode_termination,
    encode_termination,
    leave_report,
    report_from_log,
)
from haqa_runner.progress import Phases, ProgressSink, no_progress
from haqa_runner.quantize.step import run as quantize
from haqa_runner.steps import Step, perform
from haqa_runner.supervision import supervise

TEXT = st.text(st.characters(codec="utf-8"), max_size=300)
NUMBER = st.floats(-1e12, 1e12)
FAILURES = st.builds(
    Failure, reason=st.sampled_from(FailureReason), message=TEXT, log_tail=st.lists(TEXT, max_size=15).map(tuple)
)
REPORTS = st.builds(
    TrialReport,
    trial=TEXT,
    failure=st.none() | FAILURES,
    phases=st.lists(st.builds(Phase, name=TEXT, started=NUMBER, seconds=NUMBER), max_size=40).map(tuple),
    warnings=st.lists(TEXT, max_size=20).map(tuple),
    machine=st.dictionaries(TEXT, TEXT, max_size=10),
)


@run(deadline=None)
@given(report=REPORTS)
def test_operator_reads_what_the_runner_left(report: TrialReport) -> None:
    message = encode_termination(report)
    assert len(message.encode()) <= LIMIT_BYTES
    found = decode_termination(message)
    if isinstance(found, ReportInLog):
        found = report_from_log(f"x\n{REPORT_PREFIX}{compact(report)}\n")
    assert found is not None
    assert found.model_copy(update={"phases": ()}) == report.model_copy(update={"phases": ()})
    for mine, theirs in zip(report.phases, found.phases, strict=True):
        assert theirs.started == pytest.approx(mine.started, rel=1e-5, abs=1e-3)


@run(deadline=None)
@given(text=TEXT | st.binary().map(lambda content: "z:" + content.hex()) | TEXT.map(lambda text: "{" + text))
def test_any_text_is_read_without_an_error(text: str) -> None:
    found = decode_termination(text)
    assert found is None or isinstance(found, ReportInLog)


def test_times_of_day_keep_their_milliseconds() -> None:
    phase = Phase(name="load", started=1_764_150_912.123456, seconds=0.00123456789)
    found = decode_termination(encode_termination(TrialReport(trial="t", phases=(phase,))))
    assert isinstance(found, TrialReport)
    assert (found.phases[0].started, found.phases[0].seconds) == (1_764_150_912.123, 0.00123457)


def test_usual_report_is_compressed_and_a_huge_one_is_left_to_the_log() -> None:
    usual = measured(windows=24)
    message = encode_termination(usual)
    assert message.startswith("z:")
    assert decode_termination(message) == usual
    noise = random.Random(0)
    tail = tuple("".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(500)) for _ in range(15))
    huge = TrialReport(trial="t", failure=Failure(reason=FailureReason.ENGINE_OOM, message="m", log_tail=tail))
    assert decode_termination(encode_termination(huge)) == ReportInLog()


@pytest.mark.parametrize("windows", [1, 24])
def test_message_that_was_cut_short_points_at_the_log(windows: int) -> None:
    message = encode_termination(measured(windows=windows))
    assert decode_termination(message[:-100]) == ReportInLog()


def test_end_of_a_log_is_searched_for_the_report() -> None:
    report = TrialReport(trial="t")
    assert decode_termination(f"INFO bye\n{REPORT_PREFIX}{compact(report)}\n") == report
    assert decode_termination("Traceback\nImportError: numpy") is None


def test_bomb_is_not_unpacked() -> None:
    bomb = "z:" + base64.b64encode(zlib.compress(b" " * 2**24, 9)).decode()
    assert decode_termination(bomb) == ReportInLog()


def failing(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    raise TrialFailure(FailureReason.MODEL_FETCH, "no such model; check the name")


def killed(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    os.kill(os.getpid(), 9)
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "reason"), [(failing, FailureReason.MODEL_FETCH), (killed, FailureReason.QUANTIZATION_OOM)]
)
def test_step_in_a_pod_leaves_its_report_however_it_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    function: Callable[[TrialRequest, Phases, ProgressSink], TrialReport],
    reason: FailureReason,
) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setenv(TERMINATION_LOG_VARIABLE, str(message))
    request = trial_request(tmp_path / "trial")
    code = supervise(
        Step.QUANTIZE, request, perform_step=lambda step, given, sink: perform(step, given, function=function)
    )
    found = decode_termination(message.read_text())
    assert code == 3
    assert isinstance(found, TrialReport)
    assert found.failure is not None
    assert found.failure.reason is reason
    assert report_from_log(capfd.readouterr().out) == found


def test_outside_a_pod_nothing_is_written() -> None:
    said = io.StringIO()
    leave_report(TrialReport(trial="t"), {}, said)
    assert said.getvalue() == ""


def test_unwritable_message_leaves_the_report_in_the_log(tmp_path: Path) -> None:
    said = io.StringIO()
    leave_report(TrialReport(trial="t"), {TERMINATION_LOG_VARIABLE: str(tmp_path / "no" / "such")}, said)
    assert report_from_log(said.getvalue()) == TrialReport(trial="t")


@pytest.mark.parametrize("config", [LLAMA_8B, LLAMA_8B | {"num_experts": 8, "num_experts_per_tok": 2}])
def test_what_a_model_is_made_of_fits_a_message(config: dict[str, Any]) -> None:
    artifact = ArtifactReport(
        digest="0" * 64, path="/m", size_bytes=1, reused=True, model_digest="d", facts=facts(config)
    )
    report = TrialReport(trial=FETCH_TRIAL, artifact=artifact)
    assert decode_termination(encode_termination(report)) == report


@pytest.mark.parametrize("trial", [FETCH_TRIAL, "demo-1"])
def test_fetched_model_says_what_it_is_and_a_trial_need_not(tmp_path: Path, trial: str) -> None:
    model = write_checkpoint(tmp_path / "llama")
    request = trial_request(
        tmp_path / "trial", trial=trial, model=ModelSource(uri="pvc://claim/llama", mount=str(tmp_path))
    )
    (tmp_path / "trial").mkdir()
    artifact = quantize(request, Phases(), no_progress).artifact
    assert artifact is not None
    assert (tmp_path / "trial" / "model").resolve() == model
    if trial == FETCH_TRIAL:
        found = present(artifact.facts)
        assert found.weight_bytes == (model / "model.safetensors").stat().st_size - header_bytes(model)
        assert found.model_type == "llama"
    else:
        assert artifact.facts is None


def header_bytes(model: Path) -> int:
    content = (model / "model.safetensors").read_bytes()
    return 8 + int.from_bytes(content[:8], "little")
