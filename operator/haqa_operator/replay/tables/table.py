"""A table of measured configurations, from which trials are answered without running anything.

It is how a strategy or a prompt is judged in seconds: on the table that a finished tuning exports, on published
measurements, on tables of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haqa_contract import Configuration
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import higher_is_better
from haqa_operator.replay.tables.cells import TableError, read_scalar, same_value
from haqa_operator.replay.tables.columns import BASELINE, Columns, TableOptions, classify, is_long, quoted
from haqa_operator.replay.tables.lines import Line, distinct, read_lines, select, shortened
from haqa_operator.replay.tables.rows import RowReader, TableRow, configuration_of, with_overall
from haqa_operator.search.space import SearchSpace

_UNQUANTIZED = ("BF16", "FP16")

_MOST_VALUES_OF_A_SETTING = 8
"""Numbers in a column, above which one on nearly every line is taken for a measurement."""


@dataclass(frozen=True)
class Table:
    """Measured configurations; combinations that are not in it are not in the space.

    Attributes:
        source: Name of the file.
        baseline: One of the rows.
        rows: By configuration, in the order of the file.
        context: What all rows have in common: the slice that was selected, versions, hidden settings.
    """

    source: str
    baseline: Configuration
    rows: Mapping[Configuration, TableRow]
    context: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, options: TableOptions | None = None) -> Table:
        """Reads a CSV file (UTF-8, commas, one header line; `#` lines above it are comments).

        Every line is a measurement of a configuration; lines with the same configuration are its repeats. Columns:

        - A **metric**, by its name as in a tuning (`throughput`, `throughput@8`, `ttft.p95@1`, `perplexity`,
          `accuracy.mmlu`), by the mark `metric:NAME` for any other name, or by the option `--metric COL[=NAME]`. Its
          cells hold a number; `OOM` or a failure reason such as `EngineLoadFailed`; or nothing, `-`, `n/a`. A
          configuration with a failure in place of a metric, or without any number, has failed. Where only the levels
          of a workload have columns (`throughput@1`, `throughput@8`), the figure over all levels (`throughput`) is
          made from them. `metric:NAME:low`, `:high` and `:n` give an interval that does not follow from repeats.
        - `scheme`, `algorithm`, `group-size`: fields of the configuration where HAQA knows the value; otherwise
          settings like any other column.
        - `trial:baseline` (`true`), `trial:failure`, `trial:message`, `trial:machineHours`: about the trial.
        - **Settings**: all other columns; an empty cell is the engine's default. A column in which all selected lines
          agree is no choice but context, unless it is marked `setting:NAME`. A column with another number on nearly
          every line is taken for a forgotten metric and refused: a search must not see results among the settings.
          `--setting COL` says that it is one, `--ignore COL` leaves it out.

        A **long** table, one with the columns `metric` and `value`, has a line for each metric instead of a column.

        The baseline is the configuration marked `trial:baseline`, or that of `--baseline COL=VALUE[,COL=VALUE]`, or
        the only one whose scheme is BF16 or FP16.

        Raises:
            TableError: with a sentence that says where the table or an option is wrong, and what to change.
        """
        options = options or TableOptions()
        header, lines = read_lines(path)
        names = distinct(lines, "metric") if is_long(header, options) else ()
        columns = classify(header, options, names)
        lines = select(lines, options.where)
        settings, context = _settings_and_context(columns, lines)
        groups: dict[Configuration, list[Line]] = {}
        for line in lines:
            groups.setdefault(configuration_of(line, columns, settings), []).append(line)
        reader = RowReader(columns, options.metrics, path.name)
        rows = {configuration: reader.row(configuration, group) for configuration, group in groups.items()}
        return cls(path.name, _baseline(groups, columns, options), with_overall(rows), context)

    @property
    def space(self) -> SearchSpace:
        """Exactly the table's configurations."""
        return SearchSpace(self.baseline, tuple(c for c in self.rows if c != self.baseline))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Keys of the metrics that at least one configuration has."""
        return tuple(dict.fromkeys(name for row in self.rows.values() for name in row.metrics))

    def check(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        """That this table can answer for a tuning, before anything is tried.

        Raises:
            TableError: for a metric that no configuration has, or one whose good direction nobody has said.
        """
        asked: list[Objective | Constraint] = [*objectives, *constraints]
        problems = [problem for what in asked if (problem := self._problem(what))]
        if problems:
            raise TableError("\n".join(problems))

    def _problem(self, what: Objective | Constraint) -> str | None:
        name = f"objective {what.key}" if isinstance(what, Objective) else f"constraint {what.key}"
        if str(what.key) not in self.metrics:
            return f"{name}: {self.source} has no such metric; it has {shortened(self.metrics)}"
        if higher_is_better(what.metric) is not None:
            return None
        if isinstance(what, Objective) and what.direction is None:
            return f"{name}: whether more or less is better is not known; give direction: maximize or minimize"
        if isinstance(what, Constraint) and what.max_degradation_percent is not None:
            return f"{name}: whether more or less is better is not known; give min or max"
        return None


def _settings_and_context(columns: Columns, lines: Sequence[Line]) -> tuple[dict[str, str], dict[str, str]]:
    """Columns in which lines differ -> names of settings; names of the others -> the one value they have."""
    settings, context = {}, {}
    for column, name in columns.settings.items():
        values = distinct(lines, column)
        if column not in columns.explicit and _looks_measured(values, len(lines)):
            raise TableError(
                f"column {column!r} has a different number on nearly every line ({shortened(values, most=3)}), like a "
                f"measurement; say what it is with --metric, --ignore or --setting {quoted(column)}"
            )
        if len(values) > 1 or column in columns.explicit:
            settings[column] = name
        elif values[0]:
            context[name] = values[0]
    return settings, context


def _looks_measured(values: Sequence[str], lines: int) -> bool:
    numeric = all(isinstance(read_scalar(value), int | float) for value in values)
    return numeric and len(values) > _MOST_VALUES_OF_A_SETTING and len(values) >= 0.9 * lines


def _baseline(groups: Mapping[Configuration, Sequence[Line]], columns: Columns, options: TableOptions) -> Configuration:
    """The one configuration that an option or the table says is the baseline."""
    marked = columns.trial.get(BASELINE)
    scheme = next((column for column, name in columns.fields.items() if name == "scheme"), None)
    if options.baseline:
        how = "--baseline " + ",".join(f"{column}={value}" for column, value in options.baseline.items())
        chosen = _matching(groups, lambda line: all(same_value(line.cells[c], v) for c, v in options.baseline.items()))
    elif marked is not None:
        how = f"column {marked!r}"
        chosen = _matching(groups, lambda line: read_scalar(line.cells[marked]) is True)
    elif scheme is not None:
        how = f"{scheme} {' or '.join(_UNQUANTIZED)}"
        chosen = _matching(groups, lambda line: line.cells[scheme] in _UNQUANTIZED)
    else:
        how, chosen = "without --baseline", list(groups)
    if len(chosen) == 1:
        return chosen[0]
    remedy = "name the baseline with --baseline COLUMN=VALUE[,COLUMN=VALUE]"
    if not chosen:
        raise TableError(f"{how}: no configuration of the selection matches; {remedy}")
    raise TableError(f"{how}: {len(chosen)} configurations match, which differ in {_differences(chosen)}; {remedy}")


def _matching(groups: Mapping[Configuration, Sequence[Line]], wanted: Callable[[Line], bool]) -> list[Configuration]:
    return [configuration for configuration, lines in groups.items() if any(map(wanted, lines))]


def _differences(configurations: Sequence[Configuration]) -> str:
    """`num_gpus (1, 2), gpu (A100, H100)`."""
    names = dict.fromkeys(name for configuration in configurations for name in configuration.parameters)
    values = {name: list(dict.fromkeys(c.parameters.get(name) for c in configurations)) for name in names}
    return ", ".join(f"{name} ({shortened(each)})" for name, each in values.items() if len(each) > 1)
