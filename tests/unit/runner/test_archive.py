"""A trial's whole report is in the artifact store, and a store that cannot take it costs no trial."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.cluster.observe.pods import ARTIFACT, failed, measured
from tests.unit.runner.requests import trial_request

from haqa_contract import FailureReason, TrialReport, TrialRequest
from haqa_contract.termination import TERMINATION_LOG_VARIABLE, decode_termination
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.steps import Step, perform, write_report
from haqa_runner.supervision import supervise

THIRD = 1 / 3
MEASURED = measured(windows=24).model_copy(update={"machine": {"cores": "2"}})


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the kubelet reads."""
    found = tmp_path / "termination-log"
    found.touch()
    monkeypatch.setenv(TERMINATION_LOG_VARIABLE, str(found))
    return found


def place(tmp_path: Path) -> Path:
    return tmp_path / "store" / "reports" / "team" / "demo" / "demo-1" / "1.json"


def run(request: TrialRequest, report: TrialReport, step: Step = Step.MEASURE) -> int:
    def function(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        with phases.measure("load_test"):
            return report

    return supervise(step, request, perform_step=lambda step, given, sink: perform(step, given, function=function))


def precise() -> TrialReport:
    """With more digits than a termination message has."""
    assert MEASURED.load is not None
    windows = tuple(w.model_copy(update={"output_tokens_per_s": THIRD}) for w in MEASURED.load.windows)
    return MEASURED.model_copy(update={"load": MEASURED.load.model_copy(update={"windows": windows})})


def test_what_quantize_and_measure_found_out_is_one_file_with_every_digit(tmp_path: Path, message: Path) -> None:
    request = trial_request(tmp_path / "trial", report=str(place(tmp_path)))
    Path(request.directory).mkdir()
    write_report(request, Step.QUANTIZE, TrialReport(trial="demo-1", artifact=ARTIFACT, warnings=("fewer samples",)))
    assert run(request, precise()) == 0
    kept = TrialReport.model_validate_json(place(tmp_path).read_bytes())
    assert (kept.artifact, kept.load) == (ARTIFACT, precise().load)
    assert kept.warnings == ("fewer samples",)
    assert [phase.name for phase in kept.phases] == ["load_test"]
    assert [path.name for path in place(tmp_path).parent.iterdir()] == ["1.json"]
    told = decode_termination(message.read_text())
    assert isinstance(told, TrialReport)
    assert told.load is not None
    assert told.load.windows[0].output_tokens_per_s == 0.333333


def die(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    os.kill(os.getpid(), 9)
    raise AssertionError


@pytest.mark.parametrize(
    "function",
    [lambda request, phases, progress: failed(FailureReason.ACCURACY_GATE), die],
    ids=["found out", "killed"],
)
def test_a_failed_trial_has_its_report_there_too(
    tmp_path: Path, message: Path, function: Callable[[TrialRequest, Phases, ProgressSink], TrialReport]
) -> None:
    request = trial_request(tmp_path / "trial", report=str(place(tmp_path)))
    code = supervise(
        Step.MEASURE, request, perform_step=lambda step, given, sink: perform(step, given, function=function)
    )
    kept = TrialReport.model_validate_json(place(tmp_path).read_bytes())
    assert code == 3
    assert kept.failure is not None
    assert kept == decode_termination(message.read_text())


def test_a_report_that_cannot_be_kept_is_a_warning_and_no_failure(
    tmp_path: Path, message: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").write_text("a file")
    request = trial_request(tmp_path / "trial", report=str(place(tmp_path)))
    assert run(request, MEASURED) == 0
    told = decode_termination(message.read_text())
    assert isinstance(told, TrialReport)
    assert told.load == MEASURED.load
    assert told.failure is None
    (warning,) = told.warnings
    assert f"the report is not in the artifact store: {place(tmp_path)}: NotADirectoryError" in warning
    assert warning in caplog.text


@pytest.mark.parametrize(("step", "named"), [(Step.MEASURE, False), (Step.QUANTIZE, True)])
def test_only_measure_keeps_it_and_only_where_the_request_names_a_place(
    tmp_path: Path, message: Path, step: Step, named: bool
) -> None:
    request = trial_request(tmp_path / "trial", report=str(place(tmp_path)) if named else None)
    assert run(request, MEASURED, step) == 0
    assert not (tmp_path / "store").exists()
