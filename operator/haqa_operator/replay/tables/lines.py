"""The lines of a CSV table, before anybody has asked what they mean."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from haqa_operator.replay.tables.cells import TableError, same_value


@dataclass(frozen=True)
class Line:
    """`number` is the line of the file, from 1; `cells` are by column, without surrounding blanks."""

    number: int
    cells: Mapping[str, str]


def read_lines(path: Path) -> tuple[list[str], list[Line]]:
    """Header and lines of a file; blank lines, and `#` lines before the header, are passed over.

    Raises:
        TableError: for a file that cannot be read, has nothing in it, or whose lines do not fit its header.
    """
    text = _text(path)
    lines = text.splitlines(keepends=True)
    comments = 0
    while comments < len(lines) and (lines[comments].startswith("#") or not lines[comments].strip()):
        comments += 1
    reader = csv.reader(lines[comments:])
    header = [column.strip() for column in next(reader, [])]
    _check_header(path, header)
    parsed = []
    for cells in reader:
        if not cells:
            continue
        number = reader.line_num + comments
        if len(cells) != len(header):
            raise TableError(f"{path.name} line {number}: {len(cells)} cells under a header of {len(header)}")
        parsed.append(Line(number, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    if not parsed:
        raise TableError(f"{path.name}: no line below the header; a table needs at least the baseline")
    return header, parsed


def select(lines: Sequence[Line], where: Mapping[str, Sequence[str]]) -> list[Line]:
    """The lines that have one of the wanted values in each of these columns.

    Raises:
        TableError: when none is left, naming the values that there are.
    """
    selected = list(lines)
    for column, values in where.items():
        there = distinct(selected, column)
        selected = [line for line in selected if any(same_value(line.cells[column], value) for value in values)]
        if not selected:
            wanted = " or ".join(values)
            raise TableError(f"--where {column}={wanted}: no line is left; {column} is one of {shortened(there)}")
    return selected


def distinct(lines: Sequence[Line], column: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.cells[column] for line in lines))


def shortened(names: Sequence[object], most: int = 8) -> str:
    """The first few of a list, for a sentence."""
    text = ", ".join(map(str, names[:most]))
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; give the path of a CSV table") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read ({error}); a table is CSV in UTF-8") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise TableError(f"{path.name}: empty; the first line names the columns")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise TableError(f"{path.name}: two columns are called {twice[0]!r}; rename one of them")
