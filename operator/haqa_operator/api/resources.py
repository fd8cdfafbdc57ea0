"""`QuantizationTrial`, the resource of a cluster: the same trial that is a line of `trials.jsonl` on one machine.

Its spec is written once. What differs from `Trial` is only the shape: engine settings are a map, as people read and
write them, and the spec is flat.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from haqa_contract import Algorithm, Configuration, Scalar, Scheme
from haqa_operator.api.base import API_VERSION, ResourceModel
from haqa_operator.api.trial import Exchange, Proposal, Proposer, Trial, TrialStatus


class ResourceMetadata(ResourceModel):
    """Kubernetes' own: labels, owner references and the rest are taken as they are."""

    model_config = {**ResourceModel.model_config, "extra": "allow"}
    name: Annotated[str, Field(max_length=253)]
    """Name of the trial: tuning, pool and number"""
    namespace: str | None = None
    """The tuning's namespace"""


class TrialConfiguration(ResourceModel):
    """One point of the search space: what is served and how."""

    scheme: Scheme = Scheme.BF16
    """Number formats of weights and activations; BF16 = the unquantized model. Of a published checkpoint the one that
    the engine computes alike"""
    algorithm: Algorithm = Algorithm.NONE
    """How the quantized weights are found"""
    group_size: int | None = None
    """Weights that share one scale; none = the scheme's own"""
    variant: Annotated[str | None, Field(max_length=80)] = None
    """Published checkpoint that is served in place of the model: its label in model.variants, @ and its digest"""
    engine: dict[str, Scalar] = Field(default_factory=dict)
    """vLLM settings that differ from the defaults, by command-line name (max-num-seqs) or environment variable"""

    @classmethod
    def of(cls, configuration: Configuration) -> TrialConfiguration:
        return cls(
            scheme=configuration.scheme,
            algorithm=configuration.algorithm,
            group_size=configuration.group_size,
            variant=configuration.variant,
            engine=configuration.settings,
        )

    def configuration(self) -> Configuration:
        return Configuration(
            scheme=self.scheme,
            algorithm=self.algorithm,
            group_size=self.group_size,
            variant=self.variant,
            engine=tuple(sorted(self.engine.items())),
        )


class QuantizationTrialSpec(ResourceModel):
    """What is tried, where and why. Cannot change."""

    tuning: Annotated[str, Field(max_length=63)]
    """Name of the tuning it belongs to"""
    pool: Annotated[str, Field(max_length=63)]
    """Name of the node pool it runs on"""
    number: Annotated[int, Field(ge=0)]
    """0 is the baseline"""
    configuration: TrialConfiguration
    """What is served and how"""
    summary: Annotated[str, Field(max_length=4096)] = ""
    """The configuration in short: W4A16/gptq g128, max-num-seqs=64"""
    proposer: Proposer
    """Who chose the configuration"""
    reasoning: Annotated[str, Field(max_length=32768)] = ""
    """Why, in the proposer's own words"""
    expected_percent: Annotated[float | None, Field(ge=0)] = None
    """What the proposer expects of the objective, in percent of the baseline's"""
    expected_low_percent: Annotated[float | None, Field(ge=0)] = None
    """Lower end of what is expected: 95 % of what the surrogate holds for possible lies between the two"""
    expected_high_percent: Annotated[float | None, Field(ge=0)] = None
    """Upper end"""
    feasible_chance: Annotated[float | None, Field(ge=0, le=1)] = None
    """Chance that it keeps all constraints, by the proposer"""
    exchanges: Annotated[tuple[Exchange, ...], Field(max_length=32)] = ()
    """Requests to the LLM that led here, the failed ones too"""
    confirms: Annotated[str | None, Field(max_length=253)] = None
    """Name of the winner that this window confirms, or not"""
    note: Annotated[str | None, Field(max_length=4096)] = None
    """Why this proposer and not the one that was asked for, for example a fallback after an invalid reply"""
    fingerprint: Annotated[str | None, Field(max_length=64)] = None
    """Trials with the same fingerprint were measured the same way on the same hardware and may be compared"""


class QuantizationTrialStatus(TrialStatus):
    """What came of the trial. Not edited after it is finished: the audit trail."""

    throughput: str | None = None
    """Output tokens/s at a glance; `metrics` has the exact value and its spread"""
    queries: dict[str, str] = Field(default_factory=dict)
    """PromQL as it was sent; `windows` gives the samples behind all load windows"""


class QuantizationTrial(ResourceModel):
    """One configuration on one node pool: who proposed it, why, and what was measured."""

    api_version: Literal["haqa.dev/v1alpha1"] = API_VERSION
    """Group and version of the resource"""
    kind: Literal["QuantizationTrial"] = "QuantizationTrial"
    """Kind of the resource"""
    metadata: ResourceMetadata
    """Name, namespace, and the tuning as the owner"""
    spec: QuantizationTrialSpec
    """What is tried, where and why. Cannot change"""
    status: QuantizationTrialStatus | None = None
    """What came of it; written by the operator alone"""

    @classmethod
    def of(cls, trial: Trial, namespace: str | None = None, fingerprint: str | None = None) -> QuantizationTrial:
        """The resource to create for a trial; what came of it goes into the status by a later write."""
        proposal = trial.proposal
        return cls(
            metadata=ResourceMetadata(name=trial.name, namespace=namespace),
            spec=QuantizationTrialSpec(
                tuning=trial.tuning,
                pool=trial.pool,
                number=trial.number,
                configuration=TrialConfiguration.of(proposal.configuration),
                summary=proposal.configuration.describe(),
                proposer=proposal.proposer,
                reasoning=proposal.reasoning,
                expected_percent=proposal.expected_percent,
                expected_low_percent=proposal.expected_low_percent,
                expected_high_percent=proposal.expected_high_percent,
                feasible_chance=proposal.feasible_chance,
                exchanges=proposal.exchanges,
                confirms=proposal.confirms,
                note=proposal.note,
                fingerprint=fingerprint,
            ),
        )

    def trial(self) -> Trial:
        """The trial as search, decision and report know it."""
        spec = self.spec
        own = TrialStatus.model_fields.keys()
        found = {name: getattr(self.status, name) for name in own} if self.status is not None else {}
        return Trial(
            name=self.metadata.name,
            tuning=spec.tuning,
            pool=spec.pool,
            number=spec.number,
            proposal=Proposal(
                configuration=spec.configuration.configuration(),
                proposer=spec.proposer,
                reasoning=spec.reasoning,
                expected_percent=spec.expected_percent,
                expected_low_percent=spec.expected_low_percent,
                expected_high_percent=spec.expected_high_percent,
                feasible_chance=spec.feasible_chance,
                exchanges=spec.exchanges,
                confirms=spec.confirms,
                note=spec.note,
            ),
            status=TrialStatus(**found),
        )
