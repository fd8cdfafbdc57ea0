"""What is still there of a trial's earlier Jobs decides when the next one may start."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import make_tuning
from tests.unit.cluster.observe.pods import JobBuilder, PodBuilder, make_job, make_pod

from haqa_operator.api.labels import MANAGED_BY
from haqa_operator.api.status import FetchedModel, TuningPhase, TuningStatus
from haqa_operator.cluster.observe.snapshot import TuningSnapshot, read_snapshot, work_selector

TRIAL = "demo-here-001"
GONE_BY = "2026-11-26T10:00:30Z"
T0 = 1795687200.0  # 2026-11-26T10:00:00Z
PATIENCE_S = 60.0
MODEL = FetchedModel(digest="abc")


def owned(kind: str, name: str, uid: str, owner: str, **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "uid": uid,
        "labels": {"haqa.dev/trial": TRIAL, **MANAGED_BY},
        "ownerReferences": [{"uid": owner, "controller": True}],
        "creationTimestamp": "2026-11-26T09:59:00Z",
        **more.pop("metadata", {}),
    }
    return {"kind": kind, "metadata": metadata, "spec": {}, "status": {"phase": "Running"}, **more}


JOB = owned("Job", TRIAL, "job-1", "trial-1")
POD = owned("Pod", f"{TRIAL}-x", "pod-1", "job-1")


def snapshot(*, jobs: list[Any], pods: list[Any]) -> TuningSnapshot:
    manifest = {"metadata": {"name": "demo", "namespace": "team", "uid": "tuning-1"}}
    spec = {"tuning": "demo", "pool": "here", "number": 1, "configuration": {}, "proposer": "grid"}
    trial = {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTrial",
        "metadata": {"name": TRIAL, "uid": "trial-1", "resourceVersion": "1", "ownerReferences": [{"uid": "tuning-1"}]},
        "spec": spec,
    }
    return read_snapshot(make_tuning().obj(), manifest, [trial], jobs, pods, {})


def leaving(seconds: float = 0.0, *, jobs: list[Any], pods: list[Any]) -> str | None:
    return snapshot(jobs=jobs, pods=pods).leaving(TRIAL, T0 + seconds, PATIENCE_S)


def lingering(pod: PodBuilder, job: JobBuilder | None = None) -> int | None:
    own = owned("Job", TRIAL, "job-1", "trial-1")
    own |= {key: value for key, value in (job or make_job()).obj().items() if key in ("spec", "status")}
    of_job = {**pod.obj(), "kind": "Pod"}
    of_job["metadata"] |= {"ownerReferences": [{"uid": "job-1", "controller": True}]}
    return snapshot(jobs=[own], pods=[of_job]).lingering(TRIAL)


def test_a_job_whose_engine_is_started_again_and_again_does_not_end_by_itself() -> None:
    assert lingering(make_pod().quantized().restarted("no kernel")) == 1
    assert lingering(make_pod().unschedulable()) == 1


def test_a_job_that_has_ended_or_is_about_to_is_left_for_whoever_wants_its_logs() -> None:
    assert lingering(make_pod().measured("", exit_code=3)) is None
    assert lingering(make_pod().scheduled().ended("quantize", "", exit_code=1)) is None
    assert lingering(make_pod().quantized().restarted("x"), make_job().condition("Failed", "DeadlineExceeded")) is None


def test_pods_of_the_present_job_are_no_leftovers() -> None:
    assert leaving(jobs=[JOB], pods=[POD]) is None


def test_a_pod_whose_job_is_gone_is_waited_for() -> None:
    assert leaving(jobs=[], pods=[POD]) == POD["metadata"]["name"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_not(phase: str) -> None:
    assert leaving(jobs=[], pods=[{**POD, "status": {"phase": phase}}]) is None


def test_a_pod_that_should_be_gone_for_long_is_on_a_lost_node() -> None:
    deleted = owned("Pod", "x", "pod-1", "job-1", metadata={"deletionTimestamp": GONE_BY})
    assert leaving(30 + PATIENCE_S - 1, jobs=[], pods=[deleted]) == "x"
    assert leaving(30 + PATIENCE_S, jobs=[], pods=[deleted]) is None


def test_a_job_of_a_deleted_trial_of_the_same_name_is_waited_for() -> None:
    earlier = owned("Job", TRIAL, "job-0", "trial-0")
    assert snapshot(jobs=[earlier], pods=[]).work_of(TRIAL) is None
    assert leaving(jobs=[earlier], pods=[]) == TRIAL


def selected(*phases: str | None, model: FetchedModel | None = MODEL) -> str | None:
    tuning = (
        make_tuning("demo").obj().model_copy(update={"status": TuningStatus(phase=TuningPhase.RUNNING, model=model)})
    )
    trials = [
        {"metadata": {"name": f"t{number}"}, **({"status": {"phase": phase}} if phase else {})}
        for number, phase in enumerate(phases)
    ]
    return work_selector(tuning, trials)


def test_what_succeeded_is_not_looked_at_again() -> None:
    assert selected("Succeeded", "Measuring", None) == "haqa.dev/tuning=demo,haqa.dev/trial in (t1,t2,quantize)"


def test_the_job_of_a_failed_trial_may_still_hold_its_node() -> None:
    assert selected("Succeeded", "Failed") == "haqa.dev/tuning=demo,haqa.dev/trial in (t1,quantize)"


def test_where_everything_succeeded_there_is_nothing_to_look_at() -> None:
    assert selected("Succeeded", "Succeeded") is None
    assert selected() is None


def test_until_the_model_is_known_its_own_job_is_looked_at() -> None:
    assert selected("Succeeded", model=None) == "haqa.dev/tuning=demo"


_OWNERS: dict[str, Any] = {"ownerReferences": [{"uid": "trial-1", "controller": True}]}
_LABELS: dict[str, Any] = {"haqa.dev/trial": TRIAL, **MANAGED_BY}


@pytest.mark.parametrize(
    "forged",
    [
        {"labels": {"haqa.dev/trial": TRIAL}, **_OWNERS},
        {"labels": _LABELS, "ownerReferences": [{"uid": "trial-1"}]},
    ],
    ids=["not of the operator's kind", "not controlled by the trial"],
)
def test_a_job_of_somebody_else_that_names_the_trial_is_none_of_its(forged: dict[str, Any]) -> None:
    job = owned("Job", "mine", "job-9", "trial-1")
    job["metadata"] |= forged
    assert snapshot(jobs=[job], pods=[]).work == ()


@pytest.mark.parametrize("text", ["x", "-1", "1e9", "9" * 5000, "\u0661", ""])
def test_a_number_of_an_attempt_that_is_none_is_the_first(text: str) -> None:
    job = owned("Job", TRIAL, "job-1", "trial-1")
    job["metadata"]["labels"]["haqa.dev/attempt"] = text
    (work,) = snapshot(jobs=[job], pods=[]).work
    assert work.attempt == 1
