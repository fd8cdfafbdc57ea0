"""The lines of a table, before anybody has asked what they mean."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haqa_operator.replay.tables.cells import TableError, same_value
from haqa_operator.replay.tables.dialect import plain_numbers, separator_of
from haqa_operator.replay.tables.files import read_text
from haqa_operator.replay.tables.headers import check_header, named_columns
from haqa_operator.replay.tables.notes import TableNotes, read_notes
from haqa_operator.replay.tables.strays import check_strays, wrong_width


@dataclass(frozen=True)
class Line:
    """`number` is the line of the file, from 1; `cells` are by column, without surrounding blanks."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Sheet:
    """A file that has been read: what it says of itself, its columns and its lines."""

    name: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: TableNotes = field(default_factory=TableNotes)


def read_sheet(path: Path) -> Sheet:
    """Reads a table: cells between commas, semicolons, tabs or bars under one header line.

    `#` lines above the header are notes (`notes.read_notes`). Blank lines, `#` lines below the header and repetitions
    of the header are passed over, and so are columns without a name that are empty or count the lines.

    Raises:
        TableError: for a file that cannot be read, has nothing in it, or is not clearly such a table.
    """
    text = read_text(path)
    lines = text.splitlines(keepends=True)
    above = 0
    while above < len(lines) and (lines[above].startswith("#") or not lines[above].strip()):
        above += 1
    notes = read_notes(lines[:above], path.name)
    separator = separator_of(lines[above:])
    reader = csv.reader(lines[above:], delimiter=separator, skipinitialspace=True)
    header = [column.strip() for column in next(reader, [])]
    numbers, rows = [], []
    for cells in reader:
        row = [cell.strip() for cell in cells]
        if any(row) and not row[0].startswith("#") and row != header:
            numbers.append(reader.line_num + above)
            rows.append(row)
    check_header(path.name, header, rows, above + 1)
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(header):
            raise wrong_width(path.name, number, row, len(header))
    check_strays(path.name, numbers, rows)
    kept = named_columns(path.name, header, rows)
    header = [header[i] for i in kept]
    rows = plain_numbers(path.name, header, [[row[i] for i in kept] for row in rows], separator)
    found = [Line(n, dict(zip(header, row, strict=True))) for n, row in zip(numbers, rows, strict=True)]
    return Sheet(path.name, tuple(header), tuple(found), notes)


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
