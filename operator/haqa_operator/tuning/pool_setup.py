"""What a pool's search needs to know before its first trial: the space, and who picks from it.

The same for a pool of this machine and for one of a cluster; only where hardware and model are looked up differs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from haqa_contract import Configuration
from haqa_operator.agent.advice import SaveExchange
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.context import AgentContext, context_for
from haqa_operator.agent.credentials import Credentials
from haqa_operator.agent.messages import OpenModel
from haqa_operator.agent.strategy import agent_or_fallback
from haqa_operator.api import NodePool, Trial, TuningSpec
from haqa_operator.api.tuning import MAX_MODEL_LEN
from haqa_operator.decision.goals import Goals
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.build import MAX_CANDIDATES, build_space
from haqa_operator.search.cases import Case
from haqa_operator.search.factory import make_strategy
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.remembered import RememberedSpaces
from haqa_operator.search.space import MOST_REMEMBERED, SearchSpace
from haqa_operator.search.strategies import Strategy
from haqa_operator.serving.model_length import MaxModelLen, length_sentence, outdated_length, served_length
from haqa_operator.serving.versions import Version, dotted, parse_version, release_of
from haqa_operator.tuning.expected_rate import expected_tokens_per_s
from haqa_operator.tuning.prompt_model import prompt_model

SPACES = RememberedSpaces(MOST_REMEMBERED)
"""The operator asks at every reconciliation, and enumerating takes longer than all the rest of it."""


def _inputs(setup: PoolSetup) -> tuple[Hashable, ...]:
    return (
        setup.spec.model_dump_json(),
        setup.pool.model_dump_json(),
        setup.accelerator,
        setup.profile,
        setup.engine_version,
        setup.max_model_len,
    )


@dataclass(frozen=True)
class PoolSetup:
    """One pool of a tuning on known hardware with a known model.

    Attributes:
        engine_version: vLLM's, for example `0.32.0`.
        measured: The pool's trials so far, those that may be compared.
        engine_note: What somebody should know about how the version was found out.
    """

    spec: TuningSpec
    pool: NodePool
    accelerator: Accelerator
    profile: ModelProfile
    engine_version: str
    measured: tuple[Trial, ...] = ()
    engine_note: str | None = None

    @cached_property
    def max_model_len(self) -> MaxModelLen:
        """What every engine of the pool gets, in trials and in the Deployment."""
        return served_length(self.spec.serving, self._version, self.profile.facts.max_positions, self.measured)

    @property
    def note(self) -> str | None:
        """What somebody should know about the engine, or who goes on with an earlier run; None = nothing."""
        default = served_length(self.spec.serving, self._version, self.profile.facts.max_positions)
        length = None if self.max_model_len == default else outdated_length(self.max_model_len)
        return "; ".join(filter(None, (self._other_engine or self.engine_note, length))) or None

    @property
    def _other_engine(self) -> str | None:
        """The trials say which vLLM they ran on; None where it is the one that was taken for granted."""
        found = next((one for trial in self.measured if (one := release_of(trial.status.engine_version))), None)
        if found is None or found == self._version:
            return None
        return (
            f'nodePools "{self.pool.name}": its engine is vLLM {dotted(found)} and was taken for '
            f"{self.engine_version}; set engineVersion {dotted(found)} to search what that one has"
        )

    def expected_rate(self, configuration: Configuration, earlier: Sequence[Trial]) -> float | None:
        """Output tokens/s that an engine of this configuration may reach; None where nobody knows."""
        case = Case(
            self.accelerator,
            self.profile,
            configuration,
            self.spec.workload,
            self._version,
            env=self.pool.env,
            max_model_len=self.max_model_len,
        )
        return expected_tokens_per_s(case, earlier)

    @property
    def _searches_length(self) -> bool:
        return MAX_MODEL_LEN in self.spec.search.engine or MAX_MODEL_LEN in self.spec.search.fixed_engine

    @property
    def _version(self) -> Version:
        return parse_version(self.engine_version)

    def space(self) -> SearchSpace:
        """Raises SpaceError: there are too many candidates."""
        return SPACES.get(_inputs(self), self._made)

    def _made(self) -> SearchSpace:
        return build_space(
            self.spec.search,
            self.accelerator,
            self.profile,
            self.spec.workload,
            self.engine_version,
            env=self.pool.env,
            max_model_len=self.max_model_len,
            objective=self.spec.objectives[0],
            # However many pools a tuning has, looking at it takes no longer.
            most=MAX_CANDIDATES // len(self.spec.node_pools),
        )

    def strategy(
        self,
        credentials: Credentials,
        save: SaveExchange,
        history: tuple[tuple[Trial, ...], ...] = (),
        open_model: OpenModel = LLMClient,
    ) -> tuple[Strategy, str | None]:
        """Who proposes, and one line where that is not who was asked for; as `agent_or_fallback`.

        Args:
            history: Trials of other pools and earlier runs, each with its baseline; the surrogate starts there.
            open_model: How the agent's model is reached.
        """
        search = self.spec.search
        goals = Goals(self.spec.objectives[0], tuple(self.spec.constraints))
        fallback = make_strategy(search.strategy, search.seed, goals, history, search.patience)
        return agent_or_fallback(search, self._context, fallback, credentials, save, open_model)

    def _context(self) -> AgentContext:
        """Computed when the agent is asked: the operator asks for a strategy far more often than a strategy asks."""
        return context_for(
            self.spec,
            self.pool,
            self.accelerator,
            engine=f"vLLM {self.engine_version}",
            model=prompt_model(self.spec, self.profile, self.space()),
            hidden_settings=() if self._searches_length else (length_sentence(self.max_model_len),),
        )
