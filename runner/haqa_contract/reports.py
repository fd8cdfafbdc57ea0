"""What a runner found out: the report of a trial, and the progress on the way to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from haqa_contract.base import CONTRACT_VERSION, Contract
from haqa_contract.configuration import variant_name
from haqa_contract.failures import Failure
from haqa_contract.model_facts import CheckpointFormat, ModelFacts

ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=128)]
"""Becomes a word of a command, so that it must be nothing else."""


class Estimate(Contract):
    """A measured number with its spread.

    `low` and `high` bound the mean with 95 % confidence (Student's t over `n` repeats); with one repeat both equal
    the value.
    """

    value: float
    """Mean over the repeats"""
    low: float
    """Lower end of the 95 % confidence interval of the mean"""
    high: float
    """Upper end of the 95 % confidence interval of the mean"""
    n: int = Field(ge=1)
    """Repeats behind it"""


class Phase(Contract):
    name: str
    """fetch, quantize, publish, load, sanity, accuracy, warmup, load_test or overhead"""
    started: float
    seconds: float


class VariantReport(Contract):
    """A published checkpoint of `model.variants`, as its files are."""

    label: str
    digest: str
    """Which files: hub commit, or hash of them"""
    path: str
    """Where it lies, or will once a trial has fetched it"""
    weight_bytes: int
    """Of all tensors in its files"""
    quantization: CheckpointFormat | None = None
    """None for one that is not quantized"""
    predicted_tokens: int = 0
    """Tokens beside the next one that layers in its files predict"""

    @property
    def variant(self) -> str:
        """As a configuration names it."""
        return variant_name(self.label, self.digest)


class AdapterReport(Contract):
    """A LoRA adapter of `model.adapters`, as its files are."""

    name: str
    digest: str
    path: str
    size_bytes: int
    rank: int
    """Largest of its matrices' ranks"""
    targets: tuple[ModuleName, ...] = ()
    """Modules that it changes, by the last part of their names: q_proj"""


class ArtifactReport(Contract):
    digest: str
    """sha256 of the artifact's content address"""
    path: str
    size_bytes: int
    reused: bool
    """Already in the store: made by an earlier trial"""
    model_digest: str
    """Which model this was made from: hub commit, or hash of the files"""
    tool_versions: dict[str, str] = Field(default_factory=dict)
    peak_rss_bytes: int | None = None
    """Largest resident memory while quantizing"""
    facts: ModelFacts | None = None
    """Of a fetched model: what it is made of"""
    variants: tuple[VariantReport, ...] = ()
    """Of a fetched model: its other checkpoints"""
    adapters: tuple[AdapterReport, ...] = ()
    """Of a fetched model: what is served beside it"""


class EngineReport(Contract):
    version: str
    pid: int | None = None
    startup_s: float
    """Process start until /health answered"""
    args: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    kv_cache_tokens: int | None = None
    notes: tuple[str, ...] = ()
    """Lines of the log that say which kernels, dtype and threads are in use"""


class AccuracyReport(Contract):
    metrics: dict[str, Estimate]
    """perplexity, klDivergence, topTokenAgreement, accuracy.<task>, adapter.<name>"""
    tokens: int
    """Scored tokens behind perplexity"""


class Latency(Contract):
    """Milliseconds over the requests of one window, from the client's own clock."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


class Window(Contract):
    """One load test: fixed concurrency, warm, between two readings of the engine's own counters."""

    concurrency: int
    repeat: int
    started: float
    ended: float
    completed: int
    failed: int
    output_tokens_per_s: float
    """By the engine's counters over the window"""
    total_tokens_per_s: float
    requests_per_s: float
    ttft_ms: Latency
    itl_ms: Latency
    tpot_ms: Latency
    e2e_ms: Latency
    source: Literal["engine-metrics", "prometheus", "load-generator"]
    """Who counted the tokens"""
    client_output_tokens_per_s: float
    """The load generator's own figure, the cross-check"""
    disagreement: float
    """|engine - client| / engine for throughput; over 0.1 marks the window"""
    engine_mean_ms: dict[str, float] = Field(default_factory=dict)
    """ttft, itl, e2e means by the engine's histograms"""
    preemptions: int = 0
    peak_kv_cache_usage: float | None = None
    """Share of the KV cache in use, 0 to 1"""
    saturated: bool = False
    """Requests queued in the engine: more concurrency than it runs"""
    invalid: str | None = None
    """Why this window does not count; it was measured again"""
    look: bool = False
    """A short one, to see whether full ones are worth their time; counts where there is none of those"""

    @property
    def counts(self) -> bool:
        """Valid and full."""
        return self.invalid is None and not self.look


class LoadReport(Contract):
    windows: tuple[Window, ...]
    ended_early: str | None = None
    """Why not all windows were measured: what was asked for is out of reach"""


class TrialReport(Contract):
    """What a trial found out. Each runner step writes its own; `merged` makes one of them."""

    contract: Literal[1] = CONTRACT_VERSION
    trial: str
    artifact: ArtifactReport | None = None
    engine: EngineReport | None = None
    accuracy: AccuracyReport | None = None
    load: LoadReport | None = None
    failure: Failure | None = None
    phases: tuple[Phase, ...] = ()
    warnings: tuple[str, ...] = ()
    machine: dict[str, str] = Field(default_factory=dict)
    """CPU or GPU model, cores, kernel, versions"""
    max_model_len: int | None = None
    """Longest request that the engine takes, prompt and answer, in tokens; as it says"""

    def merged(self, later: TrialReport) -> TrialReport:
        """This report completed by a later step's; the first failure stays."""
        return TrialReport(
            trial=self.trial,
            artifact=later.artifact or self.artifact,
            engine=later.engine or self.engine,
            accuracy=later.accuracy or self.accuracy,
            load=later.load or self.load,
            failure=self.failure or later.failure,
            phases=self.phases + later.phases,
            warnings=self.warnings + later.warnings,
            machine={**self.machine, **later.machine},
            max_model_len=later.max_model_len or self.max_model_len,
        )


class Progress(Contract):
    """One line of a runner's standard output while it works: `HAQA ` + this as JSON."""

    phase: str
    done: float = Field(ge=0, le=1)
    message: str = ""


PROGRESS_PREFIX = "HAQA "
