"""`QuantizationTrial`: one configuration on one pool, who proposed it and what came of it.

The same model is a line of `trials.jsonl` on one machine and a resource in a cluster.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from haqa_operator.api.base import ResourceModel
from haqa_runner.contract import Configuration, Estimate, Failure


class Proposer(StrEnum):
    BASELINE = "baseline"
    AGENT = "agent"
    BAYESIAN = "bayesian"
    RANDOM = "random"
    GRID = "grid"
    USER = "user"


class Exchange(ResourceModel):
    """One request to the LLM and what came back; kept with the trial it led to."""

    prompt_hash: str
    """sha256 of the rendered messages"""
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_seconds: float = 0
    reply: str = ""
    """The reply as it came, cut to 4,000 characters"""
    error: str | None = None
    """What was wrong with the reply, or why there was none"""


class Proposal(ResourceModel):
    """What to try next, and why."""

    configuration: Configuration
    proposer: Proposer
    reasoning: str = ""
    exchanges: tuple[Exchange, ...] = ()
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
    phase: TrialPhase = TrialPhase.PENDING
    started: float | None = None
    """Unix seconds"""
    finished: float | None = None
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    """Measured numbers by metric key: throughput, throughput@8, ttft.p95@1, perplexity"""
    samples: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The repeats behind the estimates, in the order they were measured"""
    source: str | None = None
    """Where the serving metrics were read: engine-metrics, prometheus, load-generator or table"""
    failure: Failure | None = None
    artifact_digest: str | None = None
    artifact_reused: bool = False
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    machine_hours: float = 0
    """Hours times accelerators (or machines without one) that the trial held"""
    attempts: int = 1
    warnings: tuple[str, ...] = ()
    machine: dict[str, str] = Field(default_factory=dict)
    engine_version: str | None = None
    engine_args: tuple[str, ...] = ()
    """vLLM's arguments as they were measured, `--model` among them; host and port excepted"""
    engine_env: dict[str, str] = Field(default_factory=dict)
    """Variables that the engine was given"""


class Trial(ResourceModel):
    name: str
    tuning: str
    pool: str
    number: int = Field(ge=0)
    """0 is the baseline"""
    proposal: Proposal
    status: TrialStatus = TrialStatus()

    @property
    def configuration(self) -> Configuration:
        return self.proposal.configuration

    @property
    def is_baseline(self) -> bool:
        return self.proposal.proposer is Proposer.BASELINE

    @property
    def succeeded(self) -> bool:
        return self.status.phase is TrialPhase.SUCCEEDED
