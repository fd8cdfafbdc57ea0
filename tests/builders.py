"""Builders for tests, in the words of the resources: `make_trial(3).tried("W4A16", "gptq").throughput(120).obj()`.

Each call returns a new builder, so that a common start can be shared between cases.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from haqa_contract import Algorithm, Configuration, Estimate, Failure, FailureReason, Scalar, Scheme
from haqa_operator.api import Proposal, Proposer, QuantizationTuning, Trial, TrialPhase, TrialStatus
from haqa_operator.api.loading import parse_tuning
from haqa_operator.decision.constraints import References


def estimate(value: float, margin: float = 0.0, n: int = 3) -> Estimate:
    """A measured number with a symmetric 95 % interval."""
    return Estimate(value=value, low=value - margin, high=value + margin, n=n)


_SUCCEEDED = TrialStatus(phase=TrialPhase.SUCCEEDED, started=0.0, finished=60.0)


@dataclass(frozen=True)
class TrialBuilder:
    number: int = 1
    tuning: str = "demo"
    pool: str = "here"
    configuration: Configuration = field(default_factory=Configuration)
    proposer: Proposer = Proposer.BAYESIAN
    status: TrialStatus = _SUCCEEDED

    def tried(
        self,
        scheme: Scheme | str = Scheme.BF16,
        algorithm: Algorithm | str | None = None,
        group_size: int | None = None,
        **engine: Scalar,
    ) -> TrialBuilder:
        """The configuration; without an algorithm the plain one of the scheme."""
        default = Algorithm.NONE if Scheme(scheme) is Scheme.BF16 else Algorithm.RTN
        return self.of(Configuration.of(scheme, algorithm or default, group_size, **engine))

    def of(self, configuration: Configuration) -> TrialBuilder:
        return replace(self, configuration=configuration)

    def proposed_by(self, proposer: Proposer) -> TrialBuilder:
        return replace(self, proposer=proposer)

    def metric(self, key: str, value: float, margin: float = 0.0, samples: tuple[float, ...] = ()) -> TrialBuilder:
        metrics = {**self.status.metrics, key: estimate(value, margin, n=max(len(samples), 1 if not margin else 3))}
        return self._with(metrics=metrics, samples={**self.status.samples, **({key: samples} if samples else {})})

    def throughput(self, value: float, margin: float = 0.0) -> TrialBuilder:
        return self.metric("throughput", value, margin)

    def failed(self, reason: FailureReason | str, message: str = "it did not work") -> TrialBuilder:
        failure = Failure(reason=FailureReason(reason), message=message)
        return self._with(phase=TrialPhase.FAILED, failure=failure)

    def pending(self) -> TrialBuilder:
        return self._with(phase=TrialPhase.PENDING, started=None, finished=None)

    def machine_hours(self, hours: float) -> TrialBuilder:
        return self._with(machine_hours=hours)

    def between(self, started: float, finished: float) -> TrialBuilder:
        """Unix seconds."""
        return self._with(started=started, finished=finished)

    def obj(self) -> Trial:
        return Trial(
            name=f"{self.tuning}-{self.pool}-{self.number:03d}",
            tuning=self.tuning,
            pool=self.pool,
            number=self.number,
            proposal=Proposal(configuration=self.configuration, proposer=self.proposer),
            status=self.status,
        )

    def _with(self, **changes: Any) -> TrialBuilder:
        return replace(self, status=self.status.model_copy(update=changes))


def make_trial(number: int = 1) -> TrialBuilder:
    return TrialBuilder(number=number)


def make_baseline() -> TrialBuilder:
    return TrialBuilder(number=0, proposer=Proposer.BASELINE)


@dataclass(frozen=True)
class TuningBuilder:
    name: str = "demo"
    spec: dict[str, Any] = field(default_factory=lambda: {"model": {"uri": "file:///models/demo"}})

    def model(self, uri: str, **more: Any) -> TuningBuilder:
        return self.having(model={"uri": uri, **more})

    def on_pool(self, name: str, **more: Any) -> TuningBuilder:
        return self.having(nodePools=[*self.spec.get("nodePools", []), {"name": name, **more}])

    def workload(self, **fields: Any) -> TuningBuilder:
        return self.having(workload={**self.spec.get("workload", {}), **fields})

    def objective(self, metric: str, **more: Any) -> TuningBuilder:
        return self.having(objective={"metric": metric, **more})

    def constraint(self, metric: str, **limits: Any) -> TuningBuilder:
        return self.having(constraints=[*self.spec.get("constraints", []), {"metric": metric, **limits}])

    def search(self, **fields: Any) -> TuningBuilder:
        return self.having(search={**self.spec.get("search", {}), **fields})

    def budget(self, **fields: Any) -> TuningBuilder:
        return self.having(budget={**self.spec.get("budget", {}), **fields})

    def having(self, **fields: Any) -> TuningBuilder:
        """Any field of the spec, by its name in YAML."""
        return replace(self, spec={**self.spec, **fields})

    def document(self) -> dict[str, Any]:
        """As a person would write it, one pool named `here` if none was."""
        spec = {"nodePools": [{"name": "here"}], **self.spec}
        return {
            "apiVersion": "haqa.dev/v1alpha1",
            "kind": "QuantizationTuning",
            "metadata": {"name": self.name},
            "spec": spec,
        }

    def obj(self) -> QuantizationTuning:
        return parse_tuning(self.document())


def make_tuning(name: str = "demo") -> TuningBuilder:
    return TuningBuilder(name=name)


def over(baseline: Trial | None) -> References:
    """What trials are compared with, where the baseline was served."""
    return References(baseline, baseline)
