"""How a file writes cells and numbers: separators, decimal commas, thousands, percent signs.

What is certain is read; what could mean two things is refused, since 1,234 may be off by a factor of a thousand.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum, auto

from haqa_operator.replay.tables.cells import TableError, is_missing_or_failed

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_LOOKED_AT = 200
"""Lines by which the separator is told."""

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?")
_COMMA_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_POINT_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_GAPS = re.compile(r"(?<=\d)[ \u00a0\u2009\u202f'’](?=\d{3}(\D|$))")
"""Between groups of three digits; apostrophes are Switzerland's."""


class Comma(Enum):
    """What a comma inside a number is."""

    DECIMAL = auto()
    THOUSANDS = auto()


def separator_of(lines: Sequence[str]) -> str:
    """What stands between the cells: that by which most lines have as many cells as the header, and the most of them.

    Args:
        lines: The header and what is below it.
    """
    head = [line for line in lines[:_LOOKED_AT] if line.strip()]
    return max(SEPARATORS, key=lambda separator: _fit(head, separator))


def _fit(lines: Sequence[str], separator: str) -> tuple[bool, int]:
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    width = len(rows[0]) if rows else 0
    fitting = sum(len(row) == width for row in rows)
    return (width > 1 and fitting >= 0.8 * len(rows), width)


def plain_numbers(source: str, header: Sequence[str], rows: list[list[str]], separator: str) -> list[list[str]]:
    """The rows with numbers written as `1234.5`, column by column where all of a column's cells are numbers.

    Raises:
        TableError: for commas that may be decimal or thousands, and for columns with and without percent signs.
    """
    columns = [[row[i] for row in rows] for i in range(len(header))]
    commas = {i: kind for i, cells in enumerate(columns) if (kind := _comma(_numbers(cells))) is not None}
    known = {kind for kind in commas.values() if isinstance(kind, Comma)}
    for i, cells in enumerate(columns):
        kind = commas.get(i)
        if isinstance(kind, str):
            if len(known) != 1 and separator != ",":
                raise TableError(
                    f"{source}, column {header[i]!r}: {kind!r} may have a decimal comma or thousands, and nothing in "
                    "the file says which; write it without, for example with a decimal point"
                )
            kind = next(iter(known)) if len(known) == 1 else Comma.THOUSANDS
        columns[i] = _percent(source, header[i], [_plain(cell, kind) for cell in cells])
    return [list(row) for row in zip(*columns, strict=True)]


def _numbers(cells: Sequence[str]) -> list[str]:
    """The cells of a column that has numbers alone; none of one that has anything else."""
    said = [_bare(cell) for cell in cells if not is_missing_or_failed(cell)]
    forms = (_PLAIN, _DECIMAL_COMMA, _COMMA_THOUSANDS, _POINT_THOUSANDS)
    return said if all(any(form.fullmatch(cell) for form in forms) for cell in said) else []


def _bare(cell: str) -> str:
    return _GAPS.sub("", cell.removesuffix("%").strip())


def _comma(numbers: Sequence[str]) -> Comma | str | None:
    """What commas are in a column; an example where they could be either; None where there is none."""
    with_comma = [number for number in numbers if "," in number]
    if not with_comma:
        return None
    if any(not _EITHER.fullmatch(number) and _DECIMAL_COMMA.fullmatch(number) for number in with_comma):
        mixed = any(_COMMA_THOUSANDS.fullmatch(number) and "." in number for number in with_comma)
        return with_comma[0] if mixed else Comma.DECIMAL
    points = any("." in number for number in numbers)
    return Comma.THOUSANDS if points or any(number.count(",") > 1 for number in with_comma) else with_comma[0]


def _plain(cell: str, comma: Comma | None) -> str:
    bare = _GAPS.sub("", cell) if _PLAIN.match(cell) else cell
    if comma is Comma.THOUSANDS and re.match(r"[+-]?\d", bare):
        return bare.replace(",", "")
    if comma is Comma.DECIMAL and re.match(r"[+-]?\d", bare):
        whole = bare.replace(".", "") if "," in bare or _POINT_THOUSANDS.fullmatch(bare.rstrip("% ")) else bare
        return whole.replace(",", ".")
    return bare if _PLAIN.fullmatch(bare.rstrip("% ")) else cell


def _percent(source: str, column: str, cells: list[str]) -> list[str]:
    """95.3% becomes 0.953, where every number of the column has the sign."""
    said = [cell for cell in cells if not is_missing_or_failed(cell)]
    marked = [cell for cell in said if cell.endswith("%")]
    if not marked or not all(_PLAIN.fullmatch(cell.rstrip("% ")) for cell in said):
        return cells
    if len(marked) < len(said):
        other = next(cell for cell in said if not cell.endswith("%"))
        raise TableError(
            f"{source}, column {column!r}: {marked[0]!r} has a percent sign and {other!r} has none; write all alike"
        )
    return [str(Decimal(cell.rstrip("% ")).scaleb(-2)) if cell in marked else cell for cell in cells]
