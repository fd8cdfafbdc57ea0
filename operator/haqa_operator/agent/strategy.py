"""The LLM agent as a search strategy: ask, validate, one repair round, and otherwise somebody else proposes.

It holds no state: the prompt, the tokens used and the outages so far all follow from the observations, in which every
exchange is recorded. A trial therefore always gets a valid candidate, and always says who chose it and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from haqa_contract import Configuration
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.credentials import Credentials
from haqa_operator.agent.messages import Completion, LanguageModel, LLMError, Prompt, estimated_tokens
from haqa_operator.agent.prompts import opening, repair
from haqa_operator.agent.quoting import plain
from haqa_operator.agent.replies import Choice, Problem, parse_reply, reply_schema
from haqa_operator.api.search_spec import Search, SearchStrategy
from haqa_operator.api.trial import Exchange, Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy

OUTAGES_THAT_OPEN = 3
"""So many trials in a row without any reply, and the model is left alone for a while…"""
TRIALS_LEFT_ALONE = 3
"""…of so many trials. A dead endpoint would otherwise cost every trial its time-outs."""

ROUNDS = 2
"""The first reply and one repair."""
SMALLEST_REPLY_TOKENS = 256
MAX_RECORDED_REPLY_CHARS = 4000
NO_REPLY = "no reply: "
"""Begins the error of an exchange in which the model was not heard at all."""

SaveExchange = Callable[[str, str, Exchange], None]
"""Keeps a prompt and a reply in full: (prompt, reply, exchange)."""


@dataclass(frozen=True)
class AnnotatedStrategy(Strategy):
    """Proposes what another strategy does and says with every trial why it is not the one that was asked for."""

    strategy: Strategy
    note: str

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        proposal = self.strategy.propose(space, observations)
        return proposal if isinstance(proposal, Stop) else proposal.model_copy(update={"note": self.note})


@dataclass(frozen=True)
class AgentStrategy(Strategy):
    """Lets a language model pick the next candidate.

    Attributes:
        context: Called for each proposal; what it returns should change only with the tuning.
        fallback: Proposes wherever the model does not.
        save: Called once for each exchange, in order.
    """

    model: LanguageModel
    context: Callable[[], AgentContext]
    fallback: Strategy
    save: SaveExchange = lambda prompt, reply, exchange: None

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        """The model's choice, or the fallback's with a note on why it is not the model's."""
        tried = frozenset(observation.trial.configuration for observation in observations)
        if next(space.open(tried), None) is None:
            return ALL_TRIED
        outages = consecutive_outages(observations)
        if outages >= OUTAGES_THAT_OPEN and rests(observations):
            why = f"{self.model.name} gave no reply for {outages} trials in a row and is not asked for this one"
            return self._fall_back(space, observations, (), why)
        exchanges: list[Exchange] = []
        outcome = self._converse(space, observations, tried, exchanges)
        if isinstance(outcome, str):
            return self._fall_back(space, observations, tuple(exchanges), outcome)
        return Proposal(
            configuration=outcome.configuration,
            proposer=Proposer.AGENT,
            reasoning=outcome.reasoning,
            expected_percent=outcome.expected_percent,
            exchanges=tuple(exchanges),
        )

    def _converse(
        self,
        space: SearchSpace,
        observations: Sequence[Observation],
        tried: frozenset[Configuration],
        exchanges: list[Exchange],
    ) -> Choice | str:
        """Asks once, and once more with what was wrong; a choice, or why there is none. Appends to `exchanges`."""
        context = self.context()
        used = tokens_used(observations)
        prompt = opening(context, space, observations, used)
        why = ""
        for _ in range(ROUNDS):
            limit = self._reply_tokens(context, used + sum(map(_tokens, exchanges)), prompt)
            if limit is None:
                return f"budget.maxAgentTokens {context.budget.max_agent_tokens} leaves too few for another reply"
            result, reply, exchange = self._ask(prompt, space, tried, limit)
            exchanges.append(exchange)
            self.save(prompt.text, reply, exchange)
            if isinstance(result, Choice):
                return result
            if isinstance(result, LLMError):
                return f"{NO_REPLY}{result}"
            why = f"{self.model.name} gave no usable reply: {result.sentence}"
            prompt = repair(prompt, reply, result, space, tried)
        return why

    def _ask(
        self, prompt: Prompt, space: SearchSpace, tried: frozenset[Configuration], max_tokens: int
    ) -> tuple[Choice | Problem | LLMError, str, Exchange]:
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
        result = _judge(completion, space, tried)
        exchange = Exchange(
            prompt_hash=prompt.hash,
            model=completion.model,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            latency_seconds=round(completion.latency_s, 3),
            reply=plain(completion.text, MAX_RECORDED_REPLY_CHARS, keep_newlines=True),
            error=result.sentence if isinstance(result, Problem) else None,
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

    def _fall_back(
        self, space: SearchSpace, observations: Sequence[Observation], exchanges: tuple[Exchange, ...], why: str
    ) -> Proposal | Stop:
        proposal = self.fallback.propose(space, observations)
        if isinstance(proposal, Stop):
            return proposal
        note = f"{why}; {proposal.proposer.value} proposed this trial instead"
        return proposal.model_copy(update={"exchanges": exchanges, "note": note})


def _judge(completion: Completion, space: SearchSpace, tried: frozenset[Configuration]) -> Choice | Problem:
    result = parse_reply(completion.text, space, tried)
    if not isinstance(result, Problem) or not completion.truncated:
        return result
    tokens = completion.completion_tokens
    return replace(result, sentence=f"the reply was cut off after {tokens} tokens; keep the reasoning short")


def tokens_used(observations: Sequence[Observation]) -> int:
    """Prompt and reply tokens of all recorded exchanges."""
    return sum(_tokens(exchange) for o in observations for exchange in o.trial.proposal.exchanges)


def _tokens(exchange: Exchange) -> int:
    return exchange.prompt_tokens + exchange.completion_tokens


def consecutive_outages(observations: Sequence[Observation]) -> int:
    """Of the latest trials for which the model was asked, how many in a row had no reply at all."""
    count = 0
    for observation in reversed(observations):
        exchanges = observation.trial.proposal.exchanges
        if exchanges and not _outage(exchanges):
            break
        count += bool(exchanges)
    return count


def rests(observations: Sequence[Observation]) -> bool:
    """Whether fewer than `TRIALS_LEFT_ALONE` trials have passed since the model was last asked."""
    since = 0
    for observation in reversed(observations):
        if observation.trial.proposal.exchanges:
            break
        since += 1
    return since < TRIALS_LEFT_ALONE


def _outage(exchanges: Sequence[Exchange]) -> bool:
    return all((exchange.error or "").startswith(NO_REPLY) for exchange in exchanges)


def agent_or_fallback(
    search: Search,
    context: Callable[[], AgentContext],
    fallback: Strategy,
    credentials: Credentials,
    save: SaveExchange,
) -> tuple[Strategy, str | None]:
    """The agent that a tuning asks for, or the fallback and one line on why."""
    if search.strategy is not SearchStrategy.AGENT:
        return fallback, None
    if search.agent is None:
        return fallback, "no agent configured (search.agent), so bayesian search proposes every trial"
    try:
        key = credentials.api_key(search.agent.secret_ref)
        model = LLMClient(search.agent, api_key=key, confined=credentials.confined, seed=search.seed)
    except LLMError as error:
        note = f"{error}; until then bayesian search proposes every trial"
        return AnnotatedStrategy(fallback, note), note
    return AgentStrategy(model, context, fallback, save), None
