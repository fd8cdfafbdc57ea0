"""What the columns of a measurement table stand for, by their names and by what the user says of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.api.metrics import MetricKey, known_metric
from haqa_operator.replay.tables.cells import TableError

METRIC, SETTING, TRIAL = "metric:", "setting:", "trial:"
"""Prefixes that say what a column is, whatever its name."""

BASELINE, FAILURE, MESSAGE, MACHINE_HOURS = "baseline", "failure", "message", "machineHours"
"""Columns about a trial as a whole, after `trial:`."""
LOAD_HOURS = "loadHours"
"""Of the machine-hours, those of the load test, which a trial that ends early saves."""
EXPECTED = "expected"
"""How many times as fast as the baseline a configuration was expected to be, before anything was measured."""

Bound = Literal["low", "high", "n"]
BOUNDS: tuple[Bound, ...] = ("low", "high", "n")


@dataclass(frozen=True)
class TableOptions:
    """What a table's own header leaves open.

    Attributes:
        metrics: Column (or name in the `metric` column of a long table) -> metric it is.
        where: Column -> the values that a row may have; others are left out.
        baseline: Column -> value of the baseline's rows.
        ignore: Columns that are neither.
        settings: Columns that are settings though they look like measurements, or have a metric's name.
    """

    metrics: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    baseline: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        *,
        metric: Iterable[str] = (),
        where: Iterable[str] = (),
        baseline: Iterable[str] = (),
        ignore: Iterable[str] = (),
        setting: Iterable[str] = (),
    ) -> TableOptions:
        """From the command line.

        `--metric COL[=NAME]`, `--where COL=VALUE`, `--baseline COL=VALUE[,COL=VALUE]`, `--ignore COL`, `--setting COL`.
        Each may be given more than once; `--where` for one column twice keeps the rows with either value.

        Raises:
            TableError: for an option that is not written so.
        """
        metrics = {column.strip(): name.strip() or column.strip() for column, _, name in map(_split, metric)}
        values: dict[str, tuple[str, ...]] = {}
        for text in where:
            column, value = _pair("--where", text)
            values[column] = (*values.get(column, ()), value)
        chosen = dict(_pair("--baseline", part) for text in baseline for part in text.split(","))
        return cls(metrics, values, chosen, tuple(map(str.strip, ignore)), tuple(map(str.strip, setting)))


@dataclass(frozen=True)
class Columns:
    """The header of a table, sorted out.

    Attributes:
        measured: Column -> metric key.
        bounds: Column -> the metric key and which bound of its interval it holds.
        fields: Column -> field of a Configuration (scheme, algorithm, group-size).
        settings: Column -> name of an engine setting.
        explicit: Those of the settings that were said to be settings: kept even where all rows agree.
        trial: Name after `trial:` -> column.
        long: The table has a `metric` and a `value` column instead of one column for each metric.
    """

    measured: Mapping[str, MetricKey]
    bounds: Mapping[str, tuple[MetricKey, Bound]]
    fields: Mapping[str, str]
    settings: Mapping[str, str]
    explicit: frozenset[str]
    trial: Mapping[str, str]
    long: bool


def classify(header: Sequence[str], options: TableOptions, long_names: Sequence[str] = ()) -> Columns:
    """Sorts out a header.

    Args:
        long_names: What the `metric` column holds, for a long table; options.metrics may rename these too.

    Raises:
        TableError: for options that name no column, and for a table without any metric.
    """
    _check_options(header, options, long_names)
    long = is_long(header, options)
    measured: dict[str, MetricKey] = {}
    bounds: dict[str, tuple[MetricKey, Bound]] = {}
    fields: dict[str, str] = {}
    settings: dict[str, str] = {}
    trial: dict[str, str] = {}
    for column in header:
        own_field = column.lower().replace("_", "-")
        if column in options.ignore or (long and column in ("metric", "value")):
            continue
        if column in options.metrics:
            measured[column] = metric_key(options.metrics[column], column)
        elif column.startswith(METRIC):
            _classify_metric(column, measured, bounds)
        elif column.startswith(TRIAL):
            trial[column.removeprefix(TRIAL)] = column
        elif column.startswith(SETTING) or column in options.settings:
            settings[column] = column.removeprefix(SETTING)
        elif own_field in OF_WEIGHTS:
            fields[column] = own_field
        elif _is_known_metric(column):
            measured[column] = MetricKey.parse(column)
        else:
            settings[column] = column
    if not measured and not long:
        raise TableError(
            f"no column is a metric; the columns are {', '.join(header)}: say which one is, "
            f"for example --metric {quoted(header[-1])}=throughput"
        )
    _one_column_each(measured)
    explicit = frozenset(c for c in settings if c.startswith(SETTING) or c in options.settings)
    return Columns(measured, bounds, fields, settings, explicit, trial, long)


def is_long(header: Sequence[str], options: TableOptions) -> bool:
    return {"metric", "value"} <= set(header) and not {"metric", "value"} & set(options.metrics)


def metric_key(name: str, column: str) -> MetricKey:
    try:
        return MetricKey.parse(name)
    except ValueError:
        raise TableError(
            f"column {column!r}: {name!r} cannot be the name of a metric; give it one with --metric "
            f"{quoted(column)}=NAME (letters, digits, `_`, `-`, `.`)"
        ) from None


def unknown(what: str, name: str, known: Iterable[str]) -> TableError:
    """`--where gpus: the table has no such column; did you mean gpu?`"""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}"
    return TableError(f"{what} {name!r}: the table has no such column; {hint}")


def _classify_metric(column: str, measured: dict[str, MetricKey], bounds: dict[str, tuple[MetricKey, Bound]]) -> None:
    name, _, bound = column.removeprefix(METRIC).partition(":")
    if not bound:
        measured[column] = metric_key(name, column)
    elif bound in BOUNDS:
        bounds[column] = (metric_key(name, column), bound)
    else:
        raise TableError(f"column {column!r}: {bound!r} is not a bound; a metric has {', '.join(BOUNDS)}")


def _one_column_each(measured: Mapping[str, MetricKey]) -> None:
    columns: dict[MetricKey, str] = {}
    for column, key in measured.items():
        first = columns.setdefault(key, column)
        if first != column:
            raise TableError(
                f"columns {first!r} and {column!r} are both {key}; leave one out with --ignore {quoted(first)}"
            )


def _is_known_metric(column: str) -> bool:
    try:
        return known_metric(MetricKey.parse(column).metric)
    except ValueError:
        return False


def _check_options(header: Sequence[str], options: TableOptions, long_names: Sequence[str]) -> None:
    for option, columns in (
        ("--metric", options.metrics),
        ("--where", options.where),
        ("--baseline", options.baseline),
        ("--ignore", options.ignore),
        ("--setting", options.settings),
    ):
        known = [*header, *long_names] if option == "--metric" else header
        for column in columns:
            if column not in known:
                raise unknown(option, column, known)


def _split(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _pair(option: str, text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column.strip():
        raise TableError(f"{option} {text!r}: write it as {option} COLUMN=VALUE")
    return column.strip(), value.strip()


def quoted(column: str) -> str:
    return f"'{column}'" if " " in column else column
