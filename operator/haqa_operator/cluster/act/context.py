"""One pool of a tuning, as a reconciliation finds it."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.api import NodePool
from haqa_operator.api.status import FetchedModel
from haqa_operator.cluster.observe.snapshot import TuningSnapshot
from haqa_operator.hardware.accelerators import Accelerator


@dataclass(frozen=True)
class PoolContext:
    """Everything that reconciling the pool depends on.

    Attributes:
        now: Unix seconds.
    """

    snapshot: TuningSnapshot
    pool: NodePool
    accelerator: Accelerator
    model: FetchedModel
    now: float
