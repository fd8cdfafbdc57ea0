"""What the control plane asks of a runner: one trial, with everything it needs to know and no secret."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from haqa_contract.base import CONTRACT_VERSION, Contract
from haqa_contract.configuration import Configuration

AcceleratorVendor = Literal["nvidia", "amd", "intel"]

FETCH_TRIAL: Final = "fetch"
"""Name of the request that fetches the model and says what it is; nothing is served."""


class ModelSource(Contract):
    uri: str
    """hf://org/name, file:///path, s3://bucket/path or pvc://claim/path (seen as a mount)"""
    revision: str | None = None
    token_env: str | None = None
    """Name of the environment variable that holds the hub token"""
    trust_remote_code: bool = False
    mount: str | None = None
    """Where a pvc:// claim is mounted in this container"""


class VariantSource(Contract):
    """A published checkpoint of the same model."""

    label: str
    source: ModelSource


class AdapterSource(Contract):
    """A LoRA adapter of the model."""

    name: str
    """As requests name it"""
    source: ModelSource
    digest: str | None = None
    """Which files it has to be; none where it is only now looked at"""


class Calibration(Contract):
    """Text that quantization is calibrated on. The defaults are those for CPUs; docs/measuring.md has the others."""

    dataset: str = "builtin://python-stdlib/calibration"
    """builtin://python-stdlib/SPLIT, file:///path (.jsonl with a `text` field, or .txt),
    hf://datasets/org/name?split=S&field=F&config=C, or s3://bucket/key"""
    samples: int = Field(default=128, ge=1)
    """Pieces of text"""
    sequence_length: int = Field(default=512, ge=8)
    """Tokens per sample"""
    seed: int = 0
    """Same seed, same text"""


class Evaluation(Contract):
    """How accuracy is measured, always through the served engine. The defaults are those for CPUs; docs/measuring.md
    has the others."""

    dataset: str = "builtin://python-stdlib/heldout"
    """Held-out text, none of which quantization has seen; written as in calibration.dataset"""
    samples: int = Field(default=32, ge=1)
    """Windows of held-out text for perplexity and KL divergence"""
    sequence_length: int = Field(default=256, ge=8)
    """Tokens per window"""
    top_logprobs: int = Field(default=20, ge=1, le=20)
    """Tokens kept per position for KL divergence"""
    tasks: tuple[str, ...] = ()
    """lm-eval task names"""
    task_limit: int | None = Field(default=None, ge=1)
    """Documents per task"""
    task_path: str | None = None
    """Folder with lm-eval task YAML files of one's own"""
    seed: int = 0
    """Same seed, same text"""


class Workload(Contract):
    """The traffic a configuration is measured under. The defaults are those for CPUs; docs/measuring.md has the
    others."""

    input_tokens: int = Field(default=256, ge=1)
    """Tokens of every prompt"""
    output_tokens: int = Field(default=128, ge=1)
    """Tokens of every answer"""
    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = (1, 8)
    """Levels to measure: requests in flight at once"""
    requests_per_level: int | None = Field(default=None, ge=1)
    """Requests in one window; by default 4 per stream, at least 8"""
    duration_s: float | None = Field(default=None, gt=0, alias="durationSeconds")
    """Seconds of one window; or requestsPerLevel"""
    warmup_requests: int = Field(default=2, ge=0)
    """Per stream, before the first window of each level"""
    repeats: int = Field(default=3, ge=1)
    """Windows per level"""
    dataset: str | None = None
    """Prompts to use instead of synthetic text; a dataset URI"""
    request_timeout_s: float = Field(default=120, gt=0, alias="requestTimeoutSeconds")
    """Longest wait for one answer"""
    seed: int = 0
    """Same seed, same prompts"""

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

    args: tuple[str, ...]
    """Arguments of vllm.entrypoints.openai.api_server, host and port excepted"""
    env: dict[str, str] = Field(default_factory=dict)
    served_model_name: str
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    startup_timeout_s: float = Field(default=900, gt=0)


class AccuracyGate(Contract):
    """A constraint that accuracy alone decides: missing it ends the trial before the load test."""

    metric: str
    """perplexity, klDivergence or accuracy.<task>"""
    min: float | None = None
    max: float | None = None


class LoadGate(Contract):
    """A figure of the load test that a trial cannot do without: once it is out of reach, nothing more is measured."""

    metric: str
    """throughput, totalThroughput, requestRate, ttft, itl, tpot or e2e"""
    percentile: int | None = None
    """Of a latency; none = the mean"""
    concurrency: int | None = None
    """One level of the workload; none = all of them (rates: geometric mean, latencies: worst level)"""
    min: float | None = None
    max: float | None = None
    deviation: float = Field(ge=0)
    """Standard deviation of the figure's logarithm from one full window to the next"""
    because: str
    """What sets the limit, in words: `trial 3 has 43.8 tokens/s`"""


class TrialRequest(Contract):
    """Everything a trial needs to know. Holds no secret: tokens are named by environment variable."""

    contract: Literal[1] = CONTRACT_VERSION
    tuning: str
    trial: str
    pool: str
    model: ModelSource
    variants: tuple[VariantSource, ...] = ()
    """To be looked at (of a fetch), or the one that the configuration names"""
    adapters: tuple[AdapterSource, ...] = ()
    """Served beside the model; to be looked at, of a fetch"""
    adapters_directory: str | None = None
    """Where quantize leaves them, one folder each; none = `adapters` in this trial's own folder"""
    model_digest: str | None = None
    """Which files of the model were looked at; none where they are only now"""
    configuration: Configuration
    artifact: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Content address of what is served: it is in the store, and is fetched and not made"""
    quantize_head: bool = False
    """Round the output head too"""
    accelerator: AcceleratorVendor | None = None
    """Whose accelerators the pool has; none = CPUs"""
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()
    samples_by_default: tuple[Literal["calibration", "evaluation"], ...] = ()
    """Whose `samples` nobody has named: where the text holds fewer, all of it is taken"""
    workload: Workload = Workload()
    engine: EngineLaunch
    gates: tuple[AccuracyGate, ...] = ()
    load_gates: tuple[LoadGate, ...] = ()
    """None = every window is measured"""
    expected_tokens_per_s: float | None = Field(default=None, gt=0)
    """Output tokens/s of the engine at its fastest, roughly; the load generator begins with processes for that many"""
    accuracy: bool = True
    """False: it is known, and speed alone is measured"""
    baseline: bool = False
    """This trial leaves the reference distributions for KL divergence"""
    reference: str | None = None
    """Where the baseline's distributions are kept, inside the store"""
    report: str | None = None
    """Where measure keeps the trial's whole report, inside the store; none = nowhere"""
    store: str
    """Artifact store: a folder, or s3://bucket/prefix"""
    directory: str
    """This trial's own folder: logs, step reports, `model` link"""
    cache: str
    """Folder for fetched models and unpacked artifacts; may be shared and may be lost"""
    quantize_timeout_s: float = Field(default=7200, gt=0)
    measure_timeout_s: float = Field(default=3600, gt=0)
    scrape_grace_s: float = Field(default=0, ge=0)
    """How long measure stays up after its last window, so that a last Prometheus scrape is taken"""
