"""`QuantizationTuning`: the model, where it shall be served, what counts, and how much may be spent finding out."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from haqa_contract import Algorithm, Calibration, Evaluation, Scalar, Scheme, Workload
from haqa_operator.api.base import API_VERSION, DNS_LABEL, Duration, ResourceModel, keyed_by
from haqa_operator.api.metrics import LATENCIES, PERCENTILES, MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.status import TuningStatus

MAX_MODEL_LEN = "max-model-len"
"""vLLM's setting that `serving.maxModelLen` becomes."""


class SecretKeyRef(ResourceModel):
    """One key of a Secret."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret, in the tuning's namespace"""
    key: Annotated[str, Field(max_length=253)] = "token"
    """Key inside the Secret"""
    env: Annotated[str | None, Field(max_length=253)] = None
    """On one machine (`haqa tune`): the environment variable that holds it"""


class ModelSpec(ResourceModel):
    """The model to serve."""

    uri: Annotated[str, Field(pattern=r"^(hf|file|s3|pvc)://.+", max_length=1024)]
    """Where the model is: hf://org/name, pvc://claim/path, s3://bucket/path or file:///path (local runs)"""
    revision: Annotated[str | None, Field(max_length=255)] = None
    """Branch, tag or commit, for hf://"""
    token_secret_ref: SecretKeyRef | None = None
    """Token for a gated model"""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code"""


class Toleration(ResourceModel):
    """A taint that pods may be scheduled in spite of, as in a pod's own tolerations."""

    key: Annotated[str | None, Field(max_length=317)] = None
    """Key of the taint; none = every taint, with operator Exists"""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists: whatever the taint's value; Equal: the value below"""
    value: Annotated[str | None, Field(max_length=63)] = None
    """Value of the taint, for operator Equal"""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none = all effects"""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated; none = for ever"""


class HardwareOverride(ResourceModel):
    """What the node labels say wrongly or not at all."""

    vendor: Literal["nvidia", "amd", "intel", "cpu"] | None = None
    """Maker of the accelerators; cpu = none, vLLM runs on the processor"""
    product: Annotated[str | None, Field(max_length=128)] = None
    """For example NVIDIA-L40S"""
    memory_gib: Annotated[float | None, Field(gt=0)] = None
    """Memory of one accelerator, or of the machine on CPU"""
    compute_capability: Annotated[str | None, Field(pattern=r"^\d+\.\d+$", max_length=8)] = None
    """NVIDIA: for example 8.9"""
    isa: Literal["avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "neon"] | None = None
    """CPU: the widest instruction set that it has; env ONEDNN_MAX_CPU_ISA caps what oneDNN uses of it"""


class NodePool(ResourceModel):
    """Machines of one kind. Every pool gets a winner of its own."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=30)]
    """Name of the pool, part of the names of its trials and of its Deployment"""
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Labels of the pool's nodes; not used by `haqa tune`, which runs every pool on this machine"""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the trial pods and the winner's pods tolerate"""
    gpus_per_replica: Annotated[int, Field(ge=0, le=64)] = 1
    """Accelerators of one vLLM replica; ignored on CPU nodes"""
    cost_per_hour: Annotated[float | None, Field(gt=0)] = None
    """Price of one replica's machines per hour, in your currency; needed for throughputPerCost"""
    env: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Environment of the engine on this pool, in trials and in the winner's Deployment"""
    image: Annotated[str | None, Field(max_length=512)] = None
    """Engine image; by default the official vLLM image for the pool's hardware"""
    hardware: HardwareOverride | None = None
    """What the node labels say wrongly or not at all; by default they are believed"""


class Serving(ResourceModel):
    """What the winner has to be able to serve, whatever load it is measured under."""

    max_model_len: Annotated[int | None, Field(ge=1)] = None
    """Longest request that is served, prompt and answer together, in tokens; longer ones are refused. By default what
    the model can take, or as much of it as the memory holds (vLLM's `--max-model-len auto`)"""


class Direction(StrEnum):
    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Objective(ResourceModel):
    """A measured number to make as good as can be."""

    metric: Annotated[str, Field(max_length=128)] = "throughput"
    """throughput (output tokens/s), throughputPerCost, totalThroughput, requestRate, ttft, itl, tpot, e2e (ms)"""
    percentile: int | None = None
    """For latencies: 50, 90, 95 or 99; none = the mean"""
    concurrency: Annotated[int | None, Field(ge=1)] = None
    """One level of the workload; none = all of them (throughput: geometric mean, latency: worst level)"""
    direction: Direction | None = None
    """By default the metric's own: more throughput, less latency"""

    @property
    def key(self) -> MetricKey:
        return MetricKey(self.metric, self.percentile, self.concurrency)

    @property
    def maximize(self) -> bool:
        if self.direction is not None:
            return self.direction is Direction.MAXIMIZE
        return higher_is_better(self.metric) is not False

    @model_validator(mode="after")
    def _percentile_of_a_latency(self) -> Objective:
        check_percentile(self.metric, self.percentile)
        return self


class Constraint(ResourceModel):
    """A limit that the winner keeps. Degradation is relative to the measured baseline."""

    metric: Annotated[str, Field(max_length=128)]
    """perplexity, klDivergence, accuracy.<task>, ttft, itl, tpot, e2e (ms), throughput, requestRate"""
    percentile: int | None = None
    """For latencies: 50, 90, 95 or 99; none = the mean"""
    concurrency: Annotated[int | None, Field(ge=1)] = None
    """One level of the workload; none = all of them (throughput: geometric mean, latency: worst level)"""
    max_degradation_percent: Annotated[float | None, Field(ge=0)] = None
    """How much worse than the baseline it may be"""
    min: float | None = None
    """Smallest value the winner may have"""
    max: float | None = None
    """Largest value the winner may have"""

    @property
    def key(self) -> MetricKey:
        return MetricKey(self.metric, self.percentile, self.concurrency)

    @model_validator(mode="after")
    def _says_something(self) -> Constraint:
        check_percentile(self.metric, self.percentile)
        limits = (self.max_degradation_percent, self.min, self.max)
        if all(limit is None for limit in limits):
            raise ValueError(f"{self.metric}: no limit; give min, max or maxDegradationPercent")
        if self.max_degradation_percent is not None and (self.min is not None or self.max is not None):
            raise ValueError(f"{self.metric}: maxDegradationPercent excludes min and max; write two constraints")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.metric}: min {self.min:g} is above max {self.max:g}; nothing can meet both")
        return self

    def describe(self) -> str:
        if self.max_degradation_percent is not None:
            return f"{self.key} at most {self.max_degradation_percent:g} % worse than the baseline"
        bounds = [
            f">= {self.min:g}" if self.min is not None else "",
            f"<= {self.max:g}" if self.max is not None else "",
        ]
        return f"{self.key} " + " and ".join(bound for bound in bounds if bound)


def check_percentile(metric: str, percentile: int | None) -> None:
    if percentile is None:
        return
    if metric not in LATENCIES:
        raise ValueError(f"percentile {percentile}: {metric} has none; only {', '.join(LATENCIES)} have")
    if percentile not in PERCENTILES:
        raise ValueError(f"percentile {percentile}: choose one of {', '.join(map(str, PERCENTILES))}")


class SearchStrategy(StrEnum):
    AGENT = "agent"
    BAYESIAN = "bayesian"
    RANDOM = "random"
    GRID = "grid"


ENDPOINT = r"^https?://[^/?#@\s\\]+(/[^?#\s\\]*)?$"
"""An address that paths are appended to: a query would take them up, and a user's name and password are no address."""


class AgentSpec(ResourceModel):
    """The LLM that picks the next configuration."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """litellm's name of the model: openai/gpt-5, anthropic/claude-…, hosted_vllm/NAME"""
    api_base: Annotated[str | None, Field(max_length=1024)] = None
    """Endpoint of an OpenAI-compatible server: http or https, host and path; redirects are not followed"""
    secret_ref: SecretKeyRef | None = None
    """API key"""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Randomness of the replies; 0 = as little as the model has"""
    max_tokens: Annotated[int, Field(ge=64)] = 2048
    """Longest reply"""
    timeout: Duration = timedelta(seconds=120)
    """Longest wait for one reply"""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """More attempts after a 429, a 5xx or a time-out, with back-off"""

    @field_validator("api_base")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(ENDPOINT, value):
            return value
        if "@" in value.partition("://")[2].partition("/")[0]:  # not repeated: it may have a password
            raise ValueError("has a user's name before the host; give the key in secretRef")
        raise ValueError(
            f"{value!r} is not an endpoint; give http:// or https://, a host and at most a path, without ? and #"
        )


class Search(ResourceModel):
    """How the next configuration is picked, and among which."""

    strategy: SearchStrategy = SearchStrategy.AGENT
    """Who picks the next configuration; without an agent configured, `agent` means `bayesian`"""
    schemes: tuple[Scheme, ...] | None = None
    """Quantization schemes to consider; by default all that the hardware and vLLM can serve"""
    algorithms: tuple[Algorithm, ...] | None = None
    """Quantization algorithms to consider; by default rtn, gptq and smoothquant-gptq where they apply"""
    group_sizes: tuple[Annotated[int, Field(ge=-1)], ...] = ()
    """Group sizes to consider for grouped schemes; by default the scheme's own"""
    engine: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    """vLLM settings and the values to consider, by command-line name (max-num-seqs: [64, 256]) or variable name"""
    fixed_engine: dict[str, Scalar] = Field(default_factory=dict)
    """vLLM settings that every trial has, the baseline too"""
    agent: AgentSpec | None = None
    """The LLM, for strategy agent"""
    seed: int = 0
    """Same seed, same measurements: same proposals"""
    stop_after_no_improvement: Annotated[int | None, Field(ge=1)] = None
    """End after this many finished trials without a better one"""
    min_improvement_percent: Annotated[float, Field(ge=0, le=100)] = 3.0
    """Smaller differences count as none, besides the measured noise; about what restarting the engine changes"""

    @field_validator("engine", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, values in value.items():
                if not isinstance(values, (list, tuple)) or not values:
                    raise ValueError(f"{name}: {values!r} is not a list of values; write {name}: [{values}]")
                if len({repr(v) for v in values}) != len(values):
                    raise ValueError(f"{name}: {values!r} has a value twice; leave each in once")
        return value

    @model_validator(mode="after")
    def _fixed_or_searched(self) -> Search:
        both = sorted(set(self.engine) & set(self.fixed_engine))
        if both:
            raise ValueError(f"{both[0]} is in engine and in fixedEngine; leave it in one of them")
        return self


class Budget(ResourceModel):
    """What the search may cost. The first limit that is reached ends it."""

    max_trials: Annotated[int, Field(ge=1)] = 12
    """Finished trials a pool, the baseline not counted"""
    max_failed_trials: Annotated[int | None, Field(ge=1)] = None
    """Failed trials a pool"""
    max_gpu_hours: Annotated[float | None, Field(gt=0)] = None
    """Accelerator-hours a pool; machine-hours on CPU"""
    max_duration: Duration | None = None
    """Time a pool's search may take, from its first trial"""
    trial_timeout: Duration = timedelta(hours=2)
    """Longest time for one trial"""
    max_agent_tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens the agent may use, prompts and replies"""

    @field_validator("max_duration", "trial_timeout")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value <= timedelta(0):
            raise ValueError(f"{value.total_seconds():g}s leaves no time for a trial; give a positive duration")
        return value


class Artifacts(ResourceModel):
    """Where quantized models are kept; exactly one."""

    pvc: Annotated[str | None, Field(min_length=1)] = None
    """Name of a PersistentVolumeClaim"""
    s3: Annotated[str | None, Field(pattern=r"^s3://.+")] = None
    """s3://bucket/prefix"""
    path: Annotated[str | None, Field(min_length=1)] = None
    """Folder, for `haqa tune`"""

    @model_validator(mode="after")
    def _one(self) -> Artifacts:
        given = [name for name in ("pvc", "s3", "path") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"{len(given)} of pvc, s3 and path given ({', '.join(given) or 'none'}); give exactly one")
        return self


class OutputDeployment(ResourceModel):
    """The Deployment that serves the winner."""

    name: Annotated[str | None, Field(pattern=DNS_LABEL)] = None
    """By default TUNING-POOL"""
    replicas: Annotated[int, Field(ge=0)] = 1
    """At creation only: later the field belongs to you or your autoscaler"""
    adopt: bool = False
    """Take over a Deployment of this name that HAQA did not make"""


class Output(ResourceModel):
    """What becomes of the winner."""

    mode: Literal["Apply", "Manifest", "Git"] = "Apply"
    """Apply: write the Deployment; Manifest: only show it; Git: write it to a repository. `haqa tune` writes a file"""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic: the winner is deployed when it is proven; Manual: only after somebody approved it"""
    deployment: OutputDeployment = OutputDeployment()
    """The Deployment that serves the winner, one for every pool"""


class Confirmation(ResourceModel):
    """After the search, winner and baseline are measured again alternately, so that the machine's drift cancels out."""

    rounds: Annotated[int, Field(ge=0, le=50)] = 5
    """Pairs of windows a concurrency level; 0 = no confirmation"""


class TuningSpec(ResourceModel):
    """What to tune, where, for which load, and how much it may cost."""

    model: ModelSpec
    """The model to serve. Cannot change once the tuning runs"""
    node_pools: Annotated[tuple[NodePool, ...], Field(min_length=1, max_length=32)] = Field(
        json_schema_extra=keyed_by("name")
    )
    """Where the model shall be served; every pool gets a winner of its own. Cannot change once the tuning runs"""
    serving: Serving = Serving()
    """What the winner has to be able to serve; every trial is measured with exactly that"""
    workload: Workload = Workload()
    """The traffic a configuration is measured under"""
    objective: Objective = Objective()
    """What to optimize; by default throughput"""
    pareto_objectives: Annotated[tuple[Objective, ...], Field(max_length=8)] = ()
    """Further objectives, for which the Pareto front is shown; the winner is chosen by `objective` alone"""
    constraints: Annotated[tuple[Constraint, ...], Field(max_length=64)] = ()
    """Limits that the winner keeps"""
    search: Search = Search()
    """How the next configuration is picked, and among which"""
    calibration: Calibration = Calibration()
    """Text that quantization is calibrated on"""
    evaluation: Evaluation = Evaluation()
    """How accuracy is measured, always through the served engine"""
    budget: Budget = Budget()
    """What the search may cost. The first limit that is reached ends it"""
    confirmation: Confirmation = Confirmation()
    """Measuring winner and baseline again, alternately, so that drift of the machine cancels out. `haqa tune` on CPU
    alone: a GPU holds one engine at a time, and in a cluster the intervals of the trials decide"""
    parallel_trials: Annotated[int, Field(ge=1, le=64)] = 1
    """Trials at once inside a pool; `haqa tune` runs one at a time"""
    suspend: bool = False
    """Start no trial; those that run end"""
    queue_name: str | None = None
    """Kueue's LocalQueue for the trial Jobs"""
    artifacts: Artifacts | None = None
    """Where quantized models are kept, so that pools and later tunings share them; exactly one of its fields"""
    output: Output = Output()
    """What becomes of the winner"""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The one that decides, then those that are only shown."""
        return (self.objective, *self.pareto_objectives)

    @model_validator(mode="before")
    @classmethod
    def _list_of_objectives(cls, value: Any) -> Any:
        """Files may have a list under `objective`; an API server's schema cannot have both shapes in one field."""
        listed = value.get("objective") if isinstance(value, dict) else None
        if not isinstance(listed, (list, tuple)):
            return value
        if not listed:
            raise ValueError("objective is an empty list; name at least one, for example [{metric: throughput}]")
        if value.keys() & {"paretoObjectives", "pareto_objectives"}:
            raise ValueError("objective is a list beside paretoObjectives; put all but the first entry there")
        return {**value, "objective": listed[0], "paretoObjectives": tuple(listed[1:])}

    @field_validator("node_pools")
    @classmethod
    def _pool_names(cls, pools: tuple[NodePool, ...]) -> tuple[NodePool, ...]:
        names = [pool.name for pool in pools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two pools are called {twice[0]!r}; give each a name of its own")
        return pools

    @model_validator(mode="after")
    def _levels_exist(self) -> TuningSpec:
        levels = self.workload.concurrency
        named = [(f"constraints[{i}]", c.concurrency) for i, c in enumerate(self.constraints)]
        named += [(f"objective[{i}]", o.concurrency) for i, o in enumerate(self.objectives)]
        for where, concurrency in named:
            if concurrency is not None and concurrency not in levels:
                known = ", ".join(map(str, levels))
                raise ValueError(f"{where}.concurrency {concurrency} is not measured; workload.concurrency has {known}")
        return self

    @model_validator(mode="after")
    def _requests_are_served(self) -> TuningSpec:
        longest, workload, window = self.serving.max_model_len, self.workload, self.evaluation.sequence_length
        if longest is None:
            return self
        request = workload.input_tokens + workload.output_tokens
        if longest < request:
            raise ValueError(
                f"serving.maxModelLen {longest} is less than one request of the workload, inputTokens "
                f"{workload.input_tokens} + outputTokens {workload.output_tokens} = {request}; raise it, or shorten "
                "the workload"
            )
        if longest <= window:
            raise ValueError(
                f"serving.maxModelLen {longest} has no room for evaluation.sequenceLength {window} and one token more; "
                "raise it, or shorten the evaluation's windows"
            )
        for field, settings in (("engine", self.search.engine), ("fixedEngine", self.search.fixed_engine)):
            if MAX_MODEL_LEN in settings:
                raise ValueError(
                    f"search.{field}.{MAX_MODEL_LEN} {settings[MAX_MODEL_LEN]} is given beside serving.maxModelLen "
                    f"{longest}; leave it in one of them"
                )
        return self

    @model_validator(mode="after")
    def _constraints_agree(self) -> TuningSpec:
        for i, one in enumerate(self.constraints):
            for j, other in enumerate(self.constraints[:i]):
                if one.key != other.key:
                    continue
                if one.min is not None and other.max is not None and one.min > other.max:
                    raise ValueError(
                        f"constraints[{j}] and constraints[{i}] contradict: {other.describe()}, {one.describe()}"
                    )
                if one.max is not None and other.min is not None and one.max < other.min:
                    raise ValueError(
                        f"constraints[{j}] and constraints[{i}] contradict: {other.describe()}, {one.describe()}"
                    )
        return self

    @model_validator(mode="after")
    def _accuracy_is_measured(self) -> TuningSpec:
        for i, constraint in enumerate(self.constraints):
            task = constraint.metric.removeprefix("accuracy.")
            if is_accuracy(constraint.metric) and task != constraint.metric and task not in self.evaluation.tasks:
                raise ValueError(
                    f"constraints[{i}].metric {constraint.metric}: evaluation.tasks has no {task!r}; add it there"
                )
        return self

    @model_validator(mode="after")
    def _cost_is_known(self) -> TuningSpec:
        if any(objective.metric == "throughputPerCost" for objective in self.objectives):
            for i, pool in enumerate(self.node_pools):
                if pool.cost_per_hour is None:
                    raise ValueError(f"nodePools[{i}].costPerHour is missing; objective throughputPerCost needs it")
        return self


class Metadata(ResourceModel):
    model_config = {**ResourceModel.model_config, "extra": "allow"}
    """Kubernetes' own: labels, annotations and the rest are taken as they are."""

    name: Annotated[str, Field(pattern=DNS_LABEL)]
    """Name of the tuning, part of the names of its trials and Deployments"""
    namespace: str | None = None
    """Namespace of the tuning, its trials and Deployments"""


class QuantizationTuning(ResourceModel):
    """Finds, for every node pool, the quantization scheme and the vLLM settings that serve a model best."""

    api_version: Literal["haqa.dev/v1alpha1"] = API_VERSION
    """Group and version of the resource"""
    kind: Literal["QuantizationTuning"] = "QuantizationTuning"
    """Kind of the resource"""
    metadata: Metadata
    """Name and namespace"""
    spec: TuningSpec
    """What to tune, where, for which load, and how much it may cost"""
    status: TuningStatus | None = None
    """What the operator found; written by it alone"""
