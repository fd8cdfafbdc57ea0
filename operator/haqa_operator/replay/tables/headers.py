"""Whether the first line of a table is its header, the only one, and names its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from haqa_operator.replay.tables.cells import TableError, is_missing_or_failed

_NUMBER = re.compile(r"[+-]?[\d.,]+%?")


def check_header(source: str, header: Sequence[str], rows: Sequence[Sequence[str]], number: int) -> None:
    """That there is a header and one only.

    Args:
        rows: The lines below it, of any width.
        number: The header's line of the file.

    Raises:
        TableError: saying which line to change and how.
    """
    if not any(header):
        raise TableError(f"{source}: empty; the first line names the columns")
    if not rows:
        raise TableError(f"{source}: no line below the header; a table needs at least the baseline")
    if len(header) == 1 and len(rows[0]) > 1:
        raise TableError(
            f"{source} line {number}: {header[0]!r} looks like a title and not like the names of {len(rows[0])} "
            "columns; put # in front of it"
        )
    numbers = [cell for cell in header if _NUMBER.fullmatch(cell)]
    if 2 * len(numbers) > len(header):
        raise TableError(
            f"{source} line {number}: numbers ({', '.join(numbers[:3])}) where the names of the columns belong; write "
            "a header above it, or take the # from the line that is one"
        )
    if _second_header(header, rows):
        raise TableError(
            f"{source} line {number + 1}: {', '.join(rows[0][:4])!r} looks like a second header or a line of units; "
            "make one header of the two (units of latencies can be said above it: # units: {COLUMN: s})"
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise TableError(f"{source}: two columns are called {twice[0]!r}; rename one of them")


def _second_header(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line below the header has words where all lines below it have numbers, and no number at all."""
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(header)]
    if len(first) != len(header) or not rest or any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    below = [[row[i] for row in rest if not is_missing_or_failed(row[i])] for i in range(len(header))]
    numeric = [i for i, cells in enumerate(below) if cells and all(_NUMBER.fullmatch(cell) for cell in cells)]
    return (
        bool(numeric)
        and all(not is_missing_or_failed(first[i]) or not first[i] for i in numeric)
        and any(first[i] for i in numeric)
    )


def named_columns(source: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns that have a name; one without may be empty (a separator at each line's end) or count the lines.

    Raises:
        TableError: for a column without a name that has something to say.
    """
    for i, name in enumerate(header):
        cells = [row[i] for row in rows]
        if not name and any(cells) and not _counts(cells):
            raise TableError(
                f"{source}: column {i + 1} ({', '.join(cells[:3])}) has no name in the header; give it one"
            )
    return [i for i, name in enumerate(header) if name]


def _counts(cells: Sequence[str]) -> bool:
    """0, 1, 2… or 1, 2, 3…, with or without gaps: what pandas writes in front of each line."""
    if not all(cell.isdecimal() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return all(a < b for a, b in pairwise(numbers))
