"""What the control plane and the runner know of each other, and all that they know of each other.

The operator (or `haqa tune`) writes a `TrialRequest`; the runner's three commands (`quantize`, `serve`, `measure`) read
it and leave a `TrialReport`. This package needs pydantic and nothing else, so the control plane never imports torch
and the runner never imports kubernetes.

Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes`, `_per_s`. Times of day are Unix seconds.
"""

from haqa_contract.base import CONTRACT_VERSION, Contract, Scalar
from haqa_contract.comparison import ComparedRound, CompareReport, CompareRequest, LevelRatio, ServedEngine
from haqa_contract.configuration import MADE_ALGORITHMS, MADE_SCHEMES, Algorithm, Configuration, Scheme
from haqa_contract.failures import Failure, FailureReason
from haqa_contract.reports import (
    PROGRESS_PREFIX,
    AccuracyReport,
    AdapterReport,
    ArtifactReport,
    EngineReport,
    Estimate,
    Latency,
    LoadReport,
    Phase,
    Progress,
    TrialReport,
    VariantReport,
    Window,
)
from haqa_contract.requests import (
    FETCH_TRIAL,
    AcceleratorVendor,
    AccuracyGate,
    AdapterSource,
    Calibration,
    EngineLaunch,
    Evaluation,
    LoadGate,
    ModelSource,
    TrialRequest,
    VariantSource,
    Workload,
)

__all__ = [
    "CONTRACT_VERSION",
    "FETCH_TRIAL",
    "MADE_ALGORITHMS",
    "MADE_SCHEMES",
    "PROGRESS_PREFIX",
    "AcceleratorVendor",
    "AccuracyGate",
    "AccuracyReport",
    "AdapterReport",
    "AdapterSource",
    "Algorithm",
    "ArtifactReport",
    "Calibration",
    "CompareReport",
    "CompareRequest",
    "ComparedRound",
    "Configuration",
    "Contract",
    "EngineLaunch",
    "EngineReport",
    "Estimate",
    "Evaluation",
    "Failure",
    "FailureReason",
    "Latency",
    "LevelRatio",
    "LoadGate",
    "LoadReport",
    "ModelSource",
    "Phase",
    "Progress",
    "Scalar",
    "Scheme",
    "ServedEngine",
    "TrialReport",
    "TrialRequest",
    "VariantReport",
    "VariantSource",
    "Window",
    "Workload",
]
