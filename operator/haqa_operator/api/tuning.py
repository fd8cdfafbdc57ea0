"""`QuantizationTuning`: the model, where it shall be served, what counts, and how much may be spent finding out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from haqa_contract import Calibration, Evaluation, Workload
from haqa_operator.api.base import API_VERSION, DNS_LABEL, Duration, ResourceModel, first_twice, keyed_by
from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import ADAPTER, is_accuracy
from haqa_operator.api.pools import ModelSpec, NodePool
from haqa_operator.api.search_spec import Search
from haqa_operator.api.status import TuningStatus

MAX_MODEL_LEN = "max-model-len"
"""vLLM's setting that `serving.maxModelLen` becomes."""


class Serving(ResourceModel):
    """What the winner has to be able to serve, whatever load it is measured under."""

    max_model_len: Annotated[int | None, Field(ge=1)] = None
    """Longest request that is served, prompt and answer together, in tokens; longer ones are refused. By default what
    the model can take, or as much of it as the memory holds (vLLM's `--max-model-len auto`)"""


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


class Verify(ResourceModel):
    """Before a winner gets requests, its trial's load is run against it in short; what falls short is rolled back."""

    enabled: bool = True
    """False: it gets requests as soon as its pods are ready"""
    tolerance_percent: Annotated[float, Field(ge=0, le=90)] = 15
    """How much slower than its trial it may be, beyond the trial's own interval"""


class Output(ResourceModel):
    """What becomes of the winner."""

    mode: Literal["Apply", "Manifest", "Git"] = "Apply"
    """Apply: write the Deployment; Manifest: only show it; Git: write it to a repository. `haqa tune` writes a file"""
    target: Literal["Deployment", "KServe"] = "Deployment"
    """Deployment: with a Service in front of it; KServe: an InferenceService with the same pods"""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic: the winner is deployed when it is proven; Manual: only after somebody approved it"""
    deployment: OutputDeployment = OutputDeployment()
    """The Deployment that serves the winner, one for every pool"""
    verify: Verify = Verify()
    """Measuring a deployed winner before it gets requests"""
    on_change: Literal["Notify", "Verify", "Retune"] = "Notify"
    """When engine image, model, driver, node type or price are others than were measured. Notify: say so (condition
    Stale); Verify: measure the answer and the baseline again, and serve the better one; Retune: search again"""
    git: GitOutput | None = None
    """For mode Git: the repository, and what is written there"""

    @model_validator(mode="after")
    def _repository(self) -> Output:
        if self.mode == "Git" and self.git is None:
            raise ValueError("git is missing; mode Git needs it, with url, path and secretRef")
        if self.git is not None and self.mode != "Git":
            raise ValueError(f"git is for mode Git, and mode is {self.mode}; write mode: Git, or leave git out")
        return self


class Confirmation(ResourceModel):
    """After the search, winner and baseline are measured again alternately, so that the machine's drift cancels out."""

    rounds: Annotated[int, Field(ge=0, le=50)] = 5
    """The most pairs of windows a concurrency level; 0 = no confirmation. It ends with the first pair that decides,
    two at the least; where both engines are up side by side also how large the difference is, three at the least"""


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
    """Measuring winner and baseline again, alternately, so that drift of the machine cancels out. In a cluster each
    window is a trial of its own, on the winner's node, and so on accelerators with `haqa tune`; on CPUs it has both
    engines up side by side"""
    parallel_trials: Annotated[int, Field(ge=1, le=64)] = 1
    """Trials at once inside a pool; `haqa tune` runs one at a time. From 2, winner and baseline are confirmed at once
    where the winner's node has accelerators for both"""
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
        twice = first_twice(pool.name for pool in pools)
        if twice is not None:
            raise ValueError(f"two pools are called {twice!r}; give each a name of its own")
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
            adapter = constraint.metric.removeprefix(ADAPTER)
            if adapter != constraint.metric and adapter not in {one.name for one in self.model.adapters}:
                raise ValueError(
                    f"constraints[{i}].metric {constraint.metric}: model.adapters has no {adapter!r}; add it there"
                )
            task = constraint.metric.removeprefix("accuracy.")
            if is_accuracy(constraint.metric) and task != constraint.metric and task not in self.evaluation.tasks:
                raise ValueError(
                    f"constraints[{i}].metric {constraint.metric}: evaluation.tasks has no {task!r}; add it there"
                )
        return self

    @model_validator(mode="after")
    def _values_of_each_pool(self) -> TuningSpec:
        git = self.output.git
        if git is not None and git.one_for_each_pool and len(self.node_pools) > 1:
            raise ValueError(
                f"output.git.path {git.path} is one values file for {len(self.node_pools)} node pools; write {{pool}} "
                "in it, as values-{pool}.yaml"
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

    @model_validator(mode="after")
    def _adapters_have_names_of_their_own(self) -> QuantizationTuning:
        if any(adapter.name == self.metadata.name for adapter in self.spec.model.adapters):
            raise ValueError(
                f"model.adapters has one called {self.metadata.name!r}, which is the tuning's name, by which the model "
                "itself is served; give one of them another name"
            )
        return self
