"""Runs a step in a child process, so that somebody is left to report when the child is killed.

This parent holds no torch and next to no memory: the kernel's out-of-memory killer takes the child.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from haqa_contract import TrialReport, TrialRequest
from haqa_contract.termination import leave_report
from haqa_runner.archive import archived
from haqa_runner.progress import ProgressLines
from haqa_runner.steps import (
    EXIT_DONE,
    EXIT_REPORTED_FAILURE,
    EXIT_UNREPORTED,
    GRACE_S,
    Step,
    failure_of_death,
    perform,
    report_path,
    time_limit_s,
    write_report,
)

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

PerformStep = Callable[[Step, TrialRequest, ProgressLines], TrialReport]


def supervise(step: Step, request: TrialRequest, *, perform_step: PerformStep = perform) -> int:
    """Runs `step` in a child process; returns the exit code.

    The step's report is there afterwards, unless its folder cannot be written: then the exit code says so. SIGTERM and
    SIGINT are passed on to the child. A child that outlives its own time limit is killed.
    """
    try:
        Path(request.directory).mkdir(parents=True, exist_ok=True)
        report_path(request, step).unlink(missing_ok=True)
        status, peak_rss_bytes = _run_in_child(step, request, perform_step)
        if not report_path(request, step).exists():
            failure = failure_of_death(step, os.waitstatus_to_exitcode(status), peak_rss_bytes)
            report = TrialReport(trial=request.trial, failure=failure)
            write_report(request, step, report)
            _leave(step, request, report)
            return EXIT_REPORTED_FAILURE
        _leave(step, request, TrialReport.model_validate_json(report_path(request, step).read_bytes()))
    except OSError as error:
        log.error("%s cannot leave its report in %s (%s); check space and permissions", step, request.directory, error)
        return EXIT_UNREPORTED
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else EXIT_REPORTED_FAILURE


def _leave(step: Step, request: TrialRequest, report: TrialReport) -> None:
    # For the operator first: a store that does not answer may take longer than a pod that is stopped has.
    leave_report(report)
    if step is Step.MEASURE and (kept := archived(request, report)) != report:
        leave_report(kept)


def _run_in_child(step: Step, request: TrialRequest, perform_step: PerformStep) -> tuple[int, int]:
    """The child's wait status and the peak of its resident memory in bytes."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(_as_child(parent, step, request, perform_step))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: _send(child, received))
    limit_s = time_limit_s(request, step)
    if limit_s is not None:
        # The child keeps its limit itself; this catches one that is too stuck for that.
        signal.signal(signal.SIGALRM, lambda *_: _send(child, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, limit_s + 3 * GRACE_S)
    _, status, usage = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return status, usage.ru_maxrss * 1024


def _as_child(parent: int, step: Step, request: TrialRequest, perform_step: PerformStep) -> int:
    try:
        _die_with(parent)
        report = perform_step(step, request, ProgressLines())
        sys.stdout.flush()
    except BaseException:
        # Nothing may travel up the parent's stack from here. A missing report tells the parent.
        log.exception("%s left no report", step)
        return EXIT_UNREPORTED
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
        os._exit(EXIT_UNREPORTED)
