"""A table of measured configurations, from which trials are answered without running anything.

It is how a strategy or a prompt is judged in seconds: on the table that a finished tuning exports, on published
measurements, on tables of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from haqa_contract import Configuration
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import higher_is_better
from haqa_operator.replay.tables.baselines import baseline_of
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import Columns, TableOptions, classify, is_long, unknown
from haqa_operator.replay.tables.lines import Line, Sheet, distinct, read_sheet, select, shortened
from haqa_operator.replay.tables.notes import TableNotes
from haqa_operator.replay.tables.rows import RowReader, TableRow, configuration_of, with_overall
from haqa_operator.replay.tables.suspects import refuse_suspects
from haqa_operator.search.space import SearchSpace


@dataclass(frozen=True)
class Table:
    """Measured configurations; combinations that are not in it are not in the space.

    Attributes:
        source: Name of the file.
        baseline: One of the rows.
        rows: By configuration, in the order of the file.
        context: What all rows have in common: the slice that was selected, versions, hidden settings.
        notes: What the table says of itself.
    """

    source: str
    baseline: Configuration
    rows: Mapping[Configuration, TableRow]
    context: Mapping[str, str] = field(default_factory=dict)
    notes: TableNotes = field(default_factory=TableNotes)

    @classmethod
    def load(cls, path: Path, options: TableOptions | None = None) -> Table:
        """Reads a CSV file with one header line; `lines.read_sheet` says what else it may be like. `#` lines above the
        header say what the columns mean (`notes.TableNotes`); options count for more than they do.

        Every line is a measurement of a configuration; lines with the same configuration are its repeats. Columns:

        - A **metric**, by its name as in a tuning (`throughput`, `throughput@8`, `ttft.p95@1`, `perplexity`,
          `accuracy.mmlu`), by the mark `metric:NAME` for any other name, or by the option `--metric COL[=NAME]`. Its
          cells hold a number; `OOM` or a failure reason such as `EngineLoadFailed`; or nothing, `-`, `n/a`. A
          configuration with a failure in place of a metric, or without any number, has failed. Where only the levels
          of a workload have columns (`throughput@1`, `throughput@8`), the figure over all levels (`throughput`) is
          made from them. `metric:NAME:low`, `:high` and `:n` give an interval that does not follow from repeats.
        - `scheme`, `algorithm`, `group-size`: fields of the configuration where HAQA knows the value; otherwise
          settings like any other column.
        - `trial:baseline` (`true`), `trial:failure`, `trial:message`, `trial:machineHours`: about the trial;
          `trial:expected`: how many times as fast as the baseline it was expected to be, before anything was measured.
        - **Settings**: all other columns; an empty cell is the engine's default. A column in which all selected lines
          agree is no choice but context, unless it is marked `setting:NAME`. A column that looks like a result is taken
          for a forgotten metric and refused (`suspects`): a search must not see results among the settings. `--setting
          COL` says that it is one, `--ignore COL` leaves it out.

        A **long** table, one with the columns `metric` and `value`, has a line for each metric instead of a column.

        The baseline is that of `--baseline COL=VALUE[,COL=VALUE]`, of the notes, the configuration marked
        `trial:baseline`, or the only one whose scheme is BF16 or FP16.

        Raises:
            TableError: with a sentence that says where the table or an option is wrong, and what to change.
        """
        return cls.of(read_sheet(path), options)

    @classmethod
    def of(cls, sheet: Sheet, options: TableOptions | None = None) -> Table:
        """A sheet that has been read already, as `load`."""
        notes = sheet.notes
        options = _merged(options or TableOptions(), notes, sheet.header)
        names = distinct(sheet.lines, "metric") if is_long(sheet.header, options) else ()
        columns = classify(sheet.header, options, names)
        lines = select(sheet.lines, options.where)
        refuse_suspects(columns, lines, known=(*notes.load, *([notes.accelerators] if notes.accelerators else [])))
        settings, context = _settings_and_context(columns, lines)
        groups: dict[Configuration, list[Line]] = {}
        for line in lines:
            groups.setdefault(configuration_of(line, columns, settings), []).append(line)
        reader = RowReader(columns, options.metrics, sheet.name, notes)
        rows = {configuration: reader.row(configuration, group) for configuration, group in groups.items()}
        baseline = baseline_of(groups, columns, options, notes)
        return cls(sheet.name, baseline, with_overall(rows), context, notes)

    @property
    def space(self) -> SearchSpace:
        """Exactly the table's configurations."""
        names = {name for configuration in self.rows for name in configuration.parameters}
        accelerators = {self.notes.accelerators} if self.notes.accelerators else set()
        return SearchSpace(
            self.baseline,
            tuple(c for c in self.rows if c != self.baseline),
            speeds={c: row.expected for c, row in self.rows.items() if row.expected is not None},
            variants=frozenset(c.variant for c in self.rows if c.variant),
            load_parameters=frozenset(names & set(self.notes.load)),
            accelerator_parameters=frozenset(names & accelerators),
        )

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
        if len(values) > 1 or column in columns.explicit:
            settings[column] = name
        elif values[0]:
            context[name] = values[0]
    return settings, context


def _merged(options: TableOptions, notes: TableNotes, header: Sequence[str]) -> TableOptions:
    """What the notes say, and above it what the user says.

    Raises:
        TableError: for notes on columns that the table has not.
    """
    about: dict[str, Iterable[str]] = {
        # Those of a long table are not its columns; `classify` knows them.
        "metrics": () if {"metric", "value"} <= set(header) else notes.metrics,
        "units": notes.units,
        "settings": notes.settings,
        "ignore": notes.ignore,
        "load": notes.load,
        "accelerators": [notes.accelerators] if notes.accelerators else [],
        "problems": notes.problems,
        "families": notes.families or (),
        "baseline": notes.baseline if isinstance(notes.baseline, dict) else [],
    }
    for key, named in about.items():
        for column in named:
            if column not in header:
                raise unknown(f"# {key}:", column, header)
    said = {*options.metrics, *options.ignore, *options.settings}
    return replace(
        options,
        metrics={**{c: name for c, name in notes.metrics.items() if c not in said}, **options.metrics},
        ignore=(*options.ignore, *(c for c in notes.ignore if c not in said)),
        settings=(*options.settings, *(c for c in notes.settings if c not in said)),
    )
