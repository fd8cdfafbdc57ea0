"""What the control plane and a trial say to each other.

The operator (or `haqa tune`) writes a `TrialRequest`; the runner's three commands (`quantize`, `serve`, `measure`) read
it and leave a `TrialReport`. This module is the whole interface between the two sides: it needs pydantic and nothing
else, so that the control plane never imports torch and the runner never imports kubernetes.

Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes`, `_per_s`. Times of day are Unix seconds.
"""

from __future__ import annotations

from enum import StrEnum
from statistics import geometric_mean
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

CONTRACT_VERSION: Final = 1

FETCH_TRIAL: Final = "fetch"
"""Name of the request that fetches the model and says what it is; nothing is served."""

Scalar = bool | int | float | str


class Contract(BaseModel):
    """Base of everything that crosses the border: unknown fields are errors, values do not change.

    Fields answer to their camelCase names too, since some of these models are parts of the resources.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_inf_nan="constants", alias_generator=to_camel, populate_by_name=True
    )


class Scheme(StrEnum):
    """Number formats of weights and activations, by llm-compressor's preset names where there is one."""

    BF16 = "BF16"
    """The unquantized model, in the type its checkpoint has."""
    W8A8_INT8 = "W8A8-INT8"
    W4A16 = "W4A16"
    W4A16_ASYM = "W4A16-ASYM"
    W8A16 = "W8A16"
    W4A8 = "W4A8"
    W4AFP8 = "W4AFP8"
    FP8_DYNAMIC = "FP8-DYNAMIC"
    FP8_BLOCK = "FP8-BLOCK"
    NVFP4 = "NVFP4"
    NVFP4A16 = "NVFP4A16"
    MXFP4 = "MXFP4"
    MXFP4A16 = "MXFP4A16"
    MXFP8 = "MXFP8"


class Algorithm(StrEnum):
    """How the quantized weights are found."""

    NONE = "none"
    """Only for the unquantized model."""
    RTN = "rtn"
    """Plain rounding to nearest; needs no calibration data for weight-only and dynamic schemes."""
    GPTQ = "gptq"
    AWQ = "awq"
    SMOOTHQUANT = "smoothquant"
    """SmoothQuant, then rounding."""
    SMOOTHQUANT_GPTQ = "smoothquant-gptq"
    AUTOROUND = "autoround"


class FailureReason(StrEnum):
    """Every way a trial can end without a result."""

    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    MODEL_FETCH = "ModelFetch"
    QUANTIZATION_FAILED = "QuantizationFailed"
    QUANTIZATION_OOM = "QuantizationOOM"
    ENGINE_LOAD_FAILED = "EngineLoadFailed"
    ENGINE_OOM = "EngineOOM"
    ACCURACY_GATE = "AccuracyGate"
    LOAD_ERRORS = "LoadErrors"
    METRICS_MISSING = "MetricsMissing"
    TIMEOUT = "Timeout"
    EVICTED = "Evicted"

    @property
    def transient(self) -> bool:
        """Whether another attempt at the same configuration could end differently."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        FailureReason.UNSCHEDULABLE,
        FailureReason.IMAGE_PULL,
        FailureReason.MODEL_FETCH,
        FailureReason.METRICS_MISSING,
        FailureReason.EVICTED,
    }
)


class Failure(Contract):
    """Why a trial has no result."""

    reason: FailureReason = Field(description="The kind of failure; what to do about it depends on this")
    message: str = Field(
        max_length=2000, description="One or two sentences: what was wrong, with the value, and the remedy"
    )
    log_tail: tuple[str, ...] = Field(default=(), description="Last lines of the log that the message was read from")


class Configuration(Contract):
    """One point of the search space: what is served and how. Equal configurations are the same trial."""

    scheme: Scheme = Field(
        default=Scheme.BF16, description="Number formats of weights and activations; BF16 = the unquantized model"
    )
    algorithm: Algorithm = Field(default=Algorithm.NONE, description="How the quantized weights are found")
    group_size: int | None = Field(default=None, description="Weights that share one scale; none = the scheme's own")
    engine: tuple[tuple[str, Scalar], ...] = Field(
        default=(),
        description="vLLM settings that differ from the defaults, sorted by name: command-line names without dashes "
        "in front (max-num-seqs), or environment variables (VLLM_CPU_OMP_THREADS_BIND)",
    )

    @property
    def settings(self) -> dict[str, Scalar]:
        return dict(self.engine)

    @property
    def quantized(self) -> bool:
        return self.scheme is not Scheme.BF16

    @property
    def parameters(self) -> dict[str, Scalar]:
        """The configuration as the search sees it: parameter name -> value, engine settings among them.

        A replayed table may bring schemes that HAQA does not make; they sit in `engine` under `scheme` and win here.
        """
        own: dict[str, Scalar] = {"scheme": self.scheme.value, "algorithm": self.algorithm.value}
        if self.group_size is not None:
            own["group-size"] = self.group_size
        return {**own, **self.settings}

    @classmethod
    def of(
        cls,
        scheme: Scheme | str = Scheme.BF16,
        algorithm: Algorithm | str = Algorithm.NONE,
        group_size: int | None = None,
        **engine: Scalar,
    ) -> Configuration:
        """For code and tests: engine settings as keywords, `_` for `-` in lower-case names."""
        named = {k if k.isupper() else k.replace("_", "-"): v for k, v in engine.items()}
        return cls(
            scheme=Scheme(scheme),
            algorithm=Algorithm(algorithm),
            group_size=group_size,
            engine=tuple(sorted(named.items())),
        )

    def describe(self) -> str:
        """Short text for tables and logs: `W4A16/gptq g128, max-num-seqs=64`."""
        head = self.scheme.value if not self.quantized else f"{self.scheme.value}/{self.algorithm.value}"
        if self.group_size is not None:
            head += f" g{self.group_size}"
        return ", ".join([head, *(f"{name}={value}" for name, value in self.engine)])


class ModelSource(Contract):
    uri: str = Field(description="hf://org/name, file:///path, s3://bucket/path or pvc://claim/path (seen as a mount)")
    revision: str | None = None
    token_env: str | None = Field(default=None, description="Name of the environment variable that holds the hub token")
    trust_remote_code: bool = False
    mount: str | None = Field(default=None, description="Where a pvc:// claim is mounted in this container")


class Calibration(Contract):
    """Text that quantization looks at."""

    dataset: str = Field(
        default="builtin://python-stdlib/calibration",
        description="builtin://python-stdlib/SPLIT, file:///path (.jsonl with a `text` field, or .txt), "
        "hf://datasets/org/name?split=S&field=F&config=C, or s3://bucket/key",
    )
    samples: int = Field(default=128, ge=1, description="Pieces of text to look at")
    sequence_length: int = Field(default=512, ge=8, description="Tokens per sample")
    seed: int = Field(default=0, description="Same seed, same text")


class Evaluation(Contract):
    """How accuracy is measured, always through the served engine."""

    dataset: str = Field(
        default="builtin://python-stdlib/heldout",
        description="Held-out text, none of which quantization has seen; written as in calibration.dataset",
    )
    samples: int = Field(default=32, ge=1, description="Windows of held-out text for perplexity and KL divergence")
    sequence_length: int = Field(default=256, ge=8, description="Tokens per window")
    top_logprobs: int = Field(default=20, ge=1, le=20, description="Tokens kept per position for KL divergence")
    tasks: tuple[str, ...] = Field(default=(), description="lm-eval task names")
    task_limit: int | None = Field(default=None, ge=1, description="Documents per task")
    task_path: str | None = Field(default=None, description="Folder with lm-eval task YAML files of one's own")
    seed: int = Field(default=0, description="Same seed, same text")


class Workload(Contract):
    """The traffic a configuration is measured under."""

    input_tokens: int = Field(default=256, ge=1, description="Tokens of every prompt")
    output_tokens: int = Field(default=128, ge=1, description="Tokens of every answer")
    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 8), description="Levels to measure: requests in flight at once"
    )
    requests_per_level: int | None = Field(
        default=None, ge=1, description="Requests in one window; by default 4 per stream, at least 8"
    )
    duration_s: float | None = Field(
        default=None, gt=0, alias="durationSeconds", description="Seconds of one window; or requestsPerLevel"
    )
    warmup_requests: int = Field(default=2, ge=0, description="Per stream, before the first window of each level")
    repeats: int = Field(default=3, ge=1, description="Windows per level")
    dataset: str | None = Field(default=None, description="Prompts to use instead of synthetic text; a dataset URI")
    request_timeout_s: float = Field(
        default=120, gt=0, alias="requestTimeoutSeconds", description="Longest wait for one answer"
    )
    seed: int = Field(default=0, description="Same seed, same prompts")

    @model_validator(mode="after")
    def _levels_and_length(self) -> Workload:
        if not self.concurrency:
            raise ValueError("concurrency is empty; name at least one level, for example [1, 8]")
        twice = sorted({c for c in self.concurrency if self.concurrency.count(c) > 1})
        if twice:
            raise ValueError(f"concurrency {twice[0]} is listed twice; leave it in once and raise repeats instead")
        if self.requests_per_level is not None and self.duration_s is not None:
            raise ValueError("requestsPerLevel and durationSeconds are both given; a window ends by one of them")
        return self

    def requests_at(self, concurrency: int) -> int:
        """Requests of one window at this level, where requests end it and not time."""
        return self.requests_per_level or max(8, 4 * concurrency)


class EngineLaunch(Contract):
    """The vLLM command, built by the control plane; the same list goes into the winner's Deployment."""

    args: tuple[str, ...] = Field(description="Arguments of vllm.entrypoints.openai.api_server, host and port excepted")
    env: dict[str, str] = Field(default_factory=dict)
    served_model_name: str
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    startup_timeout_s: float = Field(default=900, gt=0)


class AccuracyGate(Contract):
    """A constraint that accuracy alone decides: missing it ends the trial before the load test."""

    metric: str = Field(description="perplexity, klDivergence or accuracy.<task>")
    min: float | None = None
    max: float | None = None


class TrialRequest(Contract):
    """Everything a trial needs to know. Holds no secret: tokens are named by environment variable."""

    contract: Literal[1] = CONTRACT_VERSION
    tuning: str
    trial: str
    pool: str
    model: ModelSource
    configuration: Configuration
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()
    workload: Workload = Workload()
    engine: EngineLaunch
    gates: tuple[AccuracyGate, ...] = ()
    baseline: bool = Field(default=False, description="This trial leaves the reference distributions for KL divergence")
    reference: str | None = Field(
        default=None, description="Where the baseline's distributions are kept, inside the store"
    )
    report: str | None = Field(
        default=None, description="Where measure keeps the trial's whole report, inside the store; none = nowhere"
    )
    store: str = Field(description="Artifact store: a folder, or s3://bucket/prefix")
    directory: str = Field(description="This trial's own folder: logs, step reports, `model` link")
    cache: str = Field(description="Folder for fetched models and unpacked artifacts; may be shared and may be lost")
    quantize_timeout_s: float = Field(default=7200, gt=0)
    measure_timeout_s: float = Field(default=3600, gt=0)
    scrape_grace_s: float = Field(
        default=0,
        ge=0,
        description="How long measure stays up after its last window, so that a last Prometheus scrape is taken",
    )


class Estimate(Contract):
    """A measured number with its spread.

    `low` and `high` bound the mean with 95 % confidence (Student's t over `n` repeats); with one repeat both equal
    the value.
    """

    value: float = Field(description="Mean over the repeats")
    low: float = Field(description="Lower end of the 95 % confidence interval of the mean")
    high: float = Field(description="Upper end of the 95 % confidence interval of the mean")
    n: int = Field(ge=1, description="Repeats behind it")


class Phase(Contract):
    name: str = Field(description="fetch, quantize, publish, load, sanity, accuracy, warmup, load_test or overhead")
    started: float
    seconds: float


class ArtifactReport(Contract):
    digest: str = Field(description="sha256 of the artifact's content address")
    path: str
    size_bytes: int
    reused: bool = Field(description="Already in the store: made by an earlier trial")
    model_digest: str = Field(description="Which model this was made from: hub commit, or hash of the files")
    tool_versions: dict[str, str] = Field(default_factory=dict)
    peak_rss_bytes: int | None = Field(default=None, description="Largest resident memory while quantizing")
    config: str | None = Field(
        default=None, description="Of a fetched model: what the search reads of its config.json, as JSON"
    )
    weight_bytes: int | None = Field(default=None, description="Of a fetched model: size of its tensors")


class EngineReport(Contract):
    version: str
    pid: int | None = None
    startup_s: float = Field(description="Process start until /health answered")
    args: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    kv_cache_tokens: int | None = None
    notes: tuple[str, ...] = Field(
        default=(), description="Lines of the log that say which kernels, dtype and threads are in use"
    )


class AccuracyReport(Contract):
    metrics: dict[str, Estimate] = Field(description="perplexity, klDivergence, topTokenAgreement, accuracy.<task>")
    tokens: int = Field(description="Scored tokens behind perplexity")


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
    output_tokens_per_s: float = Field(description="By the engine's counters over the window")
    total_tokens_per_s: float
    requests_per_s: float
    ttft_ms: Latency
    itl_ms: Latency
    tpot_ms: Latency
    e2e_ms: Latency
    source: Literal["engine-metrics", "prometheus", "load-generator"] = Field(description="Who counted the tokens")
    client_output_tokens_per_s: float = Field(description="The load generator's own figure, the cross-check")
    disagreement: float = Field(description="|engine - client| / engine for throughput; over 0.1 marks the window")
    engine_mean_ms: dict[str, float] = Field(
        default_factory=dict, description="ttft, itl, e2e means by the engine's histograms"
    )
    preemptions: int = 0
    peak_kv_cache_usage: float | None = Field(default=None, description="Share of the KV cache in use, 0 to 1")
    saturated: bool = Field(default=False, description="Requests queued in the engine: more concurrency than it runs")
    invalid: str | None = Field(default=None, description="Why this window does not count; it was measured again")


class LoadReport(Contract):
    windows: tuple[Window, ...]


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
    machine: dict[str, str] = Field(default_factory=dict, description="CPU or GPU model, cores, kernel, versions")

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
        )


class Progress(Contract):
    """One line of a runner's standard output while it works: `HAQA ` + this as JSON."""

    phase: str
    done: float = Field(ge=0, le=1)
    message: str = ""


PROGRESS_PREFIX = "HAQA "


class ServedEngine(Contract):
    """An engine that is already running, as the comparison reaches it."""

    name: str = Field(description="Name of the trial whose configuration it runs")
    base_url: str = Field(description="For example http://127.0.0.1:8000")
    served_model_name: str
    model: str = Field(description="Folder with the model's tokenizer")


class CompareRequest(Contract):
    """Winner and baseline, both warm and side by side, measured in turn so that drift of the machine cancels out."""

    contract: Literal[1] = CONTRACT_VERSION
    winner: ServedEngine
    baseline: ServedEngine
    workload: Workload = Workload()
    rounds: int = Field(default=5, ge=2, le=50, description="Pairs of windows at every level; an interval needs two")
    directory: str = Field(description="Where compare.json and the log go")
    timeout_s: float = Field(default=3600, gt=0)


class ComparedRound(Contract):
    """Two windows of one level, measured one after the other; which came first alternates."""

    concurrency: int
    round: int
    winner: Window
    baseline: Window

    @property
    def ratio(self) -> float:
        """Output tokens/s of the winner over the baseline's."""
        return self.winner.output_tokens_per_s / self.baseline.output_tokens_per_s


class LevelRatio(Contract):
    concurrency: int
    ratio: Estimate = Field(
        description="Output tokens/s, winner over baseline: 95 % interval over the rounds' log ratios"
    )


class CompareReport(Contract):
    """What came of a comparison; written to compare.json in the request's folder."""

    contract: Literal[1] = CONTRACT_VERSION
    winner: str
    baseline: str
    rounds: tuple[ComparedRound, ...] = Field(default=(), description="In the order they were measured")
    ratio: Estimate | None = Field(
        default=None, description="Geometric mean over the levels, interval over the rounds; none if it failed"
    )
    levels: tuple[LevelRatio, ...] = ()
    failure: Failure | None = None
    seconds: float = 0
    warnings: tuple[str, ...] = ()

    def ratio_at(self, concurrency: int) -> Estimate:
        """Raises KeyError if that level was not measured."""
        return {level.concurrency: level.ratio for level in self.levels}[concurrency]

    @property
    def winner_values(self) -> tuple[float, ...]:
        """Output tokens/s round by round, the geometric mean over the levels of each."""
        return self._values("winner")

    @property
    def baseline_values(self) -> tuple[float, ...]:
        return self._values("baseline")

    def _values(self, side: Literal["winner", "baseline"]) -> tuple[float, ...]:
        by_round: dict[int, list[float]] = {}
        for compared in self.rounds:
            window: Window = getattr(compared, side)
            by_round.setdefault(compared.round, []).append(window.output_tokens_per_s)
        return tuple(geometric_mean(values) for _, values in sorted(by_round.items()))
