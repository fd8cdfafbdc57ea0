"""What the agent says about the next trial: ask, validate, one repair round, and a record of it all.

Nothing is chosen here. A strategy takes the first choice, or weighs the choices against what others expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from haqa_contract import Configuration
from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.faults import Fault, Problem
from haqa_operator.agent.messages import Completion, LanguageModel, LLMError, Prompt, estimated_tokens
from haqa_operator.agent.outages import NO_REPLY, resting, tokens_of, tokens_used
from haqa_operator.agent.prompts import opening, repair
from haqa_operator.agent.quoting import plain
from haqa_operator.agent.replies import Choice, Reply, parse_reply
from haqa_operator.agent.reply_schemas import reply_schema
from haqa_operator.api.trial import Exchange, Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED

ROUNDS = 2
"""The first reply and one repair."""
SMALLEST_REPLY_TOKENS = 256
MAX_RECORDED_REPLY_CHARS = 4000

SaveExchange = Callable[[str, str, Exchange], None]
"""Keeps a prompt and a reply in full: (prompt, reply, exchange)."""

Expectations = Mapping[Configuration, str]
"""Candidate -> what the surrogate expects of it, in a short line; the best first."""


@dataclass(frozen=True)
class Advice:
    """What came of asking the agent.

    Attributes:
        choices: Different open candidates, the best first.
        stop: Why nothing left can win, where the agent says so; it may name choices all the same.
        dropped: What else it named, each with what is wrong with it.
        exchanges: Requests to the model, the failed ones too; they belong on the trial, whoever proposes it.
        why_none: Why there is neither a choice nor a stop.
    """

    choices: tuple[Choice, ...] = ()
    stop: str | None = None
    dropped: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    why_none: str | None = None


def chosen(choice: Choice, exchanges: tuple[Exchange, ...], note: str | None = None) -> Proposal:
    """A choice of the agent as a proposal."""
    return Proposal(
        configuration=choice.configuration,
        proposer=Proposer.AGENT,
        reasoning=choice.reasoning,
        expected_percent=choice.expected_percent,
        feasible_chance=choice.chance,
        exchanges=exchanges,
        note=note,
    )


def may_stop(observations: Sequence[Observation]) -> bool:
    """Whether an agent's stop can be believed at all: something beside the baseline has been measured."""
    return any(o.score is not None and not o.trial.is_baseline for o in observations)


@dataclass(frozen=True)
class Adviser:
    """Asks one language model.

    Attributes:
        context: Called for each advice; what it returns should change only with the tuning.
        save: Called once for each exchange, in order.
    """

    model: LanguageModel
    context: Callable[[], AgentContext]
    save: SaveExchange = lambda prompt, reply, exchange: None

    def advise(
        self, space: SearchSpace, observations: Sequence[Observation], expectations: Expectations | None = None
    ) -> Advice:
        """The model's advice on the next trial. Raises nothing that the model or its server causes."""
        tried = frozenset(observation.trial.configuration for observation in observations)
        if next(space.open(tried), None) is None:
            return Advice(why_none=ALL_TRIED.sentence)
        outages = resting(observations)
        if outages:
            why = f"{self.model.name} gave no reply for {outages} trials in a row and is not asked for this one"
            return Advice(why_none=why)
        exchanges: list[Exchange] = []
        outcome = self._converse(space, observations, tried, expectations, exchanges)
        if isinstance(outcome, str):
            return Advice(exchanges=tuple(exchanges), why_none=outcome)
        return Advice(outcome.choices, outcome.stop, outcome.dropped, tuple(exchanges))

    def _converse(
        self,
        space: SearchSpace,
        observations: Sequence[Observation],
        tried: frozenset[Configuration],
        expectations: Expectations | None,
        exchanges: list[Exchange],
    ) -> Reply | str:
        """Asks once, and once more with what was wrong; a reply, or why there is none. Appends to `exchanges`."""
        context = self.context()
        used = tokens_used(observations)
        prompt = opening(context, space, observations, used, expectations)
        why = ""
        for _ in range(ROUNDS):
            limit = self._reply_tokens(context, used + sum(map(tokens_of, exchanges)), prompt)
            if limit is None:
                return f"budget.maxAgentTokens {context.budget.max_agent_tokens} leaves too few for another reply"
            result, reply, exchange = self._ask(prompt, space, tried, limit, stops=may_stop(observations))
            exchanges.append(exchange)
            self.save(prompt.text, reply, exchange)
            if isinstance(result, Reply):
                return result
            if isinstance(result, LLMError):
                return f"{NO_REPLY}{result}"
            why = f"{self.model.name} gave no usable reply: {result.sentence}"
            prompt = repair(prompt, reply, result, space, tried)
        return why

    def _ask(
        self, prompt: Prompt, space: SearchSpace, tried: frozenset[Configuration], max_tokens: int, *, stops: bool
    ) -> tuple[Reply | Problem | LLMError, str, Exchange]:
        """One request: what it came to, the whole reply, and its record."""
        try:
            completion = self.model.complete(prompt.messages, reply_schema(space, tried), max_tokens)
        except LLMError as error:
            exchange = Exchange(
                prompt_hash=prompt.hash,
                model=self.model.name,
                latency_seconds=round(error.latency_s, 3),
                error=plain(f"{NO_REPLY}{error}", MAX_RECORDED_REPLY_CHARS),
            )
            return error, "", exchange
        result = _judge(completion, space, tried, stops=stops)
        exchange = Exchange(
            prompt_hash=prompt.hash,
            model=completion.model,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            latency_seconds=round(completion.latency_s, 3),
            reply=plain(completion.text, MAX_RECORDED_REPLY_CHARS, keep_newlines=True),
            error=_fault(result),
        )
        return result, completion.text, exchange

    def _reply_tokens(self, context: AgentContext, used: int, prompt: Prompt) -> int | None:
        """Tokens that the reply may have; None when the budget is too small for the prompt and a short reply."""
        budget = context.budget.max_agent_tokens
        if budget is None:
            return self.model.max_tokens
        left = budget - used - estimated_tokens(sum(len(message.content) for message in prompt.messages))
        smallest = min(SMALLEST_REPLY_TOKENS, self.model.max_tokens)
        return min(left, self.model.max_tokens) if left >= smallest else None


def _judge(
    completion: Completion, space: SearchSpace, tried: frozenset[Configuration], *, stops: bool
) -> Reply | Problem:
    result = parse_reply(completion.text, space, tried)
    if isinstance(result, Reply):
        if result.choices or stops:
            return result
        sentence = "nothing beside the baseline has succeeded yet, so that the search goes on; name a candidate"
        return Problem(Fault.TOO_EARLY, sentence)
    if not completion.truncated:
        return result
    tokens = completion.completion_tokens
    sentence = f"the reply was cut off after {tokens} tokens (search.agent.maxTokens); keep the reasoning short"
    return replace(result, sentence=sentence)


def _fault(result: Reply | Problem) -> str | None:
    if isinstance(result, Problem):
        return result.sentence
    return f"left out: {'; '.join(result.dropped)}" if result.dropped else None
