"""From a reply's text to the one JSON object in it that is the answer.

Models draft, correct themselves, give examples, call tools that nobody offered and wrap their answer in prose, fences
and tags. What they thought does not count. Of the objects that are left, the one that stands for itself beats one in
the middle of a sentence, one announced as final beats both, one announced as a draft or an example loses, and of equals
the last wins: a model that goes on after an answer corrects it. The cases are a table in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from haqa_operator.agent.faults import Fault, Problem
from haqa_operator.agent.quoting import quoted
from haqa_operator.agent.thoughts import Boundary, Mark, boundaries

MAX_REPLY_CHARS = 200_000
_MAX_FAILED_PARSES = 300
"""Opening braces in prose that are given up after: each costs a parse…"""
_LAST_BRACES = 50
"""…but the last ones are always looked at."""

_CHOOSING = ("choices", "candidates", "candidate", "stop")
_SINGULAR = ("candidate", "parameters")
_TELLING = frozenset({*_CHOOSING, "parameters", "reasoning", "expected_percent", "chance"})
_WRAPPERS = (
    "arguments",
    "parameters",
    "input",
    "answer",
    "final_answer",
    "response",
    "result",
    "output",
    "next_trial",
    "function",
    "function_call",
    "tool_calls",
)
"""Names under which tool calls and obliging models put the object that was asked for."""
_WRAPPED_DEPTH = 8

_FINAL = re.compile(r"(?i)final|answer|choice|choose|decision|correct|actual|better|revis|instead:|go with|pick|submit")
_DRAFT = re.compile(
    r"(?i)draft|example|e\.g\.|for instance|alternativ|previous|earlier|reject|format|schema|would (?:be|have)|runner"
    r"|(?:over|than|not|instead of|versus|vs\.?|unlike|except|of|without)\s*$"
)
_FENCE = re.compile(r"^\s*(?:```|~~~)\s*\w*\s*$")
_TAGS_AND_FENCES = re.compile(r"<[^<>\n]{1,40}>|\[/\w+\]|```(?:json)?|[\s`*.,;\]]+")


@dataclass(frozen=True)
class _Found:
    """An object and where it stands in the text."""

    value: dict[str, Any]
    start: int
    end: int


def answer_of(text: str) -> dict[str, Any] | Problem:
    """The object that a reply answers with."""
    if len(text) > MAX_REPLY_CHARS:
        return Problem(
            Fault.TOO_LONG, f"the reply has {len(text)} characters, more than {MAX_REPLY_CHARS}; reply with one object"
        )
    objects = _objects(text)
    if not objects and (whole := _string(text)) is not None:
        text, objects = whole, _objects(whole)
    marks = [mark for mark in boundaries(text) if not any(one.start < mark.start < one.end for one in objects)]
    said = _outside_of_thoughts(text, objects, marks)
    if said:
        return _best(text, _listed(text, said))
    rest = text[marks[-1].end :] if marks else text
    if not rest.strip() or (marks and marks[-1].mark is Mark.OPEN):
        nothing = "nothing but thoughts" if marks else "empty"
        return Problem(Fault.EMPTY, f"the reply is {nothing}; reply with one JSON object")
    return Problem(Fault.MALFORMED, f"no complete JSON object in the reply, which begins {quoted(rest, 120)}")


def _string(text: str) -> str | None:
    """What a reply says that is one JSON string as a whole."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _objects(text: str) -> list[_Found]:
    """All complete objects that are in no other one."""
    found: list[_Found] = []
    failures = 0
    position = text.find("{")
    while position >= 0:
        one = _decoded(text, position)
        if one is not None:
            found.append(one)
        else:
            failures += 1
        end = position + 1 if one is None else one.end
        if failures == _MAX_FAILED_PARSES and one is None:
            end = max(end, _nth_last_brace(text))
        if failures > _MAX_FAILED_PARSES + _LAST_BRACES:
            break
        position = text.find("{", end)
    return found


def _outside_of_thoughts(text: str, objects: Sequence[_Found], marks: Sequence[Boundary]) -> list[_Found]:
    """The objects that no thought holds; where there is none, the one that the whole text ends with.

    An end without a beginning makes a thought of all before it: some chat templates open it in the prompt.
    """
    said: list[_Found] = []
    thinking = False
    events: list[_Found | Boundary] = [*objects, *marks]
    for event in sorted(events, key=lambda one: one.start):
        if isinstance(event, _Found):
            if not thinking:
                said.append(event)
        elif event.mark is Mark.OPEN:
            thinking = True
        else:
            if event.mark is Mark.CLOSE and not thinking:
                said.clear()
            thinking = False
    if said or not objects or _bare(text[objects[-1].end :]):
        return said
    return [objects[-1]]


def _decoded(text: str, start: int) -> _Found | None:
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):  # ValueError: also an integer of more digits than Python converts
        return None
    return _Found(value, start, end)


def _nth_last_brace(text: str) -> int:
    position = len(text)
    for _ in range(_LAST_BRACES):
        position = text.rfind("{", 0, position)
    return position


def _bare(text: str) -> str:
    """What is left of a text without tags, fences, blanks and the ends of sentences."""
    return _TAGS_AND_FENCES.sub("", text)


def _listed(text: str, objects: Sequence[_Found]) -> list[_Found]:
    """With objects one after the other, each naming one candidate, made one list: `{…}, {…}`, also of a broken list."""
    runs: list[list[_Found]] = []
    for one in objects:
        if runs and _singular(runs[-1][-1]) and _singular(one) and not text[runs[-1][-1].end : one.start].strip(" \n,"):
            runs[-1].append(one)
        else:
            runs.append([one])
    return [
        run[0] if len(run) == 1 else _Found({"choices": [one.value for one in run]}, run[0].start, run[-1].end)
        for run in runs
    ]


def _singular(found: _Found) -> bool:
    return any(name in found.value for name in _SINGULAR) and "choices" not in found.value


def _best(text: str, objects: Sequence[_Found]) -> dict[str, Any]:
    answers = [(one, inner) for one in objects if (inner := _inner(one.value, _WRAPPED_DEPTH)) is not None]
    if not answers:
        answers = [(one, one.value) for one in objects if _TELLING & one.value.keys()]
    if not answers:
        return objects[0].value
    return max(enumerate(answers), key=lambda item: (_standing(text, item[1][0]), item[0]))[1][1]


def _inner(value: Any, depth: int) -> dict[str, Any] | None:
    """The object that names candidates, or says stop, inside of what tool calls and the like put around it."""
    if depth == 0:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return None
        return None if isinstance(value, str) else _inner(value, depth - 1)
    if isinstance(value, list):
        return _inner(value[0], depth - 1) if len(value) == 1 else None
    if not isinstance(value, dict):
        return None
    if any(name in value for name in _CHOOSING):
        return value
    wrapped = (_inner(value[name], depth - 1) for name in _WRAPPERS if isinstance(value.get(name), str | list | dict))
    found = next((inner for inner in wrapped if inner is not None), None)
    return value if found is None and "parameters" in value else found


def _standing(text: str, found: _Found) -> int:
    """How much an object looks like the answer and not like something that the text speaks of.

    0: announced as a draft or an example; 1: in a sentence; 2: in a sentence that decides; 3: on lines of its own;
    4: on lines of its own and announced as the answer.
    """
    line = text[: found.start].rpartition("\n")[2]
    after = text[found.end :].partition("\n")[0]
    announcement = line if _bare(line) and not _FENCE.match(line) else _line_before(text[: found.start])
    alone = not _bare(after) and (not _bare(line) or line.rstrip(" *`[").endswith(":") or bool(_FENCE.match(line)))
    words = announcement.rpartition("}")[2][-60:]  # those before another object on the line are about that one
    if _DRAFT.search(words):
        return 0
    return 1 + bool(_FINAL.search(words)) + 2 * alone


def _line_before(text: str) -> str:
    """The line that announces what follows: the last one with words in it, where it ends in a colon or is a heading."""
    lines = [line for line in text.splitlines()[-6:] if _bare(line) and not _FENCE.match(line)]
    last = lines[-1].strip() if lines else ""
    return last.strip("*") if last.strip("*").endswith(":") or last.startswith(("#", "**")) else ""
