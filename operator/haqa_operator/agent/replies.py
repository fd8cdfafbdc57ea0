"""From whatever a language model wrote to enumerated candidates, or to a sentence on what was wrong with it.

Pure, total and suspicious: for any text it returns a `Reply` whose configurations are open members of the space or a
`Problem`, and raises nothing. What the model wrote is only ever compared with the texts of candidates. Its reasoning
is kept as plain text and goes nowhere but into records.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haqa_contract import Configuration
from haqa_operator.agent.answers import answer_of
from haqa_operator.agent.candidates import Catalogue
from haqa_operator.agent.faults import Fault, Problem
from haqa_operator.agent.picks import named_candidate
from haqa_operator.agent.quoting import plain
from haqa_operator.search.space import SearchSpace

MAX_CHOICES = 4
MAX_REASONING_CHARS = 1500
MAX_EXPECTED_PERCENT = 10_000
STOP_WITHOUT_A_WORD = "nothing that is left can win"
_MAX_NAMED = 50
"""Entries of a list that are looked at."""


@dataclass(frozen=True)
class Choice:
    """An open candidate and why.

    Attributes:
        expected_percent: The objective that the model expects, in percent of the baseline's.
        chance: From 0 to 1: that it meets all limits, by the model's account.
    """

    configuration: Configuration
    reasoning: str = ""
    expected_percent: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Reply:
    """What a model advises: at least one choice, or a reason to stop, or both.

    Attributes:
        choices: Up to `MAX_CHOICES` different candidates, best first.
        stop: Why nothing left can win, in the model's words; None where it does not say so.
        dropped: What else it named, each with what is wrong with it.
    """

    choices: tuple[Choice, ...]
    stop: str | None = None
    dropped: tuple[str, ...] = ()


def parse_reply(text: str, space: SearchSpace, tried: Collection[Configuration]) -> Reply | Problem:
    """The candidates that a reply names by number or by their parameters, or its wish to stop.

    Of a list, what cannot be used is dropped as long as one entry can.
    """
    answer = answer_of(text)
    if isinstance(answer, Problem):
        return answer
    stop = _stop(answer)
    catalogue = Catalogue.of(space)
    chosen: dict[int, Choice] = {}
    problems: list[Problem] = []
    for named in _named(answer)[:_MAX_NAMED]:
        picked = named_candidate(named, space, catalogue, tried)
        if isinstance(picked, Problem):
            problems.append(picked)
        elif picked in chosen:
            problems.append(Problem(Fault.DUPLICATE, f"candidate {picked} is named twice"))
        else:
            reasoning = _reasoning(named) or _reasoning(answer)
            chosen[picked] = Choice(space.candidates[picked], reasoning, _percent(named), _chance(named))
    if not chosen and stop is None:
        return problems[0] if problems else Problem(Fault.MALFORMED, "`choices` is empty; name at least one candidate")
    best = tuple(chosen.values())[:MAX_CHOICES]
    return Reply(best, stop, tuple(problem.sentence for problem in problems))


def _named(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The entries that should each name a candidate; of the answer itself where it has no list."""
    listed = answer.get("choices", answer.get("candidates"))
    if isinstance(listed, dict):
        listed = [listed]
    if isinstance(listed, list):
        return [entry if isinstance(entry, dict) else {"candidate": entry} for entry in listed]
    names_none = answer.get("candidate") is None and answer.get("parameters") is None
    return () if names_none and _stop(answer) is not None else (answer,)


def _stop(answer: Mapping[str, Any]) -> str | None:
    """Why the model would stop, where it says so by `true` or in a sentence."""
    value = answer.get("stop")
    said = plain(value, MAX_REASONING_CHARS) if isinstance(value, str) else ""
    if said.lower() in ("", "false", "no", "none", "null") and value is not True:
        return None
    because = said if said.lower() not in ("true", "yes") else ""
    return because or _reasoning(answer) or STOP_WITHOUT_A_WORD


def _reasoning(answer: Mapping[str, Any]) -> str:
    reasoning = answer.get("reasoning")
    return plain(reasoning, MAX_REASONING_CHARS, keep_newlines=True) if isinstance(reasoning, str) else ""


def _percent(answer: Mapping[str, Any]) -> float | None:
    value = _number(answer.get("expected_percent"))
    return value if value is not None and 0 < value <= MAX_EXPECTED_PERCENT else None


def _chance(answer: Mapping[str, Any]) -> float | None:
    """Asked for in percent; a fraction such as 0.8 is taken for what it is."""
    given = answer.get("chance")
    value = _number(given)
    if value is None or not 0 <= value <= 100:
        return None
    return value if isinstance(given, float) and value <= 1 else value / 100


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
