"""What the agent is told of a pool before anything has been measured on it.

Nothing here changes during a search, so the prompt's first half stays the same from trial to trial (and providers that
cache prompts charge it once). What has been measured comes from the observations: see `history`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from haqa_contract import Scalar, Workload
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.pools import NodePool
from haqa_operator.api.tuning import Budget, TuningSpec
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.hardware.catalogue import find, peak_rates
from haqa_operator.hardware.interconnects import interconnect
from haqa_operator.hardware.parts import is_part

_SECRET_NAME = re.compile(r"token|key|secret|passw|credential", re.IGNORECASE)
_KEPT_BACK = "(set, not shown)"


@dataclass(frozen=True)
class PromptModel:
    """What is known of the model; all optional, since a URI alone tells nothing.

    Attributes:
        weight_bytes: Scheme -> bytes of the weights in that scheme.
        active_bytes: The same, but only what one token is multiplied with, where that is less (mixtures of experts).
        kv_bytes_per_token: Type of the KV cache -> bytes of one token in it, all layers together.
    """

    name: str
    architecture: str | None = None
    parameters: int | None = None
    layers: int | None = None
    hidden_size: int | None = None
    dtype: str | None = None
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    active_bytes: Mapping[str, int] = field(default_factory=dict)
    kv_bytes_per_token: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentContext:
    """One pool's tuning as the agent sees it.

    Attributes:
        hardware: One line, from `Accelerator.describe()`.
        engine: Name and version, for example `vLLM 0.32.0`.
        fixed_settings: Engine settings and environment that every trial has, the baseline too.
        hidden_settings: Sentences on what is not searched and yet decides, for example the engine's own defaults.
        accelerators: Accelerators (or CPU machines) of one replica.
        bandwidth_gb_s: Peak memory bandwidth of all of them together, where known.
        rates: Number format -> peak dense rate of one accelerator in T(FL)OPS; None = it has no units for the format.
        interconnect: What joins the accelerators of a replica, for example `NVLink, 900 GB/s each`.
        notes: Anything else worth a sentence: what the user says, what a table says, what the prior says.
        replayed: The trials are rows of a table: nothing is quantized, and the workload is the table's.
        load: What the load of a replayed table is, in a sentence: which column, open or closed loop, per GPU or in all.
    """

    hardware: str
    model: PromptModel
    engine: str
    workload: Workload = field(default_factory=Workload)
    objectives: tuple[Objective, ...] = (Objective(),)
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = field(default_factory=Budget)
    fixed_settings: tuple[tuple[str, Scalar], ...] = ()
    hidden_settings: tuple[str, ...] = ()
    accelerators: int = 1
    bandwidth_gb_s: float | None = None
    rates: Mapping[str, float | None] = field(default_factory=dict)
    interconnect: str | None = None
    cost_per_hour: float | None = None
    notes: tuple[str, ...] = ()
    replayed: bool = False
    load: str | None = None

    @property
    def closed_loop(self) -> bool:
        """Whether a limit on latency is a demand on throughput at each level of concurrency."""
        return not self.replayed or "open loop" not in (self.load or "").lower()


def context_for(
    spec: TuningSpec,
    pool: NodePool,
    accelerator: Accelerator,
    *,
    engine: str,
    model: PromptModel | None = None,
    hidden_settings: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> AgentContext:
    """The context of one pool of a tuning; `model` as far as somebody has looked into its config."""
    product = find(accelerator.product, accelerator.memory_gib)
    whole = product is not None and product.vendor is accelerator.vendor and not is_part(accelerator.product)
    links = interconnect(product) if product and whole and accelerator.count > 1 else None
    told = spec.search.agent.notes if spec.search.agent else ()
    environment = {name: _shown(name, value) for name, value in pool.env.items()}
    fixed = {**spec.search.fixed_engine, **environment}
    bandwidth = accelerator.bandwidth_gb_s
    return AgentContext(
        hardware=accelerator.describe(),
        model=model or PromptModel(name=model_name(spec.model.uri)),
        engine=engine,
        workload=spec.workload,
        objectives=spec.objectives,
        constraints=spec.constraints,
        budget=spec.budget,
        fixed_settings=tuple(sorted(fixed.items())),
        hidden_settings=hidden_settings,
        accelerators=accelerator.count,
        bandwidth_gb_s=bandwidth * accelerator.count if bandwidth else None,
        rates=peak_rates(accelerator),
        interconnect=links.describe() if links else None,
        cost_per_hour=pool.cost_per_hour,
        notes=(*told, *notes),
    )


def model_name(uri: str) -> str:
    """`hf://org/name` -> `org/name`, any other URI -> its last part: folders and buckets are nobody else's business."""
    scheme, _, path = uri.partition("://")
    return path if scheme == "hf" else path.rstrip("/").rpartition("/")[2]


def _shown(name: str, value: str) -> str:
    """Prompts may go to a provider outside: what looks like a credential stays here."""
    return _KEPT_BACK if _SECRET_NAME.search(name) else value
