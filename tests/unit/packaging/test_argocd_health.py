"""How healthy the resources are for Argo CD, by the scripts that the chart brings.

Run as Argo CD runs them, over statuses that the operator's own code writes.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from lupa import lua51
from tests.unit.api.rule_cases import VALID

from haqa_contract import Configuration, Failure, FailureReason
from haqa_operator.api import Proposal, Proposer, Trial, TrialPhase
from haqa_operator.api.approval import ApprovalMetadata, QuantizationApproval, QuantizationApprovalSpec
from haqa_operator.api.argocd import SETTINGS, scripts, settings_patch
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial, QuantizationTrialStatus
from haqa_operator.api.status import STALE, Condition, PoolPhase, PoolStatus, TrialCounts, TuningPhase, TuningStatus
from haqa_operator.cluster.build.statuses import PoolView, TuningView, tuning_status

GENERATION = 3
NOW = 1_800_000_000.0

OF_A_POOL = {
    "Pending": "Progressing",
    "Searching": "Progressing",
    "Confirming": "Progressing",
    "AwaitingApproval": "Suspended",
    "Deploying": "Progressing",
    "Verifying": "Progressing",
    "Suspended": "Suspended",
    "Succeeded": "Healthy",
    "Failed": "Degraded",
}
OF_A_TRIAL = {
    TrialPhase.PENDING: "Progressing",
    TrialPhase.QUANTIZING: "Progressing",
    TrialPhase.LOADING: "Progressing",
    TrialPhase.EVALUATING: "Progressing",
    TrialPhase.MEASURING: "Progressing",
    TrialPhase.SUCCEEDED: "Healthy",
    TrialPhase.FAILED: "Degraded",
}


def health(manifest: Manifest) -> tuple[str, str]:
    """Status and message, with the libraries that Argo CD loads and no others."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute("getmetatable('').__index = nil; string, math, io, os, debug, coroutine = nil, nil, nil, nil, nil, nil")
    script = lua.execute(f"return function(obj)\n{scripts()[manifest['kind']]}\nend")
    found = script(lua.table_from(manifest, recursive=True))
    return found["status"], found["message"]


def tuning(status: TuningStatus | None, suspend: bool = False, generation: int = GENERATION) -> Manifest:
    written = {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)} if status else {}
    metadata = {**VALID["metadata"], "generation": generation}
    return {**VALID, "metadata": metadata, "spec": {**VALID["spec"], "suspend": suspend}, **written}


def pool(phase: PoolPhase, name: str = "a", message: str = "so it is", problem: str | None = None) -> PoolView:
    """One that has trials, unless it is pending."""
    trials = TrialCounts(total=int(phase is not PoolPhase.PENDING))
    before = PoolStatus(name=name, phase=phase, trials=trials, message=message)
    failed = "nothing works" if phase is PoolPhase.FAILED else None
    return PoolView(name, phase, message, problem=problem or failed, unchanged=before)


def status(*pools: PoolView, suspended: bool = False, problem: str | None = None) -> TuningStatus:
    return tuning_status(TuningView(GENERATION, suspended, pools, problem=problem), TuningStatus(), NOW)


@pytest.mark.parametrize("phase", PoolPhase)
def test_every_phase_of_a_pool_shows_in_its_tunings_health(phase: PoolPhase) -> None:
    found = tuning(status(pool(phase), suspended=phase is PoolPhase.SUSPENDED))
    assert health(found)[0] == OF_A_POOL[phase.value]


def test_every_phase_of_a_tuning_is_among_those() -> None:
    shown = {status(pool(phase), suspended=phase is PoolPhase.SUSPENDED).phase for phase in PoolPhase}
    assert shown == set(TuningPhase)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (tuning(None), ("Progressing", "waiting for the operator")),
        (tuning(None, suspend=True), ("Progressing", "waiting for the operator")),
        (
            tuning(status(pool(PoolPhase.SUCCEEDED)), generation=GENERATION + 1),
            ("Progressing", "the operator has not seen the latest change"),
        ),
        (
            tuning(status(pool(PoolPhase.SEARCHING, message="trial 3 of 12"))),
            ("Progressing", 'pool "a": trial 3 of 12'),
        ),
        (
            tuning(
                status(pool(PoolPhase.AWAITING_APPROVAL, message="W4A16 is the best"), pool(PoolPhase.SEARCHING, "b"))
            ),
            ("Suspended", 'pool "a": W4A16 is the best'),
        ),
        (
            tuning(status(pool(PoolPhase.PENDING), suspended=True), suspend=True),
            ("Suspended", "spec.suspend is true: no trial starts"),
        ),
        (tuning(status(pool(PoolPhase.SUCCEEDED)), suspend=True), ("Healthy", 'pool "a": so it is')),
        (
            tuning(
                status(
                    pool(PoolPhase.SEARCHING, problem="the API server refuses: quota"), pool(PoolPhase.SUCCEEDED, "b")
                )
            ),
            ("Degraded", 'pool "a": the API server refuses: quota'),
        ),
        (tuning(status(problem="nodePools is empty")), ("Degraded", "nodePools is empty")),
    ],
    ids=[
        "no status",
        "suspended before anybody looked",
        "changed since",
        "searching",
        "one waits for a person and one goes on",
        "suspended before the first trial",
        "suspended after the last",
        "in trouble",
        "refused",
    ],
)
def test_health_says_why(found: Manifest, expected: tuple[str, str]) -> None:
    assert health(found) == expected


def test_an_answer_that_is_stale_serves_all_the_same() -> None:
    stale = Condition(
        type=STALE,
        status="True",
        reason="Changed",
        message="new GPUs",
        last_transition_time="2026-12-01T12:00:00Z",
    )
    before = status(pool(PoolPhase.SUCCEEDED))
    found = before.model_copy(update={"conditions": (*before.conditions, stale)})
    assert health(tuning(found)) == ("Healthy", "stale: new GPUs")


def trial(**found: Any) -> Manifest:
    proposal = Proposal(configuration=Configuration.of("W4A16", "rtn"), proposer=Proposer.GRID)
    resource = QuantizationTrial.of(Trial(name="demo-a-001", tuning="demo", pool="a", number=1, proposal=proposal))
    given = resource.model_copy(update={"status": QuantizationTrialStatus(**found)} if found else {})
    return given.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize("phase", TrialPhase)
def test_every_phase_of_a_trial_has_a_health(phase: TrialPhase) -> None:
    assert health(trial(phase=phase))[0] == OF_A_TRIAL[phase]


def test_a_trials_health_says_what_came_of_it() -> None:
    failure = Failure(reason=FailureReason.ENGINE_OOM, message="too large")
    assert health(trial()) == ("Progressing", "Pending")
    assert health(trial(phase=TrialPhase.SUCCEEDED, throughput="512")) == (
        "Healthy",
        "W4A16/rtn: 512 output tokens/s",
    )
    assert health(trial(phase=TrialPhase.FAILED, failure=failure)) == ("Degraded", "EngineOOM: too large")


def test_an_approval_is_healthy_and_says_whose_it_is() -> None:
    spec = {"tuning": "chat", "trial": "chat-a-003", "approved_by": "alice"}
    expires = {"expires": "2026-12-31T18:00:00Z"}

    def shown(**given: str) -> tuple[str, str]:
        resource = QuantizationApproval(
            metadata=ApprovalMetadata(name="one"), spec=QuantizationApprovalSpec.model_validate(given)
        )
        return health(resource.model_dump(mode="json", by_alias=True, exclude_none=True))

    assert shown(**spec) == ("Healthy", "chat-a-003 of chat, approved by alice")
    assert shown(**spec, **expires) == ("Healthy", "chat-a-003 of chat, approved by alice until 2026-12-31T18:00:00Z")


def test_the_patch_has_every_script_as_it_is() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_patch(), "out of date: run `make generate`"
    data = yaml.safe_load(settings_patch())["data"]
    assert data == {f"resource.customizations.health.haqa.dev_{kind}": lua for kind, lua in scripts().items()}
    assert set(scripts()) == {"QuantizationTuning", "QuantizationTrial", "QuantizationApproval"}
