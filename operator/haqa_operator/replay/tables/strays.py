"""Lines that are no measurement: remarks, and the averages that spreadsheets end with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from haqa_operator.replay.tables.cells import TableError

_SUMMARY = re.compile(
    r"(grand )?(total|sum|mean|average|avg|median|geo(metric )?mean|std(ev)?|summary|overall)s?\W*", re.IGNORECASE
)
_LAST = 6
"""How many lines at the end may be summaries."""


def wrong_width(source: str, number: int, row: Sequence[str], width: int) -> TableError:
    """What to say of a line that has not as many cells as the header."""
    words = [cell for cell in row if cell]
    if len(words) == 1 and width > 1:
        return TableError(f"{source} line {number}: {words[0]!r} looks like a remark; put # in front of it")
    return TableError(f"{source} line {number}: {len(row)} cells under a header of {width}")


def check_strays(source: str, numbers: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    """That the last lines are measurements as well.

    Raises:
        TableError: for one that begins with a word such as Average, which no other line has in its place.
    """
    for i in range(max(1, len(rows) - _LAST), len(rows)):
        place, word = next((j, cell) for j, cell in enumerate(rows[i]) if cell)
        if _SUMMARY.fullmatch(word) and all(not _SUMMARY.fullmatch(row[place]) for row in rows[:1]):
            raise TableError(
                f"{source} line {numbers[i]}: {word!r} looks like a summary of the lines above; delete it, or put "
                "# in front of it"
            )
