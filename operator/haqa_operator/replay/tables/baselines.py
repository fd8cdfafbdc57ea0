"""Which of a table's configurations is the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from haqa_contract import Configuration
from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.replay.tables.cells import TableError, read_scalar, same_value, write_scalar
from haqa_operator.replay.tables.columns import BASELINE, Columns, TableOptions
from haqa_operator.replay.tables.lines import Line, shortened
from haqa_operator.replay.tables.notes import TYPICAL, TableNotes

_UNQUANTIZED = ("BF16", "FP16")

Groups = Mapping[Configuration, Sequence[Line]]


def baseline_of(groups: Groups, columns: Columns, options: TableOptions, notes: TableNotes) -> Configuration:
    """The one configuration that an option, the notes or the table itself say is the baseline.

    Raises:
        TableError: when none is, or several are.
    """
    marked = columns.trial.get(BASELINE)
    scheme = next((column for column, name in columns.fields.items() if name == "scheme"), None)
    named = notes.baseline if isinstance(notes.baseline, dict) else {}
    wanted = options.baseline or {column: write_scalar(value) for column, value in named.items()}
    if wanted:
        how = "--baseline " if options.baseline else "# baseline: "
        how += ",".join(f"{column}={value}" for column, value in wanted.items())
        chosen = _matching(groups, lambda line: all(same_value(line.cells[c], v) for c, v in wanted.items()))
    elif notes.baseline == TYPICAL:
        return _typical(groups, columns, notes)
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


def _typical(groups: Groups, columns: Columns, notes: TableNotes) -> Configuration:
    """What somebody would have begun with: the most common value of each setting, one after the other in the order of
    the columns (the first in the alphabet where two are as common), then the fewest accelerators, then the middle of
    the loads (the lower one of two).
    """
    left = list(groups)
    amounts = [name for name in (notes.accelerators, *notes.load) if name is not None]
    names = [name for column, name in columns.settings.items() if column not in amounts]
    for name in (*OF_WEIGHTS, *names):
        counts = Counter(write_scalar(c.parameters.get(name)) for c in left)
        common = max(sorted(counts), key=lambda value: counts[value])
        left = [c for c in left if write_scalar(c.parameters.get(name)) == common]
    for column in amounts:
        name = columns.settings.get(column, column)
        left.sort(key=lambda c, name=name: _amount(c, name))  # type: ignore[misc]
        wanted = left[0] if column == notes.accelerators else left[(len(left) - 1) // 2]
        left = [c for c in left if _amount(c, name) == _amount(wanted, name)]
    return left[0]


def _amount(configuration: Configuration, name: str) -> float:
    value = configuration.parameters.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _matching(groups: Groups, wanted: Callable[[Line], bool]) -> list[Configuration]:
    return [configuration for configuration, lines in groups.items() if any(map(wanted, lines))]


def _differences(configurations: Sequence[Configuration]) -> str:
    """`num_gpus (1, 2), gpu (A100, H100)`."""
    names = dict.fromkeys(name for configuration in configurations for name in configuration.parameters)
    values = {name: list(dict.fromkeys(c.parameters.get(name) for c in configurations)) for name in names}
    return ", ".join(f"{name} ({shortened(each)})" for name, each in values.items() if len(each) > 1)
