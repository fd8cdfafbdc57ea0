"""What the operator says of a tuning that asks for more than the policy allows: a sentence for each field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from haqa_operator.api.tuning import QuantizationTuning
from haqa_operator.cluster.policy.model import Policy
from haqa_operator.cluster.policy.paths import Found, found
from haqa_operator.cluster.policy.rules import PLAIN, RULES, AtMost, Condition, Listed, Rule, Switched

NOTHING: Final = r"[^\s\S]"
"""The regular expression of an empty list."""
DOTS: Final = r'(^|[/"]|%2[fF])([.]|%2[eE])([.]|%2[eE])([/"]|%2[fF]|$)'
"""`..` between slashes, written in any way, leads out of what an entry names."""


def policy_problems(tuning: QuantizationTuning, policy: Policy) -> list[str]:
    """What the tuning may not ask for, each with its value, what may be and the chart's value that opens it."""
    return manifest_problems(tuning.model_dump(mode="json", by_alias=True, exclude_unset=True), policy)


def manifest_problems(manifest: Mapping[str, Any], policy: Policy) -> list[str]:
    """The same of a tuning as somebody has written it."""
    values = policy.values
    return [sentence for rule in RULES if _counts(rule, manifest) for sentence in _broken(rule, manifest, values)]


def alternatives(entries: Sequence[str | int]) -> str:
    """Entries of a policy's list as one regular expression, without anchors."""
    return "|".join(_expression(str(entry)) for entry in entries) or NOTHING


def shown(entries: Sequence[str | int]) -> str:
    return ", ".join(map(str, entries)) or "none"


def _expression(glob: str) -> str:
    literal = glob.replace(".", "[.]").replace("+", "[+]")
    # Nothing that a star stands for ends a string of JSON.
    return literal.replace("**", "\0").replace("*", r'[^/"\\]*').replace("\0", r'[^"\\\n]*')


def _counts(rule: Rule, manifest: Mapping[str, Any]) -> bool:
    condition: Condition | None = getattr(rule, "when", None)
    return condition is None or any(one.value not in (None, False) for one in found(manifest, condition.path))


def _broken(rule: Rule, manifest: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for one in found(manifest, rule.path):
        match rule:
            case Listed():
                yield from _unlisted(rule, one, values)
            case Switched(value):
                if one.value is True and not values[value]:
                    yield f"{one.where}: true is not allowed; policy.{value} of the chart opens it"
            case AtMost():
                yield from _too_many(rule, one, values[rule.value])


def _unlisted(rule: Listed, one: Found, values: Mapping[str, Any]) -> Iterator[str]:
    value = "" if one.value is None else f"{rule.prefix}{one.value}"
    if one.value is None and rule.absent is None:
        return
    if rule.only is not None and not re.fullmatch(rule.only, value):
        return
    if rule.unless is not None and values[rule.unless]:
        return
    if rule.words and not isinstance(one.value, str):
        return
    entries = values[rule.value]
    listed = alternatives(entries)
    holds = _worded(value, listed) if rule.words else re.fullmatch(f"({listed}){rule.ending}", value)
    if holds and not _leads_out(value):
        return
    given = rule.absent if one.value is None else value
    allowed = f"allowed{' beside words and numbers' if rule.words else ''}: {shown(entries)}"
    yield f"{one.where}: {given} is not allowed; {allowed}; policy.{rule.value} of the chart opens more"


def _leads_out(value: str) -> bool:
    return re.search(DOTS.replace("$", r"\Z"), value) is not None


def _worded(value: str, listed: str) -> bool:
    """As `worded` has it, by its parts: in one expression Python would try all ways in which words may be entries."""
    if re.fullmatch(listed, value):
        return True
    outside, strings = value.split('"')[::2], value.split('"')[1::2]
    plain = len(outside) > len(strings) and all(re.fullmatch(PLAIN, part) for part in outside)
    return plain and all(re.fullmatch(f"{PLAIN}|{listed}", string) for string in strings)


def _too_many(rule: AtMost, one: Found, most: float) -> Iterator[str]:
    value = rule.default if one.value is None else one.value
    if not most or (value is not None and value <= most):
        return
    given = "nothing" if value is None else f"{value:g}"
    yield f"{one.where}: {given} is not allowed; at most {most:g}; policy.{rule.value} of the chart raises it"
