"""Agent and surrogate together: a right agent helps, and the worst of agents costs about one trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.agent.builders import make_context
from tests.unit.search.surrogate.tables import GOALS, closed_loop, first_trials, loads_space, observe, trial_of

from haqa_contract import Configuration
from haqa_operator.agent.advice import Adviser
from haqa_operator.agent.haqa import Haqa, trust
from haqa_operator.agent.messages import Completion, LLMError, Message
from haqa_operator.api.search_spec import Patience
from haqa_operator.api.trial import Proposer, Trial
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.strategies import Stop

SPACE = loads_space()
BEST = Configuration.of(load=64, kind="fast")
BAD = Configuration.of(load=1, kind="slow")


@dataclass
class Model:
    """A `LanguageModel` whose replies are made by a function of what was asked so far."""

    reply: Callable[[int], str]
    name: str = "scripted/model"
    max_tokens: int = 2048
    asked: list[str] = field(default_factory=list)

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        self.asked.append("\n".join(message.content for message in messages))
        return Completion(self.reply(len(self.asked)), 900, 60, 1.5, self.name)


def naming(configuration: Configuration, percent: int, chance: int) -> str:
    number = SPACE.candidates.index(configuration)
    choice = {"candidate": number, "expected_percent": percent, "chance": chance}
    return json.dumps({"reasoning": "because", "choices": [choice]})


def silent(asked: int) -> str:
    raise LLMError("no answer within 120 s")


def haqa(reply: Callable[[int], str], patience: Patience | None = None) -> tuple[Haqa, Model]:
    model = Model(reply)
    return Haqa(Adviser(model, make_context), Bayesian(GOALS, patience=patience)), model


def search(strategy: Haqa | Bayesian, most: int) -> list[Trial]:
    trials = first_trials(SPACE, closed_loop)
    while len(trials) <= most:
        answer = strategy.propose(SPACE, observe(trials))
        if isinstance(answer, Stop):
            break
        made = trial_of(len(trials), answer.configuration, closed_loop(answer.configuration))
        trials.append(made.model_copy(update={"proposal": answer}))
    return trials


def trials_to_best(strategy: Haqa | Bayesian) -> int:
    found = observe([trial_of(n, c, closed_loop(c)) for n, c in enumerate((SPACE.baseline, *SPACE.candidates))])
    best = max((o for o in found if o.score is not None and not o.violation), key=lambda o: o.score or 0.0)
    trials = search(strategy, len(SPACE.candidates))
    return next(trial.number for trial in trials if trial.configuration == best.trial.configuration)


def test_a_right_agent_is_believed_at_once() -> None:
    strategy, _ = haqa(lambda asked: naming(Configuration.of(load=32, kind="fast"), 1200, 95))
    first = search(strategy, 1)[1]
    assert first.configuration == Configuration.of(load=32, kind="fast")
    assert first.proposal.proposer is Proposer.AGENT
    assert first.proposal.expected_percent == 1200
    assert "because" in first.proposal.reasoning
    assert first.proposal.exchanges


def adversarial(asked: int) -> str:
    """The worst there is, praised."""
    order = [BAD, *(c for c in SPACE.candidates if c != BAD and c.settings["kind"] == "slow")]
    return naming(order[min(asked, len(order)) - 1], 5000, 99)


def stopping(asked: int) -> str:
    return json.dumps({"reasoning": "done", "stop": True})


@pytest.mark.parametrize("reply", [adversarial, stopping, silent, lambda asked: "no idea"])
def test_the_worst_of_agents_costs_one_trial_at_most(reply: Callable[[int], str]) -> None:
    strategy, _ = haqa(reply)
    assert trials_to_best(strategy) <= trials_to_best(Bayesian(GOALS)) + 1


def test_an_agent_that_was_wrong_is_not_believed_again() -> None:
    wrong = trial_of(1, BAD, closed_loop(BAD))
    proposal = wrong.proposal.model_copy(update={"proposer": Proposer.AGENT, "expected_percent": 5000.0})
    observations = observe([*first_trials(SPACE, closed_loop), wrong.model_copy(update={"proposal": proposal})])
    assert trust(observations[:1]) == 1.0
    assert trust(observations) == 0.0


def test_the_agent_is_told_what_the_surrogate_expects() -> None:
    strategy, model = haqa(lambda asked: naming(BEST, 900, 50))
    search(strategy, 1)
    assert "likely to meet all limits" in model.asked[0]


def test_a_stop_is_heard_where_little_more_is_expected() -> None:
    strategy, _ = haqa(stopping, Patience.HIGH)
    stopped = search(strategy, len(SPACE.candidates))
    assert 3 < len(stopped) < len(SPACE.candidates)


def test_a_trial_of_the_surrogate_says_what_the_agent_would_have_tried() -> None:
    strategy, _ = haqa(lambda asked: naming(BAD, 10, 5))
    proposal = search(strategy, 1)[1].proposal
    assert proposal.proposer is Proposer.BAYESIAN
    assert BAD.describe() in (proposal.note or "")
    assert proposal.exchanges
