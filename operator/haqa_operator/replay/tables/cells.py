"""One cell of a measurement table: what a number, a setting and a failure look like, and how they are written."""

from __future__ import annotations

import json
import math
import re

from haqa_contract import FailureReason, Scalar

_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_MISSING = frozenset({"", "-", "--", "–", "—", "n/a", "na", "none", "null", "nan", "#n/a", "#value!", "#div/0!", "?"})
_FAILURES = (
    {reason.value.lower(): reason for reason in FailureReason}
    | dict.fromkeys(("oom", "out of memory", "out-of-memory", "cuda oom"), FailureReason.ENGINE_OOM)
    | dict.fromkeys(("fail", "failed", "failure", "error", "err", "crash", "crashed"), FailureReason.ENGINE_LOAD_FAILED)
    | dict.fromkeys(("timeout", "timed out", "time-out"), FailureReason.TIMEOUT)
)


class TableError(Exception):
    """The table cannot be used as it is; the message says where and what to change."""


def read_scalar(text: str) -> Scalar | None:
    """A setting's value: a whole number, a decimal one, true or false, or text; None for an empty cell.

    Text that would read as something else is written as a JSON string: `"8"`.
    """
    text = text.strip()
    if not text:
        return None
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def write_scalar(value: Scalar | None) -> str:
    """The cell that `read_scalar` reads back as this value, of the same type."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    back = read_scalar(value)
    return value if isinstance(back, str) and back == value else json.dumps(value)


def same_value(text: str, other: str) -> bool:
    """Whether two cells mean the same: `1` and `1.0` do."""
    return text.strip() == other.strip() or read_scalar(text) == read_scalar(other)


def is_missing_or_failed(text: str) -> bool:
    """Whether a cell says that nothing was measured, or how it failed."""
    return text.strip().lower() in _MISSING or is_failure(text)


def is_failure(text: str) -> bool:
    return text.strip().lower() in _FAILURES


def read_measurement(text: str, where: str) -> float | FailureReason | None:
    """A measured number; or the failure that stands in its place (`OOM`); None where nothing was measured.

    Raises:
        TableError: for anything else.
    """
    text = text.strip()
    lowered = text.lower()
    if lowered in _MISSING:
        return None
    if lowered in _FAILURES:
        return _FAILURES[lowered]
    try:
        value = float(text)
    except ValueError:
        remedy = "write a number, OOM, or leave it empty; if the column is a setting, it needs another name"
        raise TableError(f"{where}: {text!r} is not a measurement; {remedy}") from None
    return value if math.isfinite(value) else None
