"""Finds the configuration of a pool's next trial: an earlier run's answer, or what the strategy proposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.credentials import SecretCredentials
from haqa_operator.agent.messages import OpenModel
from haqa_operator.api import Proposal
from haqa_operator.cluster.act.context import PoolContext
from haqa_operator.cluster.edges.api_server import ApiServer
from haqa_operator.cluster.edges.credentials import agent_key
from haqa_operator.cluster.edges.proposals import BackgroundProposals, ProposalRequest
from haqa_operator.cluster.warm_start import answer_again, earlier_answer, earlier_runs, histories
from haqa_operator.decision.observations import observations_of
from haqa_operator.search.strategies import Stop
from haqa_operator.tuning.plan import PoolState
from haqa_operator.tuning.pool_setup import PoolSetup


class StrategyError(Exception):
    """The strategy itself failed, not its model: the queue tries again, each time later."""


@dataclass(frozen=True)
class ProposalSource:
    """Lives for one reconciliation.

    Attributes:
        requeue: Called when a strategy that takes its time has answered.
        open_model: How an agent's model is reached.
    """

    api: ApiServer
    background: BackgroundProposals
    context: PoolContext
    fingerprint: str
    requeue: Callable[[], None]
    open_model: OpenModel = LLMClient

    def pending(self, number: int) -> bool:
        """Whether a strategy is working on this trial number."""
        return self.background.waiting(self._request(number))

    def answer(self, number: int) -> Proposal | Stop | None:
        """What the strategy proposes for this trial number, until that is `used`; None while it has not answered.

        Raises:
            StrategyError: it failed.
        """
        answered = self.background.answer(self._request(number))
        if answered is None:
            return None
        if (error := answered.exception()) is not None:
            self.used(number)
            raise StrategyError(f"the strategy of pool {self.context.pool.name} failed: {error!r}") from error
        return answered.result()

    def used(self, number: int) -> None:
        """The answer is a trial, or there is none to be made of it. Not before: an LLM is paid for each answer."""
        self.background.forget(self._request(number))

    def earlier_answer(self, state: PoolState) -> Proposal | None:
        """What another run of this tuning has found best, if it was not tried yet in this one."""
        if (check := self.context.check) is not None:
            return answer_again(check.configuration, check.reason, state)
        return earlier_answer(
            earlier_runs(self.context.snapshot.trials, self.context.pool.name, self.fingerprint), state
        )

    def request(self, setup: PoolSetup, state: PoolState, number: int) -> None:
        """Has the strategy work on this trial number; `answer` has what comes of it."""
        running = [trial.configuration for trial in state.trials if not trial.status.phase.finished]
        agent = setup.spec.search.agent
        credentials = SecretCredentials(agent_key(self.api, agent, self.context.snapshot.namespace))
        history = histories(self.context.snapshot.trials, self.context.pool.name, self.fingerprint)
        strategy, _ = setup.strategy(credentials, lambda *_: None, history, self.open_model)
        space = state.taught_space.closing(dict.fromkeys(running, "is being measured"))
        seen = observations_of(state.finished_trials, setup.spec.objectives, setup.spec.constraints)
        self.background.ask(self._request(number), lambda: strategy.propose(space, seen), self.requeue)

    def _request(self, number: int) -> ProposalRequest:
        uid = str(self.context.snapshot.manifest["metadata"]["uid"])
        return ProposalRequest(uid, self.context.pool.name, self.fingerprint, number)
