"""How the search space is shown: the combinations that exist, not the union of the values.

A capable model given only the values of every parameter proposes combinations that do not exist; given the list it
does not. Up to `LIST_LIMIT` candidates are a numbered list. More are written as blocks of products that together make
exactly the space, with a shortlist around what is known to be good.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

from haqa_contract import Configuration
from haqa_operator.agent.quoting import ABSENT, labelled
from haqa_operator.search.candidate_index import CandidateIndex
from haqa_operator.search.space import SearchSpace

LIST_LIMIT = 150
SHORTLIST_LENGTH = 40
MAX_BLOCKS = 60
_GOLDEN = 0.6180339887498949

Row = tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """The space as text, computed once for a prompt, a schema or a reply.

    Attributes:
        names: Parameters that differ between candidates, in the order of the space.
        shared: Parameters that all candidates have alike, as (name, value).
        rows: For each candidate the values of `names`, as prompts show them.
    """

    names: tuple[str, ...]
    shared: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    index: Mapping[Configuration, int]

    @classmethod
    def of(cls, space: SearchSpace) -> Catalogue:
        """Worked out once for a space and all that is made of it by closing candidates."""
        known = _KNOWN.get(space.index)
        if known is None:
            known = _KNOWN[space.index] = cls._of(space)
        return known

    @classmethod
    def _of(cls, space: SearchSpace) -> Catalogue:
        texts = [labelled(candidate.parameters) for candidate in space.candidates]
        every = dict.fromkeys(name for text in texts for name in text)
        values = {name: {text.get(name, ABSENT) for text in texts} for name in every}
        names = tuple(name for name in every if len(values[name]) > 1)
        shared = tuple((name, next(iter(values[name]))) for name in every if len(values[name]) == 1)
        rows = tuple(row_of(text, names) for text in texts)
        return cls(names, shared, rows, space.index.positions)

    @property
    def listed(self) -> bool:
        """Whether the space is small enough that a reply names a candidate by number."""
        return len(self.rows) <= LIST_LIMIT

    def describe(self, configuration: Configuration) -> str:
        """A configuration by what tells it from the others: `scheme=W4A16, max-num-seqs=64`."""
        texts = labelled(configuration.parameters)
        shared = dict(self.shared)
        shown = {name: text for name, text in texts.items() if shared.get(name) != text}
        return ", ".join(f"{name}={text}" for name, text in (shown or texts).items())

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The rows as products; see `blocks`."""
        return blocks(self.rows)

    def numbers(self, configurations: Iterable[Configuration]) -> tuple[int, ...]:
        return tuple(self.index[configuration] for configuration in configurations)


_KNOWN: WeakKeyDictionary[CandidateIndex, Catalogue] = WeakKeyDictionary()


def open_numbers(space: SearchSpace, tried: Collection[Configuration]) -> list[int]:
    """Numbers of the candidates that may be chosen, in their order."""
    return [number for number, is_open in enumerate(space.open_mask(tried).tolist()) if is_open]


def row_of(texts: Mapping[str, str], names: Sequence[str]) -> Row:
    """Values of `names`, of which `texts` may lack some."""
    return tuple(texts.get(name, ABSENT) for name in names)


@dataclass(frozen=True)
class Block:
    """All combinations of `values`, one tuple of values for each parameter."""

    values: tuple[tuple[str, ...], ...]

    @property
    def size(self) -> int:
        size = 1
        for values in self.values:
            size *= len(values)
        return size


def blocks(rows: Collection[Row]) -> tuple[Block, ...]:
    """Disjoint products whose union is exactly `rows`, few rather than many.

    Where the rows are not one product, they are split on the parameter whose values fall into the fewest groups with
    equal remainders, and each group again.
    """
    distinct = list(dict.fromkeys(rows))
    if not distinct:
        return ()
    values = tuple(tuple(dict.fromkeys(column)) for column in zip(*distinct, strict=True))
    whole = Block(values)
    if whole.size == len(distinct):
        return (whole,)
    splits = [_groups(distinct, axis) for axis, column in enumerate(values) if len(column) > 1]
    axis_groups = min((split for split in splits if len(split) > 1), key=len)
    return tuple(block for group in axis_groups for block in blocks(group))


def _groups(rows: Sequence[Row], axis: int) -> list[list[Row]]:
    """Rows split so that inside a group all values of `axis` go with the same remainders."""
    remainders: dict[str, set[Row]] = {}
    for row in rows:
        remainders.setdefault(row[axis], set()).add(row[:axis] + row[axis + 1 :])
    alike: dict[frozenset[Row], list[str]] = {}
    for value, rest in remainders.items():
        alike.setdefault(frozenset(rest), []).append(value)
    group_of = {value: number for number, values in enumerate(alike.values()) for value in values}
    groups: list[list[Row]] = [[] for _ in alike]
    for row in rows:
        groups[group_of[row[axis]]].append(row)
    return groups


def shortlist(rows: Sequence[Row], untried: Sequence[int], best: Sequence[int]) -> tuple[int, ...]:
    """Candidates worth showing one by one: neighbours of the best, a spread over all, values not seen yet.

    Args:
        rows: All candidates.
        untried: Numbers to choose from.
        best: Numbers of the best measured candidates, best first.
    """
    near = [i for b in best for i in untried if _distance(rows[i], rows[b]) == 1]
    chosen = dict.fromkeys(near[: SHORTLIST_LENGTH // 2])
    chosen |= dict.fromkeys(_spread(untried, SHORTLIST_LENGTH // 4))
    seen = {cell for i in [*chosen, *best] for cell in enumerate(rows[i])}
    for i in untried:
        if not seen.issuperset(cells := set(enumerate(rows[i]))):
            chosen[i] = None
            seen |= cells
    chosen |= dict.fromkeys(_spread(untried, SHORTLIST_LENGTH))
    return tuple(list(chosen)[:SHORTLIST_LENGTH])


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """Some of the numbers, by the golden ratio: a fixed step would meet the same values of a product over and over."""
    return [numbers[int(k * _GOLDEN % 1 * len(numbers))] for k in range(count)] if numbers else []


def _distance(one: Row, other: Row) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def ranges(numbers: Sequence[int]) -> str:
    """`0-4, 7, 9-12`: sorted numbers, short."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
