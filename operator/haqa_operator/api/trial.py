"""`QuantizationTrial`: one configuration on one pool, who proposed it and what came of it.

The same model is a line of `trials.jsonl` on one machine and a resource in a cluster.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from haqa_contract import Configuration, Estimate, Failure
from haqa_operator.api.base import ResourceModel


class Proposer(StrEnum):
    BASELINE = "baseline"
    REFERENCE = "reference"
    """The baseline where it cannot be served: its accuracy alone, found without an engine"""
    AGENT = "agent"
    BAYESIAN = "bayesian"
    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"
    USER = "user"
    CONFIRMATION = "confirmation"
    """A window of measuring winner and baseline alternately, after the search"""
    EARLIER_RUN = "earlier-run"
    """The answer of an earlier run of the same tuning, before its spec changed"""


class Exchange(ResourceModel):
    """One request to the LLM and what came back; kept with the trial it led to."""

    prompt_hash: str
    """sha256 of the rendered messages"""
    model: str
    """Name of the LLM as the provider gave it"""
    prompt_tokens: int = 0
    """Tokens of the request"""
    completion_tokens: int = 0
    """Tokens of the reply"""
    latency_seconds: float = 0
    """Time until the reply was complete"""
    reply: str = ""
    """The reply as it came, cut to 4,000 characters"""
    error: str | None = None
    """What was wrong with the reply, or why there was none"""


class Proposal(ResourceModel):
    """What to try next, and why."""

    configuration: Configuration
    """What is served and how"""
    proposer: Proposer
    """Who chose it"""
    reasoning: str = ""
    """Why, in the proposer's own words"""
    expected_percent: Annotated[float | None, Field(ge=0)] = None
    """What the proposer expects of the objective, in percent of the baseline's"""
    expected_low_percent: Annotated[float | None, Field(ge=0)] = None
    """Lower end of what is expected: 95 % of what the surrogate holds for possible lies between the two"""
    expected_high_percent: Annotated[float | None, Field(ge=0)] = None
    """Upper end"""
    feasible_chance: Annotated[float | None, Field(ge=0, le=1)] = None
    """Chance that it keeps all constraints, by the proposer"""
    exchanges: tuple[Exchange, ...] = ()
    """Requests to the LLM that led here, the failed ones too"""
    confirms: str | None = None
    """Name of the winner that this window confirms, or not"""
    note: str | None = None
    """Why this proposer and not the one that was asked for, for example a fallback after an invalid reply"""


class TrialPhase(StrEnum):
    PENDING = "Pending"
    QUANTIZING = "Quantizing"
    LOADING = "Loading"
    EVALUATING = "Evaluating"
    MEASURING = "Measuring"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        return self in (TrialPhase.SUCCEEDED, TrialPhase.FAILED)


class TrialStatus(ResourceModel):
    """What came of a trial."""

    phase: TrialPhase = TrialPhase.PENDING
    """Where the trial is; Succeeded and Failed are final"""
    started: float | None = None
    """Unix seconds"""
    finished: float | None = None
    """Unix seconds"""
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    """Measured numbers by metric key: throughput, throughput@8, ttft.p95@1, perplexity"""
    samples: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The repeats behind the estimates, in the order they were measured"""
    source: str | None = None
    """Where the serving metrics were read: engine-metrics, prometheus, load-generator or table"""
    failure: Failure | None = None
    """Why there is no result"""
    ended_early: str | None = None
    """Why its load test was not carried to the end; such a trial is no answer, and its figures are rough"""
    artifact_digest: str | None = None
    """Content address of the quantized model"""
    artifact_reused: bool = False
    """An earlier trial had made the quantized model"""
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    """Where the time went: fetch, quantize, publish, load, sanity, accuracy, warmup, load_test, overhead"""
    machine_hours: float = 0
    """Hours times accelerators (or machines without one) that the trial held"""
    attempts: int = 1
    """Tries it took; failures that another try could mend do not count against the configuration"""
    warnings: tuple[str, ...] = ()
    """What does not make the numbers wrong but should be known"""
    node: str | None = None
    """Name of the node it ran on"""
    machine: dict[str, str] = Field(default_factory=dict)
    """CPU or GPU model, cores, kernel and versions, as the trial found them"""
    max_model_len: int | None = None
    """Longest request that the engine took, prompt and answer together, in tokens"""
    engine_version: str | None = None
    """vLLM's version"""
    engine_args: tuple[str, ...] = ()
    """vLLM's arguments as they were measured, `--model` among them; host and port excepted"""
    engine_env: dict[str, str] = Field(default_factory=dict)
    """Variables that the engine was given"""


class Trial(ResourceModel):
    """One configuration on one pool: who proposed it and what came of it."""

    name: str
    """Unique in its namespace: tuning, pool and number"""
    tuning: str
    """Name of the tuning it belongs to"""
    pool: str
    """Name of the node pool it runs on"""
    number: int = Field(ge=0)
    """0 is the baseline"""
    proposal: Proposal
    """What is tried, and why"""
    status: TrialStatus = TrialStatus()
    """What came of it"""

    @property
    def configuration(self) -> Configuration:
        return self.proposal.configuration

    @property
    def is_baseline(self) -> bool:
        """The model as it is, with the engine's defaults; served, or only scored."""
        return self.proposal.proposer in (Proposer.BASELINE, Proposer.REFERENCE)

    @property
    def is_reference(self) -> bool:
        """A baseline that is not served, since no replica holds it: it says how accurate the model is, and no more."""
        return self.proposal.proposer is Proposer.REFERENCE

    @property
    def is_confirmation(self) -> bool:
        """A window of measuring winner and baseline alternately: no part of the search."""
        return self.proposal.proposer is Proposer.CONFIRMATION

    @property
    def called(self) -> str:
        """In a sentence: `the baseline`, `trial 3`."""
        return "the baseline" if self.is_baseline else f"trial {self.number}"

    @property
    def succeeded(self) -> bool:
        """Also where its load test ended early (`status.ended_early`)."""
        return self.status.phase is TrialPhase.SUCCEEDED
