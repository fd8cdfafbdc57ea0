"""Tables become problems, by what they say of themselves (`tables.notes`).

A table that names columns in `problems` is cut into one for each combination of their values; each gets the objective
and the limits that its notes suggest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.replay.bench.problems import Half, Problem
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import TableOptions, unknown
from haqa_operator.replay.tables.lines import Line, Sheet, read_sheet
from haqa_operator.replay.tables.notes import SuggestedLimit
from haqa_operator.replay.tables.table import Table

_DIGITS = 3


def problems_of(paths: Iterable[Path], half: Half | None = None, options: TableOptions | None = None) -> list[Problem]:
    """The problems of some tables, by table and name; a folder stands for all CSV files in it.

    Problems without a single feasible configuration are left out: nothing can be found in them.

    Raises:
        TableError: for a table that cannot be read, or from which no problem can be made.
    """
    found: dict[str, Problem] = {}
    for path in _files(paths):
        mine = [problem for problem in _problems(read_sheet(path), path.stem, options) if problem.best is not None]
        if not mine:
            raise TableError(f"{path.name}: no configuration of it keeps the limits, so nothing can be searched for")
        for problem in mine:
            if problem.name in found:
                raise TableError(f"{path}: there are two problems called {problem.name!r}; rename one of the files")
            found[problem.name] = problem
    return [problem for problem in found.values() if half is None or problem.half is half]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.glob("*.csv"))
        if not inside:
            raise TableError(f"{path}: no CSV file in this folder")
        yield from inside


def _problems(sheet: Sheet, stem: str, options: TableOptions | None) -> Iterator[Problem]:
    columns = sheet.notes.problems
    groups: dict[tuple[str, ...], list[Line]] = {}
    for column in columns:
        if column not in sheet.header:
            raise unknown("# problems:", column, sheet.header)
    for line in sheet.lines:
        groups.setdefault(tuple(line.cells[column] for column in columns), []).append(line)
    for values, lines in sorted(groups.items()):
        table = Table.of(replace(sheet, lines=tuple(lines)), options)
        fewest, most = sheet.notes.sizes or (2, len(table.rows))
        if fewest <= len(table.rows) <= most:
            named = dict(zip(columns, values, strict=True))
            families = columns if sheet.notes.families is None else sheet.notes.families
            yield _problem(table, "/".join((stem, *values)), "/".join((stem, *(named[c] for c in families))))


def _problem(table: Table, name: str, family: str) -> Problem:
    notes = table.notes
    if notes.objective is None:
        raise TableError(
            f"{table.source}: write what is to be optimized above its header: # objective: {{metric: NAME}}"
        )
    constraints = tuple(_constraint(limit, table) for limit in notes.limits)
    table.check([notes.objective], constraints)
    return Problem(
        name=name,
        family=family,
        table=table,
        objective=Objective.model_validate(notes.objective),
        constraints=constraints,
    )


def _constraint(limit: SuggestedLimit, table: Table) -> Constraint:
    """A limit as it stands, or the one that the wanted share of the configurations keeps."""
    fields = limit.model_dump(exclude={"kept_by"})
    if limit.kept_by is None:
        return Constraint.model_validate(fields)
    values = [row.metrics[str(limit.key)].value for row in table.rows.values() if str(limit.key) in row.metrics]
    if not values:
        raise TableError(f"{table.source}: {limit.key} has a limit and no value")
    place = max(1, math.ceil(len(values) * limit.kept_by - 1e-9))
    return Constraint.model_validate({**fields, "max": _rounded_up(sorted(values)[place - 1])})


def _rounded_up(value: float) -> float:
    """The next number of three digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - _DIGITS + 1)
    return math.ceil(value / step - 1e-9) * step
