"""Which enumerated candidate an object of a reply names, by number or by its parameters.

What the model wrote is only ever compared with the texts of candidates; an index comes out, or a sentence on what is
wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from haqa_contract import Configuration, Scalar
from haqa_operator.agent.candidates import Catalogue, open_numbers, ranges
from haqa_operator.agent.faults import Fault, Problem
from haqa_operator.agent.quoting import ABSENT, labelled, prompt_line, quoted, value_text
from haqa_operator.search.space import SearchSpace

_NUMBER = re.compile(r"^\s*(?:candidate\s*)?#?\s*(\d{1,9})\s*$", re.IGNORECASE)
_BESIDE_PARAMETERS = frozenset(
    {"candidate", "parameters", "reasoning", "expected_percent", "chance", "choices", "candidates", "stop", "rank"}
)
"""What a flat object may say beside the values of parameters."""


def named_candidate(
    answer: Mapping[str, Any], space: SearchSpace, catalogue: Catalogue, tried: Collection[Configuration]
) -> int | Problem:
    """Number of an open candidate."""
    picked = _pick(answer, space, catalogue, tried)
    if isinstance(picked, Problem):
        return picked
    configuration = space.candidates[picked]
    if configuration in tried:
        left = ranges(open_numbers(space, tried))
        return Problem(
            Fault.DUPLICATE, f"candidate {picked} has been measured already; choose one that has not: {left}"
        )
    if configuration in space.closed:
        return Problem(Fault.INFEASIBLE, f"candidate {picked} is ruled out: {quoted(space.closed[configuration])}")
    return picked


def _pick(
    answer: Mapping[str, Any], space: SearchSpace, catalogue: Catalogue, tried: Collection[Configuration]
) -> int | Problem:
    """Number of the candidate that is meant; it may have been tried already."""
    number = answer.get("candidate")
    parameters = answer.get("parameters")
    if number is None and parameters is None:
        parameters = {name: value for name, value in answer.items() if name not in _BESIDE_PARAMETERS} or None
    if number is None and parameters is None:
        return Problem(Fault.MALFORMED, "the reply names no candidate; give its number in `candidate`")
    by_number = None if number is None else _by_number(number, catalogue)
    if isinstance(by_number, Problem) or parameters is None or parameters == {}:
        return by_number if by_number is not None else Problem(Fault.MALFORMED, "`parameters` is empty")
    by_parameters = _by_parameters(parameters, space, catalogue, tried)
    if by_number is None or isinstance(by_parameters, Problem) or by_number == by_parameters:
        return by_parameters
    return Problem(
        Fault.NOT_A_CANDIDATE, f"`candidate` {by_number} and `parameters` name different configurations; give only one"
    )


def _by_number(number: Any, catalogue: Catalogue) -> int | Problem:
    index: int | None = None
    if isinstance(number, str) and (match := _NUMBER.match(number)):
        index = int(match[1])
    elif isinstance(number, float) and number.is_integer():
        index = int(number)
    elif isinstance(number, int) and not isinstance(number, bool):
        index = number
    if index is None:
        return Problem(Fault.MALFORMED, f"`candidate` is {_shown(number)}, not the number of a candidate")
    if not 0 <= index < len(catalogue.rows):
        last = len(catalogue.rows) - 1
        return Problem(
            Fault.NOT_A_CANDIDATE, f"candidate {_shown(number)} does not exist; they are numbered 0 to {last}"
        )
    return index


def _by_parameters(
    parameters: Any, space: SearchSpace, catalogue: Catalogue, tried: Collection[Configuration]
) -> int | Problem:
    if not isinstance(parameters, dict):
        return Problem(Fault.MALFORMED, f"`parameters` is {_shown(parameters)}, not an object of names and values")
    known = {*catalogue.names, *dict(catalogue.shared)}
    unknown = next((name for name in parameters if prompt_line(name) not in known), None)
    if unknown is not None:
        return Problem(Fault.UNKNOWN_PARAMETER, f"{quoted(unknown, 60)} is not a parameter; there are {_names(known)}")
    wrong = next((name for name, value in parameters.items() if not _scalar(value)), None)
    if wrong is not None:
        return Problem(
            Fault.MALFORMED, f"parameter {prompt_line(wrong)} is {_shown(parameters[wrong])}, not one of its values"
        )
    given = labelled(parameters)
    matches = _matches(given, space, catalogue, tried)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        return _no_match(given, space, catalogue)
    missing = _names(set(catalogue.names) - given.keys())
    return Problem(
        Fault.NOT_A_CANDIDATE, f"{len(matches)} candidates have these parameters; give {missing} too, or a number"
    )


def _matches(
    given: Mapping[str, str], space: SearchSpace, catalogue: Catalogue, tried: Collection[Configuration]
) -> list[int]:
    """Candidates with exactly these values, parameters not given being absent; else all that have these at least.

    Of several that read the same (a table may hold 1 and "1") the first untried one stands for all.
    """
    shared = dict(catalogue.shared)
    if any(shared[name] != text for name, text in given.items() if name in shared):
        return []
    wanted = tuple(given.get(name, ABSENT) for name in catalogue.names)
    exact = [i for i, row in enumerate(catalogue.rows) if row == wanted]
    if exact:
        return [next((i for i in exact if space.candidates[i] not in tried), exact[0])]
    some = [(axis, given[name]) for axis, name in enumerate(catalogue.names) if name in given]
    return [i for i, row in enumerate(catalogue.rows) if all(row[axis] == text for axis, text in some)]


def _no_match(given: Mapping[str, str], space: SearchSpace, catalogue: Catalogue) -> Problem:
    """The most telling reason why no candidate has these parameters."""
    baseline = labelled(space.baseline.parameters)
    if all(baseline.get(name, ABSENT) == text for name, text in given.items()):
        return Problem(Fault.DUPLICATE, "these parameters are the baseline, which has been measured")
    for exclusion in space.exclusions:
        common = labelled(exclusion.parameters)
        if common and all(given.get(name) == text for name, text in common.items()):
            return Problem(Fault.INFEASIBLE, f"ruled out on this hardware: {quoted(exclusion.reason)}")
    values = {name: {row[axis] for row in catalogue.rows} for axis, name in enumerate(catalogue.names)}
    values |= {name: {text} for name, text in catalogue.shared}
    for name, text in given.items():
        if text not in values[name]:
            allowed = ", ".join(sorted(values[name])[:20])
            return Problem(Fault.NOT_A_CANDIDATE, f"{name} {quoted(text)} does not exist; it is one of {allowed}")
    return Problem(
        Fault.NOT_A_CANDIDATE,
        "each of these values exists but not this combination; take one of the combinations that are listed",
    )


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, Scalar)


def _shown(value: Any) -> str:
    """A value from a reply, short; of lists and objects only their kind, since they may nest without end."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > 10**12:
        return "a number out of range"
    return quoted(value, 60) if isinstance(value, str) else value_text(value)


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:30])
