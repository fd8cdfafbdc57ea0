"""One pool of a tuning, as a reconciliation finds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from haqa_contract import Configuration
from haqa_operator.api import NodePool, TuningSpec
from haqa_operator.api.status import FetchedModel
from haqa_operator.cluster.observe.snapshot import TuningSnapshot, profile_of
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.images import EngineVersion
from haqa_operator.tuning.fingerprint import fingerprint
from haqa_operator.tuning.pool_defaults import pool_spec


@dataclass(frozen=True)
class Check:
    """An answer that is worked out anew and not searched for.

    Attributes:
        reason: What has changed since it was measured; empty: nothing that a measurement depends on.
        configuration: What is measured again beside the baseline; None: nothing is.
    """

    reason: str = ""
    configuration: Configuration | None = None

    @property
    def most_trials(self) -> int:
        """After the baseline."""
        return 0 if self.configuration is None else 1

    @property
    def note(self) -> str:
        if not self.reason:
            return ""
        return f"measured again beside the baseline, and nothing else (output.onChange: Verify), since {self.reason}"


@dataclass(frozen=True)
class PoolContext:
    """Everything that reconciling the pool depends on.

    Attributes:
        engine: Which vLLM its engines are.
        now: Unix seconds.
        again: Text by which somebody has everything measured once more.
        check: Where an answer is only measured again.
    """

    snapshot: TuningSnapshot
    pool: NodePool
    accelerator: Accelerator
    model: FetchedModel
    engine: EngineVersion
    now: float
    again: str = ""
    check: Check | None = None

    @property
    def engine_version(self) -> str:
        return self.engine.text

    @cached_property
    def profile(self) -> ModelProfile:
        return profile_of(self.model)

    @cached_property
    def spec(self) -> TuningSpec:
        """The tuning's, with the defaults for the pool's hardware, or what its trials were measured with."""
        before = next((one for one in self.snapshot.status.pools if one.name == self.pool.name), None)
        return pool_spec(
            self._asked,
            self.pool,
            self.accelerator,
            self.profile,
            self.engine_version,
            recorded=(before.measured_with,) if before and before.measured_with else (),
            has_trials=lambda spec: bool(self.snapshot.trials_of(self.pool, self._fingerprint(spec))),
        )

    @property
    def _asked(self) -> TuningSpec:
        spec = self.snapshot.tuning.spec
        if self.check is None:
            return spec
        return spec.model_copy(update={"budget": spec.budget.model_copy(update={"max_trials": self.check.most_trials})})

    @cached_property
    def fingerprint(self) -> str:
        """Of the trials that may be compared."""
        return self._fingerprint(self.spec)

    def _fingerprint(self, spec: TuningSpec) -> str:
        return fingerprint(
            spec,
            self.pool,
            self.accelerator,
            self.model.digest,
            self.engine_version,
            {adapter.name: adapter.digest for adapter in self.model.adapters},
            self.again,
        )
