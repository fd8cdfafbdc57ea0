"""What a report is made from: everything that a finished (or interrupted) tuning knows, and nothing that needs I/O."""

from __future__ import annotations

from haqa_operator.api.base import ResourceModel
from haqa_operator.api.pools import NodePool
from haqa_operator.api.tuning import QuantizationTuning, TuningSpec
from haqa_operator.decision.evidence import Evidence, gather
from haqa_operator.decision.results import PoolResult
from haqa_operator.serving.names import dns_label


class TuningReport(ResourceModel):
    """A tuning and its results, one for each pool that has any."""

    tuning: QuantizationTuning
    pools: tuple[PoolResult, ...]
    command: str
    """Makes these results again, as it is typed"""
    created: float
    """Unix seconds"""
    versions: dict[str, str] = {}
    """Of HAQA, vLLM, llm-compressor and whatever else took part, by name"""
    manifests: dict[str, str] = {}
    """By pool: the winner's Deployment and Service in YAML"""
    spec_yaml: str = ""
    """The tuning as its author wrote it; empty: rendered from `tuning`"""

    @property
    def name(self) -> str:
        return self.tuning.metadata.name

    def pool_spec(self, result: PoolResult) -> NodePool | None:
        """The pool as the tuning names it; None for a result of a pool that the tuning no longer has."""
        return next((pool for pool in self.tuning.spec.node_pools if pool.name == result.pool), None)

    def spec_of(self, result: PoolResult) -> TuningSpec:
        """The tuning as the pool was measured."""
        used = result.measured_with
        return self.tuning.spec if used is None else self.tuning.spec.model_copy(update=dict(used))

    def evidence(self, result: PoolResult) -> Evidence:
        """The pool's trials, judged as the decision judged them."""
        spec = self.tuning.spec
        return gather(result.trials, spec.objectives, spec.constraints, spec.search.min_improvement_percent)


def anchor(result: PoolResult) -> str:
    """The pool's section in the page, as an id."""
    return dns_label("pool", result.pool)
