"""The policy's rules as the API server checks them: validations of a ValidatingAdmissionPolicy, in CEL.

The chart puts its values in as variables of the policy: of a list its entries as a regular expression, and as text
under the same name with `Shown`.
"""

from __future__ import annotations

import json
from typing import Final

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.policy.paths import Ending, Step, steps
from haqa_operator.cluster.policy.problems import DOTS
from haqa_operator.cluster.policy.rules import RULES, AtMost, Condition, Listed, Rule, Switched, worded

_ROOT: Final = "object"
_LIST: Final = "\0"
"""Stands for the variable that has a list's regular expression."""


def validations() -> list[Manifest]:
    """One for each rule. The message is for values that have no place in one, of several lines for instance."""
    return [
        {
            "expression": _expression(rule),
            "messageExpression": _message(rule),
            "message": f"{rule.path} is not what policy.{rule.value} of the chart allows",
        }
        for rule in RULES
    ]


def _expression(rule: Rule) -> str:
    match rule:
        case Listed():
            holds = _every(_ROOT, steps(rule.path), rule)
            if rule.unless is not None:
                holds = f"variables.{rule.unless} != '' || {holds}"
        case Switched(value, path):
            holds = f"variables.{value} || !{_field(path)}.orValue(false)"
        case AtMost():
            holds = f"variables.{rule.value} == 0 || {_at_most(rule)}"
    condition: Condition | None = getattr(rule, "when", None)
    if condition is None:
        return holds
    there = _field(condition.path)
    return f"!({there}.hasValue() && {there}.value() != false) || {holds}"


def _message(rule: Rule) -> str:
    opened = f"policy.{rule.value} of the chart"
    match rule:
        case Listed():
            return _first_broken(_ROOT, steps(rule.path), rule, "")
        case Switched(_, path):
            return _text(f"{path}: true is not allowed; {opened} opens it")
        case AtMost(value, path, default):
            field = _field(path)
            given = f"{field}.optMap(v, string(v)).orValue({_text('nothing' if default is None else str(default))})"
            limit = f"string(variables.{value})"
            parts = (
                _text(f"{path}: "),
                given,
                _text(" is not allowed; at most "),
                limit,
                _text(f"; {opened} raises it"),
            )
            return " + ".join(parts)


def _field(path: str) -> str:
    (step,) = steps(path)
    return _optional(_ROOT, step)


def _optional(value: str, step: Step) -> str:
    return value + "".join(f".?{name}" for name in step.names)


def _variable(path: tuple[Step, ...]) -> str:
    return f"x{len(path)}"


def _entries(value: str, step: Step) -> str:
    if not step.names:
        return value
    return f"{_optional(value, step)}.orValue({'[]' if step.ending is Ending.LIST else '{}'})"


def _entry(value: str, path: tuple[Step, ...]) -> str:
    """One of `_entries`: of a map's values the one with this key."""
    key = _variable(path)
    return f"{_entries(value, path[0])}[{key}]" if path[0].ending is Ending.VALUES else key


def _every(value: str, path: tuple[Step, ...], rule: Listed) -> str:
    """Whether every value below is as the rule has it."""
    if not path:
        return _worded(value, rule) if rule.words else _listed(value, rule)
    step, rest = path[0], path[1:]
    if step.ending is Ending.VALUE:
        if rule.absent is not None:
            return f"[{_optional(value, step)}.orValue('')].all(v, {_listed('v', rule)})"
        return f"{_optional(value, step)}.optMap(v, {_listed('v', rule)}).orValue(true)"
    return f"{_entries(value, step)}.all({_variable(path)}, {_every(_entry(value, path), rest, rule)})"


def _listed(value: str, rule: Listed) -> str:
    text = _value(value, rule)
    holds = f"{text}.matches('^(' + variables.{rule.value} + '){rule.ending}$') && !{text}.matches({_text(DOTS)})"
    return f"(!{text}.matches({_text(f'^({rule.only})$')}) || {holds})" if rule.only is not None else f"({holds})"


def _worded(value: str, rule: Listed) -> str:
    parts = f"^({worded(_LIST)})$".split(_LIST)
    pattern = f" + variables.{rule.value} + ".join(map(_text, parts))
    return f"(type({value}) != string || {value}.matches({pattern}) && !{value}.matches({_text(DOTS)}))"


def _value(value: str, rule: Listed) -> str:
    if rule.words:  # only texts are looked at
        return value
    return f"({_text(rule.prefix)} + string({value}))" if rule.prefix else f"string({value})"


def _first_broken(value: str, path: tuple[Step, ...], rule: Listed, where: str) -> str:
    """The sentence about the first value below that is not as the rule has it.

    Args:
        where: What has been walked, as CEL; empty = nothing yet.
    """
    if not path:
        return _sentence(where, _value(value, rule), rule)
    step, rest = path[0], path[1:]
    here = ".".join(step.names)
    where = f"{where} + {_text(f'.{here}')}" if where and here else where or _text(here)
    if step.ending is Ending.VALUE:
        there = _optional(value, step)
        text = f"{there}.orValue({_text(rule.absent)})" if rule.absent is not None else f"{there}.value()"
        return _sentence(where, _value(text, rule), rule)
    entry = _variable(path)
    if step.ending is Ending.VALUES:
        where = f"{where} + '.' + {entry}"
    elif rest:
        name = f" + {entry}.{step.named_by}" if step.named_by else ""
        where = f"{where} + '['{name} + ']'"
    inner = _entry(value, path)
    broken = f"{_entries(value, step)}.filter({entry}, !({_every(inner, rest, rule)}))"
    return f"{broken}.map({entry}, {_first_broken(inner, rest, rule, where)})[0]"


def _sentence(where: str, value: str, rule: Listed) -> str:
    allowed = _text(f" is not allowed; allowed{' beside words and numbers' if rule.words else ''}: ")
    opened = _text(f"; policy.{rule.value} of the chart opens more")
    return f"{where} + ': ' + {value} + {allowed} + variables.{rule.value}Shown + {opened}"


def _at_most(rule: AtMost) -> str:
    field = _field(rule.path)
    if rule.default is None:
        return f"{field}.optMap(v, v <= variables.{rule.value}).orValue(false)"
    return f"{field}.orValue({rule.default}) <= variables.{rule.value}"


def _text(text: str | None) -> str:
    return "'" + json.dumps(text or "")[1:-1].replace("'", "\\'") + "'"
