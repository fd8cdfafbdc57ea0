"""Language models that are played: they know the table, or do harm, so that a strategy's trust in its agent is tested.

- right: knows every figure of the table with an error of 10 % and says what it expects and how sure it is;
- wrong: names candidates at random and expects of them what comes to its mind;
- silent: never replies;
- adversarial: names the worst that is left, praises it as certain, and never says stop;
- stopping: says stop at once, and always.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from haqa_contract import Configuration
from haqa_operator.agent.messages import Completion, LanguageModel, LLMError, Message, estimated_tokens
from haqa_operator.agent.quoting import labelled
from haqa_operator.decision.observations import Observation
from haqa_operator.replay.bench.problems import Problem

ERROR = 0.1
"""Relative standard deviation of what the right one believes."""

_CHOICES = 4


class Part(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    SILENT = "silent"
    ADVERSARIAL = "adversarial"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Belief:
    """What a model says of one candidate: the objective in percent of the baseline's, and the chance to keep the
    limits from 0 to 1."""

    percent: float
    chance: float

    @property
    def promise(self) -> float:
        return self.percent * self.chance


def scripted_model(part: Part, problem: Problem, seed: int) -> LanguageModel:
    if part is Part.SILENT:
        return _Silent()
    beliefs = _BELIEFS[part](problem, random.Random(f"{seed} {part} {problem.name}"))  # noqa: S311, nothing secret
    ranked = sorted(problem.space.candidates, key=lambda c: beliefs[c].promise, reverse=True)
    return _Scripted(part, problem, beliefs, ranked)


@dataclass
class _Scripted:
    """Names the candidates in its order, past those that were measured already.

    What was measured it reads from the schema of the reply; for a space too large for a list it remembers what it has
    named first.
    """

    part: Part
    problem: Problem
    beliefs: Mapping[Configuration, Belief]
    ranked: Sequence[Configuration]
    named: list[Configuration] = field(default_factory=list)
    max_tokens: int = 4000

    @property
    def name(self) -> str:
        return f"scripted:{self.part}"

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        open_ = self._open(schema)
        chosen = [c for c in self.ranked if c in open_][:_CHOICES]
        if not chosen:
            raise LLMError("nothing is left that the script could name")
        stop = self.part is Part.STOPPING or self._done(chosen[0], open_)
        self.named.append(chosen[0])
        numbers = {candidate: i for i, candidate in enumerate(self.problem.space.candidates)}
        listed = schema is None or "candidate" in json.dumps(schema)
        choices = [
            {
                **({"candidate": numbers[c]} if listed else {"parameters": labelled(c.parameters)}),
                "expected_percent": max(1, round(self.beliefs[c].percent)),
                "chance": round(100 * self.beliefs[c].chance),
            }
            for c in chosen
        ]
        text = json.dumps({"reasoning": f"by the script ({self.part})", "choices": choices, "stop": stop})
        asked = estimated_tokens(sum(len(message.content) for message in messages))
        return Completion(text, asked, estimated_tokens(len(text)), 0.0, self.name)

    def _open(self, schema: Mapping[str, Any] | None) -> set[Configuration]:
        candidates = self.problem.space.candidates
        numbers = _candidate_numbers(schema)
        if numbers is not None:
            return {candidates[i] for i in numbers if 0 <= i < len(candidates)}
        left = set(candidates) - set(self.named)
        return left or set(candidates)

    def _done(self, next_one: Configuration, open_: set[Configuration]) -> bool:
        """The right one stops once it holds for unlikely that anything left beats what was measured."""
        if self.part is not Part.RIGHT:
            return False
        measured = [c for c in self.problem.space.candidates if c not in open_]
        reached = max((self.problem.reached(c) for c in measured), default=0.0)
        return reached >= self.problem.reached_if(self.beliefs[next_one].percent) > 0


class _Silent:
    """A model that is never heard."""

    name = "scripted:silent"
    max_tokens = 4000

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        raise LLMError("no answer within the time-out, as the script says")


def _candidate_numbers(schema: object) -> list[int] | None:
    """The enum below `candidate`, wherever the schema has it."""
    if isinstance(schema, Mapping):
        candidate = schema.get("candidate")
        if isinstance(candidate, Mapping) and isinstance(candidate.get("enum"), list):
            return [int(number) for number in candidate["enum"]]
        schema = list(schema.values())
    if isinstance(schema, list):
        found = (_candidate_numbers(part) for part in schema)
        return next((numbers for numbers in found if numbers is not None), None)
    return None


Beliefs = dict[Configuration, Belief]


def _right(problem: Problem, chance: random.Random) -> Beliefs:
    return {c: _believed(problem.truth[c], problem, chance) for c in problem.space.candidates}


def _believed(truth: Observation, problem: Problem, chance: random.Random) -> Belief:
    error = math.exp(chance.gauss(0, ERROR))
    if truth.score is None:
        return Belief(1.0, 0.02)
    margin = problem.room(truth.trial.configuration) + chance.gauss(0, ERROR)
    return Belief(_percent(truth.score, problem) * error, NormalDist(0, ERROR).cdf(margin))


def _percent(score: float, problem: Problem) -> float:
    baseline = problem.truth[problem.baseline].score
    return 100 * (score / baseline if problem.objective.maximize else baseline / score) if baseline else 100.0


def _wrong(problem: Problem, chance: random.Random) -> Beliefs:
    return {c: Belief(chance.uniform(50, 400), chance.random()) for c in problem.space.candidates}


def _adversarial(problem: Problem, chance: random.Random) -> Beliefs:
    """The worse a candidate is, the more it is praised: failures and broken limits first."""
    worst_first = sorted(problem.space.candidates, key=problem.reached)
    return {c: Belief(400 - 100 * i / len(worst_first), 0.99) for i, c in enumerate(worst_first)}


_BELIEFS: dict[Part, Callable[[Problem, random.Random], Beliefs]] = {
    Part.RIGHT: _right,
    Part.WRONG: _wrong,
    Part.ADVERSARIAL: _adversarial,
    Part.STOPPING: _wrong,
}
