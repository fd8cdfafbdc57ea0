"""Lines with the same configuration become one row: its repeats, their intervals, or how it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from haqa_contract import Algorithm, Configuration, Estimate, Failure, FailureReason, Scalar, Scheme
from haqa_contract.figures import LATENCIES, RATES
from haqa_operator.api.metrics import MetricKey
from haqa_operator.metrics.intervals import interval
from haqa_operator.metrics.summary import over_levels
from haqa_operator.replay.tables.cells import TableError, read_measurement, read_scalar
from haqa_operator.replay.tables.columns import (
    EXPECTED,
    FAILURE,
    LOAD_HOURS,
    MACHINE_HOURS,
    MESSAGE,
    Columns,
    metric_key,
)
from haqa_operator.replay.tables.lines import Line
from haqa_operator.replay.tables.notes import MILLISECONDS, TableNotes, unit_in


@dataclass(frozen=True)
class TableRow:
    """One configuration with all of its repeats.

    Attributes:
        samples: Metric key -> the repeats in the order of the file.
        failure: Why there is no result, where the table says so or has no number at all.
        load_hours: Of the machine-hours, those of the load test; 0 where the table does not say.
        expected: How many times as fast as the baseline it was expected to be; None where the table does not say.
    """

    configuration: Configuration
    metrics: Mapping[str, Estimate]
    samples: Mapping[str, tuple[float, ...]]
    failure: Failure | None = None
    machine_hours: float = 0.0
    load_hours: float = 0.0
    expected: float | None = None


def configuration_of(line: Line, columns: Columns, settings: Mapping[str, str]) -> Configuration:
    """The configuration that a line is about.

    Schemes, algorithms and group sizes that HAQA does not know become settings of the same name.

    Args:
        settings: The columns that are settings -> the names of the settings.
    """
    fields: dict[str, Any] = {}
    engine: dict[str, Scalar] = {}
    for column, name in columns.fields.items():
        value = read_scalar(line.cells[column])
        if value is None:
            continue
        known = _known_value(name, value)
        if known is None:
            engine[name] = value
        else:
            fields[name.replace("-", "_")] = known
    for column, name in settings.items():
        value = read_scalar(line.cells[column])
        if value is not None:
            engine[name] = value
    return Configuration(**fields, engine=tuple(sorted(engine.items())))


@dataclass(frozen=True)
class RowReader:
    """Makes rows of lines.

    Attributes:
        names: In a long table: what the `metric` column calls a metric -> what the user calls it.
        source: The file's name, for sentences.
        notes: Units of latencies, and whether rates are of a whole replica.
    """

    columns: Columns
    names: Mapping[str, str]
    source: str
    notes: TableNotes = field(default_factory=TableNotes)

    def row(self, configuration: Configuration, lines: Sequence[Line]) -> TableRow:
        """All that these lines, which share a configuration, say of it.

        Raises:
            TableError: for a cell that is not a measurement.
        """
        self._refuse_mixtures(configuration, lines)
        samples: dict[MetricKey, list[float]] = {}
        failed: dict[MetricKey, FailureReason] = {}
        for line in lines:
            for key, value in self._values(line):
                if isinstance(value, FailureReason):
                    failed.setdefault(key, value)
                elif value is not None:
                    samples.setdefault(key, []).append(value)
        metrics = {str(key): interval(key, values) for key, values in samples.items()}
        return TableRow(
            configuration=configuration,
            metrics={**metrics, **self._stated_intervals(lines, metrics)},
            samples={str(key): tuple(values) for key, values in samples.items()},
            failure=self._stated_failure(lines) or self._failure(samples, failed),
            machine_hours=self._machine_hours(lines),
            load_hours=sum(self._number(line, self.columns.trial.get(LOAD_HOURS)) or 0.0 for line in lines),
            expected=self._expected(lines),
        )

    def _values(self, line: Line) -> Iterator[tuple[MetricKey, float | FailureReason | None]]:
        for column, key in self.columns.measured.items():
            yield key, self._measured(line, column, key)
        if self.columns.long:
            name = line.cells["metric"]
            key = metric_key(self.names.get(name, name), name)
            yield key, self._measured(line, "value", key, unit_of=name)

    def _measured(
        self, line: Line, column: str, key: MetricKey, unit_of: str | None = None
    ) -> float | FailureReason | None:
        """A cell in HAQA's units: latencies in milliseconds, rates of one accelerator where the notes say `per`."""
        value = self._cell(line, column)
        if not isinstance(value, float):
            return value
        if key.metric in LATENCIES:
            return value * MILLISECONDS[unit_in(unit_of or column, self.notes)]
        if key.metric in RATES and self.notes.per == "replica":
            return value / (self._accelerators(line) or 1)
        return value

    def _accelerators(self, line: Line) -> float | None:
        column = self.notes.accelerators
        number = self._number(line, column)
        if column is not None and (number is None or number <= 0):
            raise TableError(f"{self._where(line, column)}: {line.cells[column]!r} is not a number of accelerators")
        return number

    def _machine_hours(self, lines: Sequence[Line]) -> float:
        stated = self.columns.trial.get(MACHINE_HOURS)
        if stated is None and self.notes.machine_hours is not None:
            return self.notes.machine_hours * (self._accelerators(lines[0]) or 1)
        return sum(self._number(line, stated) or 0.0 for line in lines)

    def _expected(self, lines: Sequence[Line]) -> float | None:
        column = self.columns.trial.get(EXPECTED)
        for line in lines:
            factor = self._number(line, column)
            if factor is None:
                continue
            if factor <= 0:
                raise TableError(f"{self._where(line, column or '')}: {factor:g} must be above 0, in baselines")
            return factor
        return None

    def _refuse_mixtures(self, configuration: Configuration, lines: Sequence[Line]) -> None:
        """A metric column beside `value` goes with its line's metric; over two of those it would be a mixture."""
        if not (self.columns.long and self.columns.measured):
            return
        names = list(dict.fromkeys(line.cells["metric"] for line in lines))
        if len(names) > 1:
            raise TableError(
                f"column {next(iter(self.columns.measured))!r} goes with {names[0]} on one line of "
                f"{configuration.describe()} and with {names[1]} on another; choose with --where metric={names[0]}"
            )

    def _failure(self, samples: Mapping[MetricKey, Any], failed: Mapping[MetricKey, FailureReason]) -> Failure | None:
        for key, reason in failed.items():
            if key not in samples:
                return Failure(reason=reason, message=f"{self.source} has {reason} in place of {key}")
        if samples:
            return None
        message = f"{self.source} has no measurement of this configuration"
        return Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message=message)

    def _stated_failure(self, lines: Sequence[Line]) -> Failure | None:
        column, message = self.columns.trial.get(FAILURE), self.columns.trial.get(MESSAGE)
        for line in lines:
            if column is None or not line.cells[column]:
                continue
            reason = self._cell(line, column)
            if not isinstance(reason, FailureReason):
                known = ", ".join(FailureReason)
                raise TableError(f"{self._where(line, column)}: {line.cells[column]!r} is none of {known}")
            text = line.cells[message] if message else ""
            return Failure(reason=reason, message=text or f"{self.source} has this failure")
        return None

    def _stated_intervals(self, lines: Sequence[Line], metrics: Mapping[str, Estimate]) -> dict[str, Estimate]:
        """Metrics whose interval the table gives, by the first line that has it."""
        stated: dict[str, dict[str, float]] = {}
        for column, (key, bound) in self.columns.bounds.items():
            read = (self._cell(line, column) if bound == "n" else self._measured(line, column, key) for line in lines)
            numbers = [value for value in read if isinstance(value, float)]
            if numbers and str(key) in metrics:
                stated.setdefault(str(key), {})[bound] = int(numbers[0]) if bound == "n" else numbers[0]
        return {name: metrics[name].model_copy(update=bounds) for name, bounds in stated.items()}

    def _number(self, line: Line, column: str | None) -> float | None:
        value = self._cell(line, column) if column is not None else None
        return value if isinstance(value, float) else None

    def _cell(self, line: Line, column: str) -> float | FailureReason | None:
        return read_measurement(line.cells[column], self._where(line, column))

    def _where(self, line: Line, column: str) -> str:
        return f"{self.source} line {line.number}, column {column!r}"


def with_overall(rows: Mapping[Configuration, TableRow]) -> dict[Configuration, TableRow]:
    """Adds the figures over all levels of the workload, where the table has only those of each level.

    A row that lacks one of the levels gets none: they would not be comparable with the other rows'.
    """
    levels = {level for row in rows.values() for level in _levels(row)}
    return {c: _row_with_overall(row) if levels and _levels(row) == levels else row for c, row in rows.items()}


def _row_with_overall(row: TableRow) -> TableRow:
    each = {MetricKey.parse(name): values for name, values in row.samples.items()}
    overall = {key: values for key, values in over_levels(each).items() if str(key) not in row.metrics}
    return replace(
        row,
        metrics={**row.metrics, **{str(key): interval(key, values) for key, values in overall.items()}},
        samples={**row.samples, **{str(key): values for key, values in overall.items()}},
    )


def _levels(row: TableRow) -> set[int]:
    return {key.concurrency for key in map(MetricKey.parse, row.samples) if key.concurrency is not None}


def _known_value(name: str, value: Scalar) -> Scheme | Algorithm | int | str | None:
    if name == "variant":
        return value if isinstance(value, str) else None
    if name == "group-size":
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    kind: type[Scheme] | type[Algorithm] = Scheme if name == "scheme" else Algorithm
    return kind(value) if value in list(kind) else None
