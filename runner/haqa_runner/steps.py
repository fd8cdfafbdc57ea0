"""Runs one step of a trial so that it always leaves a report.

A step is a function `run(request, phases, progress) -> TrialReport`. `perform` calls it in this process, for the
command line's child and for a child forked from a process that has already imported everything. Whatever happens, a
success, a `TrialFailure`, a surprise, the time limit or SIGTERM, `<directory>/<step>.json` is there afterwards; only
death by SIGKILL needs somebody outside (`supervision.py`).
"""

from __future__ import annotations

import importlib
import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Self

from pydantic import ValidationError

from haqa_contract import Failure, FailureReason, TrialReport, TrialRequest
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.durable import write_atomically
from haqa_runner.progress import Phases, ProgressSink, no_progress

log = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_UNREPORTED = 1
"""There is no report: its folder cannot be written."""
EXIT_UNREADABLE_REQUEST = 2
"""There is no report: nobody knows where to write one."""
EXIT_REPORTED_FAILURE = 3

GRACE_S = 10.0
"""How long an interrupted step may take to unwind before the report is written over its head."""
_LOG_TAIL_LINES = 15
_INTERRUPTING = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class Step(StrEnum):
    QUANTIZE = "quantize"
    SERVE = "serve"
    MEASURE = "measure"
    REFERENCE = "reference"
    VERIFY = "verify"


StepFunction = Callable[[TrialRequest, Phases, ProgressSink], TrialReport]

_UNEXPECTED = {
    Step.QUANTIZE: FailureReason.QUANTIZATION_FAILED,
    Step.SERVE: FailureReason.ENGINE_LOAD_FAILED,
    Step.MEASURE: FailureReason.LOAD_ERRORS,
    Step.REFERENCE: FailureReason.QUANTIZATION_FAILED,
    Step.VERIFY: FailureReason.LOAD_ERRORS,
}
_OUT_OF_MEMORY = {
    Step.QUANTIZE: FailureReason.QUANTIZATION_OOM,
    Step.SERVE: FailureReason.ENGINE_OOM,
    Step.MEASURE: FailureReason.LOAD_ERRORS,
    Step.REFERENCE: FailureReason.QUANTIZATION_OOM,
    Step.VERIFY: FailureReason.LOAD_ERRORS,
}


class RequestError(ValueError):
    """The request file cannot be read; the message says why and what to do."""


class Interrupted(BaseException):
    """The step has to stop now. Not an `Exception`, so that no library's broad `except` swallows it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def read_request(path: Path) -> TrialRequest:
    """The request in `path`. Raises RequestError with a sentence."""
    try:
        return TrialRequest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(f"request {path} cannot be read ({error.strerror}); check --request") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RequestError(f"request {path}: {place}: {first['msg']}; it has to be a TrialRequest as JSON") from error


def report_path(request: TrialRequest, step: Step) -> Path:
    """Where the step leaves its part of the trial's report."""
    return Path(request.directory) / f"{step}.json"


def write_report(request: TrialRequest, step: Step, report: TrialReport) -> None:
    """Writes the report so that a reader sees all of it or none, whenever the power goes."""
    write_atomically(report_path(request, step), report.model_dump_json(indent=1).encode())


def step_function(step: Step) -> StepFunction:
    """The step's `run`, imported only now: all but one bring torch along."""
    function: StepFunction = importlib.import_module(f"haqa_runner.{step}.step").run
    return function


def time_limit_s(request: TrialRequest, step: Step) -> float | None:
    """Longest time the step may take; None = as long as it likes (an engine serves until it is stopped)."""
    match step:
        case Step.QUANTIZE | Step.REFERENCE:
            return request.quantize_timeout_s
        case Step.MEASURE | Step.VERIFY:
            return request.measure_timeout_s
        case _:
            return None


def perform(
    step: Step,
    request: TrialRequest,
    progress: ProgressSink = no_progress,
    *,
    function: StepFunction | None = None,
    grace_s: float = GRACE_S,
) -> TrialReport:
    """Runs `step` in this process and leaves its report; never raises for what happens inside the step.

    In the main thread, SIGTERM and the time limit interrupt the step; a step that does not unwind within `grace_s` ends
    the whole process with `EXIT_REPORTED_FAILURE`, its report written.
    """
    Path(request.directory).mkdir(parents=True, exist_ok=True)
    report_path(request, step).unlink(missing_ok=True)
    phases = Phases()
    with _recent_log() as recent, _Interruptions(step, request, phases, grace_s) as interruptions:
        try:
            try:
                report = (function or step_function(step))(request, phases, progress)
            finally:
                interruptions.over()
        except BaseException as error:
            report = TrialReport(trial=request.trial, failure=failure_of(step, error, recent))
        report = report.model_copy(update={"phases": phases.so_far + report.phases})
        write_report(request, step, report)
    return report


def failure_of(step: Step, error: BaseException, recent: deque[str]) -> Failure:
    """Any exception as a failure of the contract. The traceback goes to the log and nowhere else."""
    if isinstance(error, TrialFailure | Interrupted):
        log.error("%s: %s", error.failure.reason, error.failure.message)
        return error.failure
    log.error("%s ended unexpectedly", step, exc_info=error)
    if isinstance(error, MemoryError):
        message = f"{step} ran out of memory ({cause_of(error)}); give it more memory or a smaller model"
        return Failure(reason=_OUT_OF_MEMORY[step], message=message, log_tail=tuple(recent))
    message = f"{step} ended unexpectedly ({cause_of(error)}); its log has the traceback"
    return Failure(reason=_UNEXPECTED[step], message=message, log_tail=tuple(recent))


def failure_of_death(step: Step, exit_code: int, peak_rss_bytes: int) -> Failure:
    """What to report for a step whose process ended without a report; a negative code is the signal it died of.

    SIGKILL means, in practice, that memory ran out.
    """
    memory = f"its largest resident memory was {peak_rss_bytes / 2**30:.1f} GiB"
    if exit_code >= 0:
        message = f"{step} ended with exit code {exit_code} and no report; its log has the last lines"
        return Failure(reason=_UNEXPECTED[step], message=message)
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL":
        message = (
            f"{step} was killed ({name}), most likely because the machine or the container ran out of memory; "
            f"{memory}. Give it more memory, or fewer calibration samples"
        )
        return Failure(reason=_OUT_OF_MEMORY[step], message=message)
    if -exit_code in _INTERRUPTING:
        return Failure(reason=FailureReason.TIMEOUT, message=f"{step} was stopped from outside ({name})")
    message = f"{step} died of {name}; {memory}. A library crashed: its log has the last lines"
    return Failure(reason=_UNEXPECTED[step], message=message)


class _Interruptions:
    """Time limit and SIGTERM, first politely by an exception, then by ending the process.

    The exception cannot reach a main thread that is inside native code, so a second thread waits `grace_s` longer,
    writes the report itself and exits. The two talk through a pipe, since a signal handler may not take locks.
    """

    def __init__(self, step: Step, request: TrialRequest, phases: Phases, grace_s: float) -> None:
        self._step, self._request, self._phases, self._grace_s = step, request, phases, grace_s
        self._limit_s = time_limit_s(request, step)
        self._began = time.monotonic()
        self._failure: Failure | None = None
        self._ended = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._hear, self._tell = os.pipe()
        self._backstop = threading.Thread(target=self._insist, name="haqa-time-limit", daemon=True)
        self._backstop.start()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._interrupt) for number in _INTERRUPTING}
            signal.setitimer(signal.ITIMER_REAL, self._limit_s or 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.over()
        self._backstop.join()
        for descriptor in (self._hear, self._tell):
            os.close(descriptor)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def over(self) -> None:
        """The step has ended, one way or the other; from here on nothing interrupts."""
        if self._ended:
            return
        self._ended = True
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(self._tell, b".")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._ended or self._failure is not None:
            return
        self._failure = self._reason_for(number)
        os.write(self._tell, b".")
        raise Interrupted(self._failure)

    def _insist(self) -> None:
        if self._limit_s is None:
            self._heard(None)
        else:
            self._heard(self._limit_s + self._grace_s)
        if self._ended or (self._failure is not None and self._heard(self._grace_s)):
            return
        failure = self._failure or self._reason_for(signal.SIGALRM)
        write_report(
            self._request,
            self._step,
            TrialReport(trial=self._request.trial, failure=failure, phases=self._phases.so_far),
        )
        os._exit(EXIT_REPORTED_FAILURE)

    def _heard(self, within_s: float | None) -> bool:
        ready, _, _ = select.select([self._hear], [], [], within_s)
        return bool(ready) and bool(os.read(self._hear, 1))

    def _reason_for(self, number: int) -> Failure:
        if number == signal.SIGALRM:
            message = (
                f"{self._step} took longer than its limit of {self._limit_s:g} s; "
                "raise budget.trialTimeout, or ask for less (fewer samples, a smaller workload)"
            )
        else:
            name, after_s = signal.Signals(number).name, time.monotonic() - self._began
            message = f"{self._step} was stopped from outside ({name}) after {after_s:.0f} s"
        return Failure(reason=FailureReason.TIMEOUT, message=message)


@contextmanager
def _recent_log() -> Iterator[deque[str]]:
    """The last lines that Python code logged, for a report about a surprise."""
    lines: deque[str] = deque(maxlen=_LOG_TAIL_LINES)

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.name}: {record.getMessage()}"[:500])

    recorder = Recorder(level=logging.INFO)
    logging.getLogger().addHandler(recorder)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(recorder)
