"""What is known of a pool: a baseline, two candidates and trials of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haqa_contract import Configuration, Estimate, Failure, FailureReason
from haqa_operator.api import Proposal, Proposer, Trial, TrialPhase, TrialStatus, TuningSpec
from haqa_operator.search.space import SearchSpace
from haqa_operator.tuning.plan import PoolState

BASELINE = Configuration()
INT8 = Configuration.of("W8A8-INT8", "rtn")
INT4 = Configuration.of("W4A16", "rtn")


def exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=3)


def spec(**more: object) -> TuningSpec:
    return TuningSpec.model_validate({"model": {"uri": "file:///m"}, "nodePools": [{"name": "a"}], **more})


def trial(number: int, configuration: Configuration, throughput: float | None = None, **status: object) -> Trial:
    proposer = Proposer.BASELINE if number == 0 else Proposer.GRID
    if throughput is not None:
        metrics = {"throughput": exact(throughput)}
        status = {"phase": TrialPhase.SUCCEEDED, "metrics": metrics, **status}
    return Trial(
        name=f"t-a-{number:03d}",
        tuning="t",
        pool="a",
        number=number,
        proposal=Proposal(configuration=configuration, proposer=proposer),
        status=TrialStatus.model_validate(status),
    )


def state(*trials: Trial, **more: Any) -> PoolState:
    space = SearchSpace(BASELINE, (INT8, INT4))
    known = PoolState(tuning="t", pool="a", spec=spec(), space=space, trials=trials, started=0, now=1)
    return replace(known, **more)


def failed(reason: FailureReason) -> dict[str, Any]:
    return {"phase": TrialPhase.FAILED, "failure": Failure(reason=reason, message="it did not work")}
