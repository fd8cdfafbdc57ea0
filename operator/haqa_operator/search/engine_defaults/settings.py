"""What a default setting is: the values to consider, where they apply, what they should bring, and why.

The tables of this package hold nothing that vLLM does by itself, and nothing that has to be known of one machine (core
numbers, paths). What a value applies to and what it should bring depends on the device, the model, the scheme, the
workload and vLLM's release, and never on other engine settings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from haqa_contract import Scalar
from haqa_contract.statistics import geometric_mean
from haqa_operator.hardware.accelerators import Platform
from haqa_operator.search.cases import Case
from haqa_operator.serving.settings import why_not_taken
from haqa_operator.serving.versions import Version

When = Callable[[Case], bool]
Factor = float | Callable[[Case], float]

READ_IN: Version = (0, 32, 0)
"""The release whose source the tables were read in: what is not known to be in earlier ones is offered from here on."""


def always(_: Case) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Value:
    """One value to consider, beside what vLLM does by itself.

    Attributes:
        settings: What is written down; several names where they mean something together only.
        factor: Expected output tokens/s against leaving it out, all else equal, geometric mean over the workload's
            levels. What `prior` computes itself (bytes of weights and KV cache, sequences that fit) is not in it.
        when: Whether it applies, beside what its setting asks for.
        recipe: Whether it is part of the configuration that goes first: that of vLLM's own recipes, or what was
            measured to help most.
    """

    settings: Mapping[str, Scalar]
    factor: Factor = 1.0
    when: When = always
    recipe: When | bool = False

    def expected(self, case: Case) -> float:
        """The factor in a case that is `bare`."""
        return self.factor if isinstance(self.factor, (int, float)) else self.factor(case)

    def in_recipe(self, case: Case) -> bool:
        return self.recipe if isinstance(self.recipe, bool) else self.recipe(case)

    @cached_property
    def items(self) -> tuple[tuple[str, Scalar], ...]:
        return tuple(sorted(self.settings.items()))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.items)


Values = tuple[Value, ...]


@dataclass(frozen=True)
class DefaultSetting:
    """A setting that HAQA considers where a tuning does not name it. Its rank is its place in its platform's table.

    Attributes:
        name: Of the setting, or what several settings are about together.
        values: The values; a function of the case where they depend on it.
        reason: Why it is worth trying, in a sentence.
        source: Where that is from.
        applies: `when` in words.
        shown: `values` in words, where they depend on the case.
        crossed: All its values are tried with all values of the other crossed settings; the rest deviate from vLLM's
            defaults one or two at a time.
        since, until: vLLM's first release that has it, and the first for which it says nothing any more.
        related: Names that leave it without effect, or without sense, where the tuning sets them.
    """

    name: str
    values: Values | Callable[[Case], Values]
    reason: str
    source: str
    when: When = always
    applies: str = "always"
    shown: str = ""
    crossed: bool = False
    since: Version = READ_IN
    until: Version | None = None
    related: frozenset[str] = field(default=frozenset())

    def values_for(self, case: Case) -> Values:
        return self.values if isinstance(self.values, tuple) else self.values(case)

    def offered(self, case: Case, named: Collection[str]) -> Values:
        """The values to consider in a case.

        Args:
            named: Settings that the tuning or the pool's environment gives; they are the user's business.
        """
        version = case.engine_version
        if version < self.since or (self.until is not None and version >= self.until):
            return ()
        if self.related & set(named) or not self.when(case):
            return ()
        return tuple(
            value
            for value in self.values_for(case)
            if not set(value.settings) & set(named) and value.when(case) and _are_taken(value, version)
        )


def _are_taken(value: Value, version: Version) -> bool:
    return all(why_not_taken(name, given, version) is None for name, given in value.items)


def bare(case: Case) -> Case:
    """The case without engine settings, none of which decides what another should bring."""
    return replace(case, configuration=case.configuration.model_copy(update={"engine": ()}))


# What tables ask of a case.


def most(case: Case) -> int:
    """The highest measured level of concurrency."""
    return max(case.workload.concurrency)


def usual(case: Case) -> float:
    """The geometric mean of the measured levels."""
    levels = case.workload.concurrency
    return geometric_mean(levels)


def capability(case: Case) -> tuple[int, int]:
    """NVIDIA's compute capability; (0, 0) where it is not known, which no table asks for."""
    return case.accelerator.compute_capability or (0, 0)


def is_current(case: Case) -> bool:
    """Whether the engine is one that the tables were read in, or later."""
    return case.engine_version >= READ_IN


def has_experts(case: Case) -> bool:
    return case.model is not None and case.model.facts.experts > 1


def all_attention(case: Case) -> bool:
    """Plain attention in all layers: neither state-space layers nor a latent KV cache."""
    return case.model is not None and case.model.is_plain_attention


def on(*platforms: Platform) -> When:
    return lambda case: case.accelerator.platform in platforms
