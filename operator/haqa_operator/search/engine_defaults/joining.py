"""How the default settings are crossed, with each other and with the formats, within the size of a space.

Settings of high rank (`crossed`) take all their values with all values of each other. The rest deviate from vLLM's
defaults one or two at a time: settings of low expected gain seldom depend on each other. Where even that is too much,
fewer deviate at a time, then fewer are crossed, and at last the lowest in rank are left out, with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod

from haqa_contract import Scalar
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults import DEFAULT_SETTINGS
from haqa_operator.search.engine_defaults.settings import Value, bare

Items = tuple[tuple[str, Scalar], ...]

_AT_ONCE = 2


@dataclass(frozen=True)
class Offer:
    """The values of one default setting that one quantization may take, vLLM's own not counted."""

    setting: str
    values: tuple[Value, ...]
    crossed: bool


@dataclass(frozen=True)
class Deviation:
    """Default settings that one candidate has.

    Attributes:
        items: Names and values, sorted.
        factor: What they should bring together; `expected_factor` of a configuration that has them and nothing else.
    """

    items: Items
    factor: float


@dataclass(frozen=True)
class Plan:
    """How much of the default space there is room for.

    Attributes:
        crossed: Settings all of whose values are crossed.
        at_once: How many of the others deviate at a time.
        left_out: Settings there is no room for, the highest rank first.
    """

    crossed: frozenset[str]
    at_once: int
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        if not self.left_out:
            return None
        return (
            f"no room among the candidates for the default settings {', '.join(self.left_out)}; name fewer settings, "
            "values or schemes under search, or name these in search.engine"
        )


def offers(case: Case, named: Collection[str]) -> tuple[Offer, ...]:
    """What the tables have for a quantization, the highest rank first.

    Args:
        case: The quantization with the settings that every trial has.
        named: Settings that the tuning or the pool's environment gives.
    """
    found = (
        Offer(setting.name, setting.offered(case, named), setting.crossed)
        for setting in DEFAULT_SETTINGS[case.accelerator.platform]
    )
    return tuple(offer for offer in found if offer.values)


def plan(of_all: Sequence[Sequence[Offer]], others: int, limit: int) -> Plan:
    """As much of the default space as fits.

    Args:
        of_all: The offers of every quantization.
        others: Combinations that each of them is multiplied with, the user's own.
        limit: Candidates at most.
    """
    ranked = list(dict.fromkeys(offer.setting for each in of_all for offer in each))
    ranked.sort(key=lambda name: max(_rank(each, name) for each in of_all))
    first = {offer.setting for each in of_all for offer in each if offer.crossed}
    for tried in _plans(ranked, [name for name in ranked if name in first]):
        if others * sum(_count(each, tried) for each in of_all) <= limit:
            return tried
    return Plan(frozenset(), 0, tuple(ranked))


def _rank(each: Sequence[Offer], name: str) -> int:
    return next((rank for rank, offer in enumerate(each) if offer.setting == name), -1)


def _plans(ranked: Sequence[str], first: Sequence[str]) -> Iterator[Plan]:
    """From the whole default space down to a single setting."""
    yield Plan(frozenset(first), _AT_ONCE)
    for crossed in range(len(first), -1, -1):
        yield Plan(frozenset(first[:crossed]), 1)
    for kept in range(len(ranked) - 1, -1, -1):
        yield Plan(frozenset(), 1, tuple(ranked[kept:]))


def _count(each: Sequence[Offer], tried: Plan) -> int:
    crossed = prod(1 + len(o.values) for o in each if o.setting in tried.crossed)
    return crossed * (1 + _chosen([len(o.values) for o in _deviating(each, tried)], tried.at_once)) + 1


def _chosen(sizes: Sequence[int], at_once: int) -> int:
    """Ways to give 1 to `at_once` settings a value."""
    return sum(prod(chosen) for n in range(1, at_once + 1) for chosen in combinations(sizes, n))


def _deviating(each: Sequence[Offer], tried: Plan) -> list[Offer]:
    return [offer for offer in each if offer.setting not in tried.crossed and offer.setting not in tried.left_out]


class Deviations:
    """The combinations of default settings of one quantization."""

    def __init__(self, case: Case, each: Sequence[Offer], tried: Plan) -> None:
        self._case, self._each = case, each
        alone = bare(case)
        self._factors = {value: value.expected(alone) for offer in each for value in offer.values}
        self.all: tuple[Deviation, ...] = tuple(self._combined(tried))
        """What there is room for, vLLM's defaults first."""

    def recipe(self, runs: Callable[[Items], bool]) -> Deviation | None:
        """The values that go first, one of a setting; the lowest in rank gives way where they do not run together.

        Args:
            runs: Whether a configuration with these settings may run.
        """
        chosen = [next((v for v in offer.values if v.in_recipe(self._case)), None) for offer in self._each]
        values = [value for value in chosen if value is not None]
        while values and not runs(_items(values)):
            values.pop()
        return self._deviation(values) if values else None

    def _combined(self, tried: Plan) -> Iterator[Deviation]:
        crossed = [
            ((), *((value,) for value in offer.values)) for offer in self._each if offer.setting in tried.crossed
        ]
        few: list[tuple[Value, ...]] = [
            values
            for n in range(tried.at_once + 1)
            for chosen in combinations(_deviating(self._each, tried), n)
            for values in product(*(offer.values for offer in chosen))
        ]
        for core in product(*crossed):
            values = tuple(value for part in core for value in part)
            for more in few:
                yield self._deviation((*values, *more))

    def _deviation(self, values: Sequence[Value]) -> Deviation:
        return Deviation(_items(values), prod(self._factors[value] for value in values))


def _items(values: Sequence[Value]) -> Items:
    return tuple(sorted(item for value in values for item in value.items))
