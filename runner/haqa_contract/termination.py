"""How a step's report leaves its pod: as the container's termination message, which the operator finds in the status.

Kubernetes keeps 4096 bytes of it (kubernetes.io, "Determine the Reason for Pod Failure"). A report that is longer is
compressed; one that is longer even so stays in the container's log, and the message says to look there. Both sides are
here, so that they cannot differ: the runner writes, the operator reads. Needs the contract and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import os
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from haqa_contract.reports import TrialReport

log = logging.getLogger(__name__)

TERMINATION_LOG_VARIABLE = "HAQA_TERMINATION_LOG"
"""Names the file that the kubelet reads; not set outside a pod, and then no message is written."""
TERMINATION_LOG = "/dev/termination-log"
REPORT_PREFIX = "HAQA-REPORT "
"""Begins the one line of standard output that is the whole report."""
LIMIT_BYTES = 4096

_COMPRESSED = "z:"
_IN_LOG = "log:"
_LARGEST_REPORT_BYTES = 8 * 2**20
"""A message that unpacks to more is no report: nobody's memory is filled by what a container left."""
_DIGITS = 6


@dataclass(frozen=True)
class ReportInLog:
    """There is a report, as the last line of the container's log that begins with `REPORT_PREFIX`."""


def encode_termination(report: TrialReport) -> str:
    """The report in at most `LIMIT_BYTES` bytes of UTF-8, or the marker that it is in the log.

    Numbers lose what no measurement has: six significant digits stay, and of times of day the milliseconds.
    """
    text = compact(report)
    if len(text.encode()) <= LIMIT_BYTES:
        return text
    packed = _COMPRESSED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return packed if len(packed) <= LIMIT_BYTES else _IN_LOG


def decode_termination(text: str) -> TrialReport | ReportInLog | None:
    """What a container's termination message says; None if there is no report in it.

    A message that was a report but is damaged (with many containers in a pod the kubelet cuts them shorter) gives
    `ReportInLog`: the log has every report whole.
    """
    text = text.strip()
    if text.startswith(_IN_LOG):
        return ReportInLog()
    if text.startswith((_COMPRESSED, "{")):
        return _parsed(_unpacked(text) if text.startswith(_COMPRESSED) else text) or ReportInLog()
    # terminationMessagePolicy FallbackToLogsOnError: the message is the log's tail where none was written.
    return report_from_log(text)


def report_from_log(text: str) -> TrialReport | None:
    """The last report in a container's log; None if there is none that can be read."""
    lines = (line for line in reversed(text.splitlines()) if line.startswith(REPORT_PREFIX))
    return next((report for line in lines if (report := _parsed(line.removeprefix(REPORT_PREFIX)))), None)


def leave_report(
    report: TrialReport, environment: Mapping[str, str] = os.environ, stdout: TextIO | None = None
) -> None:
    """In a pod: writes the termination message, and the report as a line of the log. Elsewhere nothing.

    A message that cannot be written is no failure of the step: the log still has the report.
    """
    path = environment.get(TERMINATION_LOG_VARIABLE)
    if not path:
        return
    try:
        stream = stdout or sys.stdout
        stream.write(f"{REPORT_PREFIX}{compact(report)}\n")
        stream.flush()
        # Not by a rename: the kubelet has mounted exactly this file.
        Path(path).write_text(encode_termination(report), encoding="utf-8")
    except OSError as error:
        log.warning("no termination message in %s (%s); check %s", path, error, TERMINATION_LOG_VARIABLE)


def compact(report: TrialReport) -> str:
    """The report as JSON on one line, without nulls, numbers rounded."""
    content = _rounded(report.model_dump(mode="json", exclude_none=True))
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case float() if math.isfinite(value):
            return round(value, 3) if abs(value) >= 10 ** (_DIGITS - 3) else float(f"{value:.{_DIGITS}g}")
        case _:
            return value


def _unpacked(text: str) -> str:
    """Empty if it cannot be unpacked."""
    try:
        packed = base64.b64decode(text.removeprefix(_COMPRESSED), validate=True)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, _LARGEST_REPORT_BYTES)
        return content.decode() if unpacking.eof else ""
    except (binascii.Error, ValueError, zlib.error):
        return ""


def _parsed(text: str) -> TrialReport | None:
    try:
        return TrialReport.model_validate_json(text)
    except ValidationError:
        return None
