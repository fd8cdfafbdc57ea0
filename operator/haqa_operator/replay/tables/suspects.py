"""Columns that nobody has named and that look like results: a search must not see those among the settings."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from haqa_operator.replay.tables.cells import TableError, is_failure, is_missing_or_failed, read_scalar
from haqa_operator.replay.tables.columns import Columns, quoted
from haqa_operator.replay.tables.lines import Line, distinct, shortened

_MOST_VALUES_OF_A_SETTING = 8
"""Values in a column, above which another one on nearly every line is no choice that anybody made."""

_DIGITS_OF_A_MEASUREMENT = 4
"""Significant digits that people measure and do not set."""

_MEASURED = re.compile(
    r"latency|throughput|elapsed|duration|(^|[_ ])(time|ttft|tpot|itl|e2e|ppl|mfu)([_ (\[]|$)|per_?s(ec|$)|/ ?s(ec)?\b"
    r"|perplexity|accuracy|watts?\b|joules?|energy|speed-?up",
    re.IGNORECASE,
)
_GOOD = frozenset({"ok", "success", "succeeded", "successful", "pass", "passed", "done", "completed", "true", ""})


def refuse_suspects(columns: Columns, lines: Sequence[Line], known: Collection[str] = ()) -> None:
    """That no setting looks like a result, a status or a name of the line, unless somebody said that it is a setting.

    Args:
        known: Columns whose meaning is noted.

    Raises:
        TableError: naming all such columns.
    """
    asked = [c for c in columns.settings if c not in columns.explicit and c not in known]
    found = {column: kind for column in asked if (kind := _kind(column, lines))}
    if not found:
        return
    if len(found) == 1:
        column, kind = next(iter(found.items()))
        raise TableError(
            f"column {column!r} {kind}; say what it is with --metric, --ignore or --setting {quoted(column)}"
        )
    told = "; ".join(f"{column!r} {kind}" for column, kind in found.items())
    raise TableError(f"columns {told}; say of each what it is with --metric, --ignore or --setting")


def _kind(column: str, lines: Sequence[Line]) -> str | None:
    """What is suspicious in a column; None where nothing is."""
    values = [value for value in distinct(lines, column) if not is_missing_or_failed(value)]
    failures = [value for value in distinct(lines, column) if is_failure(value)]
    if failures and all(value.lower() in _GOOD for value in values):
        return f"says how trials ended ({shortened([*failures, *values], most=3)}), which trial:failure is for"
    said = sum(not is_missing_or_failed(line.cells[column]) for line in lines)
    nearly_all = len(values) >= 0.9 * said
    if not values or len(values) == 1:
        return None
    numbers = [read_scalar(value) for value in values]
    shown = shortened(values, most=3)
    if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        exact = sum(map(_is_exact, values))
        if nearly_all and (len(values) > _MOST_VALUES_OF_A_SETTING or (len(values) > 2 and 2 * exact > len(values))):
            return f"has a different number on nearly every line ({shown}), like a measurement"
        if exact and _MEASURED.search(column):
            return f"has the name of a measurement ({shown})"
        return "holds results and failures (" + ", ".join([*failures[:1], *values[:1]]) + ")" if failures else None
    if nearly_all and len(values) > _MOST_VALUES_OF_A_SETTING:
        return f"has a different text on nearly every line ({shown}), like a name of the line"
    return None


def _is_exact(value: str) -> bool:
    """Whether a number has a fraction and more digits than people set: 12.34 and 0.1234, not 0.95."""
    whole, _, fraction = value.lstrip("+-").partition(".")
    return bool(fraction) and len((whole + fraction).lstrip("0")) >= _DIGITS_OF_A_MEASUREMENT
