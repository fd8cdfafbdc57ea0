"""Runs a step in a child process, so that somebody is left to report when the child is killed.

This parent holds no torch and next to no memory: the kernel's out-of-memory killer takes the child.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from haqa_runner.contract import Failure, TrialReport, TrialRequest
from haqa_runner.progress import ProgressLines
from haqa_runner.steps import (
    EXIT_DONE,
    EXIT_REPORTED_FAILURE,
    GRACE_S,
    Step,
    failure_of_death,
    perform,
    report_path,
    time_limit_s,
    write_report,
)

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def supervise(
    step: Step,
    request: TrialRequest,
    *,
    perform_step: Callable[[Step, TrialRequest, ProgressLines], TrialReport] = perform,
) -> int:
    """Runs `step` in a child process; returns the exit code, and the step's report is there in every case.

    SIGTERM and SIGINT are passed on to the child. A child that outlives its own time limit is killed.
    """
    Path(request.directory).mkdir(parents=True, exist_ok=True)
    report_path(request, step).unlink(missing_ok=True)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        code = _exit_code(perform_step(step, request, ProgressLines()))
        sys.stdout.flush()
        os._exit(code)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: _send(child, received))
    limit_s = time_limit_s(request, step)
    if limit_s is not None:
        # The child keeps its limit itself; this catches one that is too stuck for that.
        signal.signal(signal.SIGALRM, lambda *_: _send(child, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, limit_s + 3 * GRACE_S)
    began = time.monotonic()
    _, status, usage = os.wait4(child, 0)
    log.info("%s ended after %.1f s, status %d", step, time.monotonic() - began, status)
    if report_path(request, step).exists():
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else EXIT_REPORTED_FAILURE
    failure = _failure_of_status(step, status, usage.ru_maxrss * 1024)
    write_report(request, step, TrialReport(trial=request.trial, failure=failure))
    return EXIT_REPORTED_FAILURE


def _failure_of_status(step: Step, status: int, peak_rss_bytes: int) -> Failure:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else signal.SIGABRT
    return failure_of_death(step, number, peak_rss_bytes)


def _exit_code(report: TrialReport) -> int:
    return EXIT_DONE if report.failure is None else EXIT_REPORTED_FAILURE


def _send(pid: int, number: int) -> None:
    # The child may be gone already, its status not yet collected: then there is nobody to tell.
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        log.debug("process %d is gone", pid)


def _die_with(parent: int) -> None:
    """The child ends when its parent is killed, instead of quantizing on for nobody."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_REPORTED_FAILURE)
