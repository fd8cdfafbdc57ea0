"""The resources, as pydantic models: the only place where a field is defined.

The custom resource definitions in crds/, the field reference in docs/ and the validation of `haqa tune` all come from
here.
"""

from haqa_operator.api.approval import QuantizationApproval, QuantizationApprovalSpec
from haqa_operator.api.goals import Constraint, Direction, Objective
from haqa_operator.api.loading import SpecError, load_tuning
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.pools import HardwareOverride, NodePool
from haqa_operator.api.resources import QuantizationTrial, QuantizationTrialSpec, QuantizationTrialStatus
from haqa_operator.api.search_spec import AgentSpec, Search, SearchStrategy
from haqa_operator.api.status import (
    BestTrial,
    BudgetUsed,
    Condition,
    FetchedModel,
    PoolPhase,
    PoolStatus,
    Skipped,
    TrialCounts,
    TuningPhase,
    TuningStatus,
)
from haqa_operator.api.trial import Exchange, Proposal, Proposer, Trial, TrialPhase, TrialStatus
from haqa_operator.api.tuning import Budget, QuantizationTuning, Serving, TuningSpec

__all__ = [
    "AgentSpec",
    "BestTrial",
    "Budget",
    "BudgetUsed",
    "Condition",
    "Constraint",
    "Direction",
    "Exchange",
    "FetchedModel",
    "HardwareOverride",
    "MetricKey",
    "NodePool",
    "Objective",
    "PoolPhase",
    "PoolStatus",
    "Proposal",
    "Proposer",
    "QuantizationApproval",
    "QuantizationApprovalSpec",
    "QuantizationTrial",
    "QuantizationTrialSpec",
    "QuantizationTrialStatus",
    "QuantizationTuning",
    "Search",
    "SearchStrategy",
    "Serving",
    "Skipped",
    "SpecError",
    "Trial",
    "TrialCounts",
    "TrialPhase",
    "TrialStatus",
    "TuningPhase",
    "TuningSpec",
    "TuningStatus",
    "load_tuning",
]
