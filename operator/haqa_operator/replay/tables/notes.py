"""What a table says of itself, in `#` lines above its header.

A line `# key: value` with one of the keys below is read as YAML; what belongs to it goes on in lines that are indented
or begin with `-`. All other `#` lines are comments.

    # source: https://github.com/argonne-lcf/LLM-Inference-Bench
    # licence: BSD-3-Clause
    # engine: as in the column Framework
    # metrics: {Throughput: throughput, Latency: e2e}
    # units: {Latency: s}
    # load: Batch Size
    # accelerators: Num of Hardware
    # per: replica
    # notes:
    # - Input and output have the same number of tokens.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from haqa_contract import Scalar
from haqa_operator.api.base import ResourceModel
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.loading import sentences
from haqa_operator.replay.tables.cells import TableError

Unit = Literal["s", "ms", "us"]
MILLISECONDS: dict[str, float] = {"s": 1000.0, "ms": 1.0, "us": 0.001}
"""Unit of a latency -> milliseconds, which is what every latency has in HAQA."""

TYPICAL = "typical"

_SENTENCES = frozenset({"source", "licence", "engine", "model", "accelerator"})

_KEY = re.compile(r"^([A-Za-z][\w-]*)\s*:(?:\s|$)")
_CLOSE = 0.7
"""How alike a word is to a key before it is taken for a slip of the pen."""


class SuggestedLimit(Constraint):
    """A constraint, or the share of the configurations that shall keep it."""

    kept_by: Annotated[float | None, Field(gt=0, le=1)] = None
    """The limit is where this share of a table's configurations keep it: 0.33 = two thirds break it"""

    @model_validator(mode="before")
    @classmethod
    def _limit_by_share(cls, data: Any) -> Any:
        # The bound itself follows from the table; a constraint without any is refused.
        if isinstance(data, dict) and "keptBy" in data and not {"min", "max", "maxDegradationPercent"} & data.keys():
            return {**data, "max": float("inf")}
        return data


class TableNotes(ResourceModel):
    """What the columns of a table mean, and where it comes from."""

    source: str | None = None
    """Who measured, where it was published"""
    licence: str | None = None
    """Under which the table may be passed on"""
    engine: str | None = None
    """Engine and version"""
    model: str | None = None
    """The model that was served"""
    accelerator: str | None = None
    """The hardware that it was served on"""
    metrics: dict[str, str] = Field(default_factory=dict)
    """Column -> metric, as `--metric COL=NAME`"""
    units: dict[str, Unit] = Field(default_factory=dict)
    """Column of a latency -> its unit; by default ms, or what the column's name ends with: `latency_s`, `TTFT (s)`"""
    settings: tuple[str, ...] = ()
    """Columns that are settings whatever they look like, as `--setting`"""
    ignore: tuple[str, ...] = ()
    """Columns that are neither, as `--ignore`"""
    load: tuple[str, ...] = ()
    """Columns that are the number of requests in flight (batch size, concurrency, request rate)"""
    accelerators: str | None = None
    """Column with the number of accelerators of a replica"""
    per: Literal["accelerator", "replica"] | None = None
    """Whether rates are of one accelerator or of all of a replica; those of a replica are divided when they are read"""
    baseline: Literal["typical"] | dict[str, Scalar] | None = None
    """Column -> value of the baseline's rows; typical = see docs/replay.md"""
    objective: Objective | None = None
    """What is worth optimizing in this table: for `haqa bench`"""
    limits: tuple[SuggestedLimit, ...] = ()
    """Limits worth searching under: for `haqa bench`"""
    problems: tuple[str, ...] = ()
    """Columns of which each combination of values is a table of its own"""
    families: tuple[str, ...] | None = None
    """Those of them whose equal values make tables so alike that they are development or held out together"""
    sizes: Annotated[tuple[int, ...], Field(min_length=2, max_length=2)] | None = None
    """Fewest and most configurations of such a table; others are left out"""
    machine_hours: Annotated[float | None, Field(gt=0)] = None
    """What a trial costs on one accelerator, where the table does not say"""
    notes: tuple[str, ...] = ()
    """Anything else worth a sentence"""

    @field_validator("load", "ignore", "settings", "problems", "families", "notes", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def load_sentence(self) -> str | None:
        """What the agent is told of the load."""
        if not self.load:
            return None
        columns = " and ".join(self.load)
        return f"{columns}: the number of requests in flight at once, in all accelerators of a replica together"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a strategy or an agent should know, a sentence each."""
        told = []
        if self.accelerators is not None:
            told.append(f"{self.accelerators} is the number of accelerators of one replica")
        if self.per is not None:
            told.append("rates (throughput, requests/s) are those of one accelerator: of the replica, divided by them")
        return (*told, *self.notes)


_FIELDS = {field.alias or name: field for name, field in TableNotes.model_fields.items()}
_ALIASES = {"license": "licence", "hardware": "accelerator", "note": "notes", "limit": "limits"}


_UNIT = re.compile(r"(?:[(\[ ]+|_)(s|sec|secs|seconds|ms|msec|milliseconds|us|µs|microseconds)[)\]]*$", re.IGNORECASE)


def unit_in(column: str, notes: TableNotes) -> Unit:
    """The unit of a latency's column: as noted, or as its name ends, or milliseconds."""
    if column in notes.units:
        return notes.units[column]
    match = _UNIT.search(column)
    word = match[1].lower() if match else "ms"
    if word.startswith("s"):
        return "s"
    return "us" if word.startswith(("u", "µ", "mic")) else "ms"


def read_notes(comments: Sequence[str], source: str) -> TableNotes:
    """The notes in the lines above a header.

    Args:
        comments: The lines, with their `#`; blank ones among them.
        source: The file's name, for sentences.

    Raises:
        TableError: for a key that is misspelled, given twice, or has a value that does not fit.
    """
    given: dict[str, Any] = {}
    for number, key, lines in _entries(comments, source):
        if key in given:
            raise TableError(f"{source} line {number}: {key!r} is given twice; write its values as one list")
        given[key] = _value(key, lines, f"{source} line {number}")
    given = {key: value for key, value in given.items() if value is not None}
    try:
        return TableNotes.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(sentences(error, given))
        raise TableError(f"{source}, the # lines above the header: {problems}") from None


def write_notes(notes: TableNotes) -> str:
    """The lines that `read_notes` reads these notes from; empty for none."""
    told = notes.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    full = notes.model_dump(mode="json", by_alias=True, exclude_none=True)
    given = {key: full[key] for key in told}
    lines: list[str] = []
    for key, value in given.items():
        if key in _SENTENCES:
            lines.append(f"{key}: {' '.join(str(value).split())}")
        elif key == "notes":
            lines += ["notes:", *(f"- {' '.join(note.split())}" for note in value)]
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
            lines.append(f"{key}: {text.strip().removesuffix('...').strip()}")
    return "".join(f"# {line}\n" for line in lines)


def _entries(comments: Sequence[str], source: str) -> list[tuple[int, str, list[str]]]:
    """Line number and key of each note, with its text on that line and on those that belong to it."""
    entries: list[tuple[int, str, list[str]]] = []
    belongs = False
    for number, comment in enumerate(comments, 1):
        text = comment.strip().removeprefix("#").removeprefix(" ").rstrip()
        match = _KEY.match(text)
        key = _known(match[1], f"{source} line {number}") if match else None
        if key is not None and match is not None:
            entries.append((number, key, [text[match.end() :].strip()]))
            belongs = True
        elif belongs and text[:1] in (" ", "-"):
            entries[-1][2].append(text)
        else:
            belongs = False
    return entries


def _value(key: str, lines: Sequence[str], where: str) -> Any:
    """Sentences as they stand, everything else as YAML: a colon in a sentence is no mapping."""
    written = [line for line in lines if line]
    if key in _SENTENCES:
        return " ".join(line.strip() for line in written)
    if key == "notes" and not lines[0].startswith("["):
        return _items(written)
    try:
        return yaml.safe_load("\n".join(written))
    except yaml.YAMLError as error:
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise TableError(f"{where}: {key!r} is not YAML ({what}); quote its value") from None


def _items(lines: Sequence[str]) -> list[str]:
    """Sentences, each of which begins with `-` or is the first; indented lines go on with the one before."""
    items: list[str] = []
    for line in lines:
        if line.startswith("-") or not items:
            items.append(line.removeprefix("-").strip())
        else:
            items[-1] += " " + line.strip()
    return items


def _known(word: str, where: str) -> str | None:
    """The key that a word is; None for one that begins a comment."""
    names = {name.lower(): name for name in _FIELDS} | _ALIASES
    if word.lower() in names:
        return names[word.lower()]
    if word.islower() and (close := difflib.get_close_matches(word, names, n=1, cutoff=_CLOSE)):
        raise TableError(f"{where}: {word!r} is no key; did you mean {names[close[0]]!r}? A comment begins otherwise")
    return None
