"""The LLM agent as a search strategy: the first of its choices, and otherwise somebody else proposes.

It holds no state: the prompt, the tokens used and the outages so far all follow from the observations, in which every
exchange is recorded. A trial therefore always gets a valid candidate, and always says who chose it and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from haqa_operator.agent.advice import Advice, Adviser, Expectations, SaveExchange, chosen, may_stop
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.credentials import Credentials
from haqa_operator.agent.haqa import Haqa
from haqa_operator.agent.messages import LanguageModel, LLMError, OpenModel
from haqa_operator.agent.quoting import plain
from haqa_operator.api.search_spec import Search, SearchStrategy
from haqa_operator.api.trial import Exchange, Proposal
from haqa_operator.decision.observations import Observation
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy


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
        stops: Whether the agent's word that nothing left can win ends the search here.
    """

    model: LanguageModel
    context: Callable[[], AgentContext]
    fallback: Strategy
    save: SaveExchange = lambda prompt, reply, exchange: None
    stops: Callable[[Sequence[Observation]], bool] = may_stop

    def advise(
        self, space: SearchSpace, observations: Sequence[Observation], expectations: Expectations | None = None
    ) -> Advice:
        """All that the model says of the next trial, and nothing chosen of it."""
        return Adviser(self.model, self.context, self.save).advise(space, observations, expectations)

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        """The model's first choice, or the fallback's with a note on why it is not the model's."""
        tried = frozenset(observation.trial.configuration for observation in observations)
        if next(space.open(tried), None) is None:
            return ALL_TRIED
        advice = self.advise(space, observations)
        if advice.stop is not None and self.stops(observations):
            return Stop(f"{self.model.name} sees nothing left that can win: {plain(advice.stop, 600)}")
        if advice.choices:
            return chosen(advice.choices[0], advice.exchanges, _note(advice))
        why = advice.why_none or f"{self.model.name} would stop, which is too early"
        return self._fall_back(space, observations, advice.exchanges, why)

    def _fall_back(
        self, space: SearchSpace, observations: Sequence[Observation], exchanges: tuple[Exchange, ...], why: str
    ) -> Proposal | Stop:
        proposal = self.fallback.propose(space, observations)
        if isinstance(proposal, Stop):
            return proposal
        note = f"{why}; {proposal.proposer.value} proposed this trial instead"
        return proposal.model_copy(update={"exchanges": exchanges, "note": note})


def _note(advice: Advice) -> str | None:
    return None if advice.stop is None else f"the agent would stop, which is too early: {plain(advice.stop, 600)}"


def agent_or_fallback(
    search: Search,
    context: Callable[[], AgentContext],
    fallback: Strategy,
    credentials: Credentials,
    save: SaveExchange,
    open_model: OpenModel = LLMClient,
) -> tuple[Strategy, str | None]:
    """The agent that a tuning asks for, or the fallback and one line on why."""
    if search.strategy not in (SearchStrategy.AGENT, SearchStrategy.HAQA):
        return fallback, None
    if search.agent is None:
        return fallback, "no agent configured (search.agent), so bayesian search proposes every trial"
    try:
        key = credentials.api_key(search.agent.secret_ref)
        model = open_model(search.agent, api_key=key, confined=credentials.confined, seed=search.seed)
    except LLMError as error:
        note = f"{error}; until then bayesian search proposes every trial"
        return AnnotatedStrategy(fallback, note), note
    if search.strategy is SearchStrategy.HAQA and isinstance(fallback, Bayesian):
        return Haqa(Adviser(model, context, save), fallback), None
    return AgentStrategy(model, context, fallback, save), None
