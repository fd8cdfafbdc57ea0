"""Whatever happens inside a step, its report is there afterwards."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.runner.requests import trial_request

from haqa_contract import PROGRESS_PREFIX, FailureReason, Phase, Progress, TrialReport, TrialRequest
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.progress import Phases, ProgressLines, ProgressSink
from haqa_runner.steps import RequestError, Step, failure_of_death, perform, read_request, report_path


@pytest.fixture
def request_(tmp_path: Path) -> TrialRequest:
    return trial_request(tmp_path / "trial")


def left(request: TrialRequest, step: Step = Step.QUANTIZE) -> TrialReport:
    return TrialReport.model_validate_json(report_path(request, step).read_bytes())


def failing(error: BaseException) -> Callable[[TrialRequest, Phases, ProgressSink], TrialReport]:
    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        with phases.measure("quantize"):
            raise error

    return run


def test_success_is_reported_with_its_phases(request_: TrialRequest) -> None:
    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        with phases.measure("fetch"):
            return TrialReport(trial=request.trial)

    report = perform(Step.QUANTIZE, request_, function=run)
    assert report == left(request_)
    assert report.failure is None
    assert [phase.name for phase in report.phases] == ["fetch"]


def test_known_failure_keeps_its_reason_sentence_and_phases(request_: TrialRequest) -> None:
    known = TrialFailure(FailureReason.MODEL_FETCH, "no such model; check the name", ["line"])
    report = perform(Step.QUANTIZE, request_, function=failing(known))
    assert report == left(request_)
    assert report.failure == known.failure
    assert [phase.name for phase in report.phases] == ["quantize"]


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        (Step.QUANTIZE, ValueError("odd"), FailureReason.QUANTIZATION_FAILED),
        (Step.QUANTIZE, MemoryError(), FailureReason.QUANTIZATION_OOM),
        (Step.SERVE, ValueError("odd"), FailureReason.ENGINE_LOAD_FAILED),
        (Step.MEASURE, ValueError("odd"), FailureReason.LOAD_ERRORS),
        (Step.MEASURE, SystemExit(1), FailureReason.LOAD_ERRORS),
    ],
)
def test_surprise_is_a_sentence_and_its_traceback_only_in_the_log(
    request_: TrialRequest,
    caplog: pytest.LogCaptureFixture,
    step: Step,
    error: BaseException,
    reason: FailureReason,
) -> None:
    failure = perform(step, request_, function=failing(error)).failure
    assert failure is not None
    assert failure.reason is reason
    assert type(error).__name__ in failure.message
    assert "Traceback" not in failure.message
    assert "Traceback" in caplog.text
    assert left(request_, step).failure == failure


def test_surprise_comes_with_the_last_lines_of_the_log(request_: TrialRequest) -> None:
    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        for number in range(40):
            logging.getLogger("library").warning("line %d", number)
        raise ValueError("odd")

    failure = perform(Step.QUANTIZE, request_, function=run).failure
    assert failure is not None
    assert "WARNING library: line 39" in failure.log_tail
    assert len(failure.log_tail) <= 15


def test_report_of_an_earlier_attempt_does_not_stay(request_: TrialRequest) -> None:
    perform(Step.QUANTIZE, request_, function=failing(ValueError("odd")))

    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        assert not report_path(request, Step.QUANTIZE).exists()
        return TrialReport(trial=request.trial)

    assert perform(Step.QUANTIZE, request_, function=run).failure is None


def test_time_limit_interrupts_and_names_the_setting(tmp_path: Path) -> None:
    request = trial_request(tmp_path, quantize_timeout_s=0.2)

    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        with phases.measure("quantize"):
            while True:
                signal.pause()

    report = perform(Step.QUANTIZE, request, function=run)
    assert report.failure is not None
    assert report.failure.reason is FailureReason.TIMEOUT
    assert "limit of 0.2 s; raise budget.trialTimeout" in report.failure.message
    assert [phase.name for phase in report.phases] == ["quantize"]


def test_broad_except_in_a_library_does_not_swallow_the_time_limit(tmp_path: Path) -> None:
    def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
        while True:
            try:
                signal.pause()
            except Exception:
                continue

    request = trial_request(tmp_path, quantize_timeout_s=0.2)
    failure = perform(Step.QUANTIZE, request, function=run).failure
    assert failure is not None
    assert failure.reason is FailureReason.TIMEOUT


def test_signal_handlers_are_as_before_afterwards(request_: TrialRequest) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    perform(Step.QUANTIZE, request_, function=failing(ValueError("odd")))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_step_that_does_not_unwind_is_ended_with_its_report_written(tmp_path: Path) -> None:
    request = trial_request(tmp_path, quantize_timeout_s=0.2)
    done = in_a_process(request, "while True:\n        try: signal.pause()\n        except BaseException: pass")
    assert done.returncode == 3
    failure = left(request).failure
    assert failure is not None
    assert failure.reason is FailureReason.TIMEOUT
    assert [phase.name for phase in left(request).phases] == ["quantize"]


def test_sigterm_is_reported(tmp_path: Path) -> None:
    request = trial_request(tmp_path)
    in_a_process(request, "os.kill(os.getpid(), signal.SIGTERM); signal.pause()")
    failure = left(request).failure
    assert failure is not None
    assert failure.reason is FailureReason.TIMEOUT
    assert "stopped from outside (SIGTERM)" in failure.message


def in_a_process(request: TrialRequest, body: str) -> subprocess.CompletedProcess[bytes]:
    program = (
        "import os, signal, sys\n"
        "from haqa_contract import TrialRequest\n"
        "from haqa_runner.steps import Step, perform\n"
        "def run(request, phases, progress):\n"
        "  with phases.measure('quantize'):\n"
        f"    {body}\n"
        "perform(Step.QUANTIZE, TrialRequest.model_validate_json(sys.argv[1]), function=run, grace_s=0.3)\n"
    )
    command = [sys.executable, "-c", program, request.model_dump_json()]
    return subprocess.run(command, timeout=30, check=False, capture_output=True)


@pytest.mark.parametrize(
    ("exit_code", "reason", "said"),
    [
        (-signal.SIGKILL, FailureReason.QUANTIZATION_OOM, "ran out of memory; its largest resident memory was 2.0 GiB"),
        (-signal.SIGSEGV, FailureReason.QUANTIZATION_FAILED, "died of SIGSEGV"),
        (-signal.SIGTERM, FailureReason.TIMEOUT, "stopped from outside (SIGTERM)"),
        (1, FailureReason.QUANTIZATION_FAILED, "ended with exit code 1 and no report"),
    ],
)
def test_death_is_read_as_what_it_means(exit_code: int, reason: FailureReason, said: str) -> None:
    failure = failure_of_death(Step.QUANTIZE, exit_code, 2 * 2**30)
    assert failure.reason is reason
    assert said in failure.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "it has to be a TrialRequest as JSON"),
        ('{"tuning": 1}', "tuning: "),
    ],
)
def test_unreadable_request_is_a_sentence(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "request.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RequestError) as raised:
        read_request(path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


def test_command_line_says_what_is_wrong_with_the_request(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "haqa_runner", "quantize", "--request", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line_reports_a_failure_with_exit_code_3(tmp_path: Path) -> None:
    request = trial_request(tmp_path / "trial")
    (tmp_path / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-m", "haqa_runner", "quantize", "--request", str(tmp_path / "request.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3, done.stderr
    failure = left(request).failure
    assert failure is not None
    assert failure.reason is FailureReason.MODEL_FETCH
    told = [line for line in done.stdout.splitlines() if line.startswith(PROGRESS_PREFIX)]
    assert Progress.model_validate_json(told[0].removeprefix(PROGRESS_PREFIX)).phase == "fetch"


def test_killed_step_is_reported_by_its_supervisor(tmp_path: Path) -> None:
    request = trial_request(tmp_path / "trial")
    program = (
        "import os, signal, sys\n"
        "from haqa_contract import TrialRequest\n"
        "from haqa_runner.supervision import supervise\n"
        "from haqa_runner.steps import Step\n"
        "def die(step, request, progress): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.exit(supervise(Step.QUANTIZE, TrialRequest.model_validate_json(sys.argv[1]), perform_step=die))\n"
    )
    command = [sys.executable, "-c", program, request.model_dump_json()]
    assert subprocess.run(command, timeout=30, check=False).returncode == 3
    failure = left(request).failure
    assert failure is not None
    assert failure.reason is FailureReason.QUANTIZATION_OOM
    assert "SIGKILL" in failure.message


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    request = trial_request(tmp_path / "file" / "trial")
    (tmp_path / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-m", "haqa_runner", "quantize", "--request", str(tmp_path / "request.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "quantize cannot leave its report in" in done.stderr
    assert "Traceback" not in done.stderr


def test_child_ends_with_its_killed_supervisor(tmp_path: Path) -> None:
    request = trial_request(tmp_path / "trial")
    program = (
        "import os, signal, sys\n"
        "from haqa_contract import TrialRequest\n"
        "from haqa_runner.supervision import supervise\n"
        "from haqa_runner.steps import Step\n"
        "def wait(step, request, progress):\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
        "supervise(Step.QUANTIZE, TrialRequest.model_validate_json(sys.argv[1]), perform_step=wait)\n"
    )
    command = [sys.executable, "-c", program, request.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
        # The pipe's other end closes when the child, its last holder, is gone.
        assert supervisor.stdout.read() == ""
        os.close(child)


def test_progress_lines_are_json_behind_the_prefix_and_not_too_many() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, clock=lambda: now[0])
    for step in range(100):
        now[0] += 0.01
        lines("quantize", step / 100, "layer")
    lines("quantize", 1.0, "layer")
    lines("publish", 0.0)
    told = [json.loads(line.removeprefix(PROGRESS_PREFIX)) for line in stream.getvalue().splitlines()]
    assert 4 <= len(told) <= 7
    assert told[-2:] == [
        {"phase": "quantize", "done": 1.0, "message": "layer"},
        {"phase": "publish", "done": 0.0, "message": ""},
    ]


def test_vanished_reader_does_not_end_the_step() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=False) as stream:
        lines = ProgressLines(stream)
        lines("quantize", 0.1)
        lines("publish", 0.2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


def test_phases_come_in_the_order_they_began_and_running_ones_last_until_now() -> None:
    now = [100.0]
    phases = Phases(now=lambda: now[0], elapsed=lambda: now[0])
    with phases.measure("outer"):
        now[0] += 1
        with phases.measure("inner"):
            now[0] += 2
        assert phases.so_far == (
            Phase(name="outer", started=100, seconds=3),
            Phase(name="inner", started=101, seconds=2),
        )


def test_long_message_fits_a_report_and_keeps_both_ends() -> None:
    failure = TrialFailure(FailureReason.TIMEOUT, "start " + "x" * 5000 + " end").failure
    assert len(failure.message) <= 2000
    assert failure.message.startswith("start")
    assert failure.message.endswith("end")


def test_cause_is_one_line() -> None:
    assert cause_of(ValueError("two\n  lines")) == "ValueError: two lines"
    assert cause_of(KeyboardInterrupt()) == "KeyboardInterrupt"
