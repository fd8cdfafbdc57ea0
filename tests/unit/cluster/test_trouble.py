"""What may go wrong between operator and API server: refusals, outages, bugs, crashes, repeated and lost events.

Wherever it happens, the same end is reached, nothing is measured twice, and other pools go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.fakes.faulty_api import Call, Fault
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE, QUANTIZED
from tests.unit.cluster.tunings import Operated, tuning_manifest

from haqa_contract import Failure, FailureReason, TrialReport
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.cluster.act.pace import busy_s
from haqa_operator.cluster.act.reconciler import Key
from haqa_operator.cluster.edges.api_server import (
    EVENT,
    JOB,
    NODE,
    TRIAL,
    TUNING,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    Kind,
)
from haqa_operator.cluster.edges.proposals import ProposalRequest
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.hardware.node_labels import pool_accelerator
from haqa_operator.hardware.nodes import Node

DENIED = 'admission webhook "policy.example" denied the request: image is not from the allowed registry'
ONE_POOL: dict[str, Any] = {
    "nodePools": [{"name": "full", "nodeSelector": {"pool": "full"}}],
    "search": {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False},
    "output": {"deployment": {"replicas": 3}},
}


def model_is_known(status: Manifest) -> bool:
    return "model" in status


def on_pool(pool: str, kind: Kind, error: Exception) -> Fault:
    """Answers every write of such objects of this pool."""

    def fault(call: Call) -> Any:
        labels = call.manifest.get("metadata", {}).get("labels", {})
        return error if call.writes and call.kind == kind and labels.get("haqa.dev/pool") == pool else None

    return fault


@pytest.mark.parametrize("kind", [TRIAL, JOB, DEPLOYMENT])
def test_a_refused_write_is_a_condition_and_the_other_pool_goes_on(operated: Operated, kind: Kind) -> None:
    refuse = on_pool("full", kind, ApiRefused(DENIED, 403))
    operated.api.faults.append(refuse)
    operated.submit()
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    for _ in range(3):
        operated.reconcile()
        operated.cluster.step()
    assert operated.pool("avx2")["phase"] == "Succeeded"
    assert operated.names()["Deployment"] == ["demo-avx2"]
    assert operated.condition("Degraded")["status"] == "True"
    assert operated.condition("Degraded")["reason"] == "Refused"
    assert operated.condition("Degraded")["message"] == f'pool "full": the API server refuses: {DENIED}'
    assert operated.pool("full")["message"] == f"the API server refuses: {DENIED}"
    assert not operated.errors

    operated.api.faults.remove(refuse)
    assert operated.run()["phase"] == "Succeeded"
    assert operated.condition("Degraded")["status"] == "False"


def test_what_is_refused_is_tried_again_soon(operated: Operated) -> None:
    operated.api.faults.append(on_pool("full", DEPLOYMENT, ApiRefused(DENIED, 403)))
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status["conditions"][2]["status"] == "True")
    assert operated.reconciler.reconcile(Key(NAMESPACE, "demo")) == busy_s(Limits())


def test_a_pool_that_is_refused_keeps_what_it_has_found(operated: Operated) -> None:
    operated.submit()
    operated.run(until=lambda status: status.get("trialsDone", "").startswith("4/"))
    before = operated.pool("full")
    operated.api.faults.append(on_pool("full", TRIAL, ApiRefused(DENIED, 403)))
    operated.reconcile()
    after = operated.pool("full")
    for field in ("baseline", "best", "hardware", "candidates"):
        assert after[field] == before[field]
    assert after["trials"]["succeeded"] >= before["trials"]["succeeded"]


def test_a_node_selector_that_is_none_is_the_trouble_of_its_pool_alone(operated: Operated) -> None:
    pools = [{"name": name, "nodeSelector": {"pool": name}} for name in ("full", "bad")]
    pools[1]["nodeSelector"] = {"pool": "not a value"}
    operated.submit(nodePools=pools)
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.pool("bad")["phase"] == "Pending"
    assert "nodeSelector" in operated.pool("bad")["message"]
    assert "not a value" in operated.pool("bad")["message"]
    assert not operated.errors


def test_the_model_is_inspected_on_another_pool_where_one_is_refused(operated: Operated) -> None:
    operated.api.faults.append(on_pool("full", JOB, ApiRefused(DENIED, 403)))
    operated.submit()
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert "demo-avx2-model" in operated.names()["Job"]


def test_a_job_for_the_model_that_every_pool_is_refused_is_said(operated: Operated) -> None:
    operated.api.faults += [on_pool(pool, JOB, ApiRefused(DENIED, 403)) for pool in ("full", "avx2")]
    operated.submit()
    operated.reconcile()
    assert operated.condition("Degraded")["status"] == "True"
    assert operated.condition("Degraded")["reason"] == "Refused"
    assert f'on pool "full": {DENIED}; on pool "avx2": {DENIED}' in operated.condition("Degraded")["message"]
    assert operated.status()["phase"] == "Pending"
    operated.api.faults.clear()
    assert operated.run()["phase"] == "Succeeded"


def test_a_bug_of_one_pool_comes_out_and_the_other_goes_on(operated: Operated) -> None:
    bug = KeyError("a bug")
    operated.submit()
    operated.run(until=model_is_known)
    operated.api.faults.append(on_pool("full", JOB, bug))
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.errors
    assert set(map(id, operated.errors)) == {id(bug)}, "with its own traceback, and not as an ApiError"
    assert operated.pool("avx2")["phase"] == "Succeeded"
    assert operated.pool("full")["message"].startswith("internal error: KeyError('a bug')")
    operated.api.faults.clear()
    assert operated.run()["phase"] == "Succeeded"


def test_an_outage_for_one_pool_is_no_problem_of_it(operated: Operated) -> None:
    operated.api.faults.append(on_pool("full", JOB, ApiUnavailable("apply Job: 500 etcd is electing a leader")))
    operated.submit()
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.condition("Degraded")["status"] == "False"
    assert operated.pool("full")["message"].startswith("waiting for the API server: apply Job: 500")
    assert all(isinstance(error, ApiUnavailable) for error in operated.errors)
    operated.api.faults.clear()
    assert operated.run()["phase"] == "Succeeded"


def test_a_bug_in_reading_the_nodes_of_one_pool_comes_out_and_the_other_goes_on(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = ZeroDivisionError("a bug")
    read = pool_accelerator

    def broken(nodes: tuple[Node, ...], *rest: Any, **more: Any) -> Any:
        if any(node.labels["pool"] == "full" for node in nodes):
            raise bug
        return read(nodes, *rest, **more)

    monkeypatch.setattr("haqa_operator.cluster.act.reconciler.pool_accelerator", broken)
    operated.submit()
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.pool("avx2")["phase"] == "Succeeded"
    assert operated.pool("full")["message"].startswith("internal error: ZeroDivisionError('a bug')")
    assert set(map(id, operated.errors)) == {id(bug)}
    monkeypatch.undo()
    assert operated.run()["phase"] == "Succeeded"


def test_a_trial_that_a_newer_operator_has_written_stops_its_pool_alone(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    operated.submit()
    operated.run(until=lambda status: status.get("trialsDone", "").startswith("2/"))
    before = operated.pool("full")
    newer = next(one for one in operated.cluster.api.list(TRIAL, NAMESPACE) if one["spec"]["pool"] == "full")

    def written_by_newer(trial: Manifest) -> QuantizationTrial:
        known = QuantizationTrial.model_validate(trial)
        if trial["metadata"]["name"] == newer["metadata"]["name"]:
            return QuantizationTrial.model_validate({**trial, "status": {**trial["status"], "newer": 1}})
        return known

    monkeypatch.setattr(operated.dependencies.trials, "read", written_by_newer)
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.pool("avx2")["phase"] == "Succeeded"
    assert operated.pool("full")["message"].startswith(f"QuantizationTrial {newer['metadata']['name']}: status.newer: ")
    assert operated.pool("full")["trials"] == before["trials"]
    assert not operated.errors
    monkeypatch.undo()
    assert operated.run()["phase"] == "Succeeded"


def test_a_status_that_is_refused_does_not_hide_a_bug(operated: Operated) -> None:
    bug = KeyError("a bug")
    operated.submit()
    operated.run(until=model_is_known)

    def refused(call: Call) -> ApiError | None:
        written = call.verb == "apply_status" and call.kind == TUNING
        return ApiRefused("413: Request entity too large", 413) if written else None

    operated.api.faults += [on_pool("full", JOB, bug), refused]
    for _ in range(3):
        operated.reconcile()
        operated.cluster.step()
    assert bug in operated.errors
    operated.api.faults[:] = [refused]
    operated.reconcile()
    assert isinstance(operated.errors[-1], ApiRefused)


def test_an_outage_for_the_models_job_does_not_hide_what_else_is_known(operated: Operated) -> None:
    pools = [{"name": name, "nodeSelector": {"pool": name}} for name in ("full", "later")]
    operated.api.faults.append(on_pool("full", JOB, ApiUnavailable("apply Job: 500 etcd is electing a leader")))
    operated.submit(nodePools=pools)
    operated.reconcile()
    assert operated.pool("full")["message"] == "waiting for the API server: apply Job: 500 etcd is electing a leader"
    assert operated.pool("later")["message"].startswith("waiting: no node")
    assert [type(error) for error in operated.errors] == [ApiUnavailable]


def test_a_served_winner_that_cannot_be_applied_any_more_still_serves(operated: Operated) -> None:
    operated.submit()
    operated.run()
    ready = operated.condition("Ready")
    drifted = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert drifted is not None
    drifted["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/else:1"
    operated.cluster.api.stand_in(drifted)
    refuse = on_pool("full", DEPLOYMENT, ApiRefused(DENIED, 403))
    operated.api.faults.append(refuse)
    operated.reconcile()
    assert operated.status()["phase"] == "Succeeded"
    assert operated.pool("full")["phase"] == "Succeeded"
    assert operated.pool("full")["stopped"]
    assert operated.condition("Ready") == ready
    assert operated.condition("Degraded")["reason"] == "Refused"
    operated.api.faults.remove(refuse)
    operated.reconcile()
    assert operated.condition("Degraded")["status"] == "False"


def test_a_winner_that_is_refused_is_the_answer_and_waits_to_be_deployed(operated: Operated) -> None:
    operated.api.faults.append(on_pool("full", DEPLOYMENT, ApiRefused(DENIED, 403)))
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status["conditions"][2]["status"] == "True")
    assert operated.pool("full")["phase"] == "Deploying"
    assert operated.pool("full")["stopped"] == "every feasible configuration has been tried"
    assert "deployment" not in operated.pool("full")
    assert operated.condition("Ready")["status"] == "False"
    reasons = [one["reason"] for one in operated.cluster.api.list(EVENT, NAMESPACE) if "denied" in one["message"]]
    assert reasons == ["Refused"]


def test_the_refusal_of_one_pool_is_an_event_though_another_pool_has_failed(operated: Operated) -> None:
    operated.api.faults.append(on_pool("full", DEPLOYMENT, ApiRefused(DENIED, 403)))
    impossible = [{"metric": "throughput", "min": 101, "concurrency": 1}]
    operated.submit(constraints=impossible)
    operated.run(until=lambda status: {pool["phase"] for pool in status.get("pools", ())} == {"Failed", "Deploying"})
    events = operated.cluster.api.list(EVENT, NAMESPACE)
    assert [one["reason"] for one in events if DENIED in one["message"]] == ["Refused"]


def test_a_proposal_whose_trial_is_refused_is_kept_and_not_asked_for_again(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ProposalRequest] = []
    ask = operated.dependencies.proposals.ask

    def counted(question: ProposalRequest, propose: Any, on_answer: Any) -> None:
        def counted_proposal() -> Any:
            asked.append(question)
            return propose()

        ask(question, counted_proposal, on_answer)

    monkeypatch.setattr(operated.dependencies.proposals, "ask", counted)
    refuse = on_pool("full", TRIAL, ApiRefused(DENIED, 403))
    operated.api.faults.append(lambda call: refuse(call) if call.manifest.get("spec", {}).get("number") else None)
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status.get("trialsDone") == "1/1")
    for _ in range(5):
        operated.reconcile()
    assert DENIED in operated.pool("full")["message"]
    assert [question.number for question in asked] == [1]

    operated.submit(**ONE_POOL, suspend=True)
    operated.api.faults.clear()
    operated.reconcile()
    assert operated.pool("full")["trials"]["total"] == 1, "a suspended tuning makes no trial of it"
    operated.submit(**ONE_POOL, suspend=False)
    assert operated.run()["phase"] == "Succeeded"
    assert not [question for question in asked if operated.dependencies.proposals.answer(question)]


def reference(**spec: Any) -> tuple[dict[str, Any], int]:
    """How it ends if nothing goes wrong, and after how many calls."""
    operated = Operated()
    operated.submit(**spec)
    operated.run()
    return operated.end_state(), len(operated.api.calls)


def once_at(position: int, error: Exception) -> Fault:
    counted = iter(range(10**6))
    return lambda _: error if next(counted) == position else None


@pytest.mark.parametrize(
    "error",
    [
        ApiUnavailable("409: the object has been modified"),
        ApiRefused("403: not yet", 403),
        ConnectionResetError("a bug in how errors are mapped"),
    ],
    ids=["conflict", "refusal", "bug"],
)
def test_one_failing_call_anywhere_changes_nothing_of_the_end(error: Exception) -> None:
    expected, calls = reference(**ONE_POOL)
    for position in range(calls):
        operated = Operated()
        operated.api.faults.append(once_at(position, error))
        operated.submit(**ONE_POOL)
        operated.run()
        assert operated.end_state() == expected, f"call {position}"
        assert len(set(operated.cluster.measured)) == len(operated.cluster.measured)


class Crash(BaseException):
    """The process ends between a write and whatever would have followed."""


def crashing_after(operated: Operated, position: int) -> None:
    """The write is carried out, and the operator does not live to see it."""
    writes = iter(range(10**6))

    def crash(call: Call) -> None:
        if call.writes and next(writes) == position:
            raise Crash

    operated.api.after = crash


def test_a_crash_after_any_write_changes_nothing_of_the_end() -> None:
    expected, _ = reference(**ONE_POOL)
    position = 0
    while True:
        operated = Operated()
        crashing_after(operated, position)
        operated.submit(**ONE_POOL)
        crashed = False
        try:
            operated.run()
        except Crash:
            crashed = True
            operated.restart()
            operated.run()
        assert operated.end_state() == expected, f"write {position}"
        assert len(set(operated.cluster.measured)) == len(operated.cluster.measured)
        if not crashed:
            break
        position += 1
    assert position > 10


def test_the_same_event_many_times_is_the_same_as_once() -> None:
    expected, _ = reference()
    operated = Operated()
    operated.submit()
    for _ in range(20):
        for _ in range(3):
            operated.reconcile()
        operated.cluster.step()
    assert operated.end_state() == expected


def test_events_that_are_lost_for_long_change_nothing_of_the_end() -> None:
    expected, _ = reference()
    operated = Operated()
    operated.submit()
    for _ in range(30):
        operated.reconcile()
        for _ in range(4):
            operated.cluster.step()
    assert operated.end_state() == expected


def test_a_tuning_that_is_deleted_between_reading_and_writing_is_no_error(operated: Operated) -> None:
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status.get("phase") == "Running")

    def gone(call: Call) -> ApiError | None:
        if call.verb == "list" and call.kind == NODE:
            operated.api.faults.clear()
            operated.cluster.api.delete(TUNING, "demo", NAMESPACE)
        return None

    operated.api.faults.append(gone)
    operated.reconcile()
    operated.reconcile()
    assert not [error for error in operated.errors if not isinstance(error, ApiError)]
    assert operated.cluster.api.get(TUNING, "demo", NAMESPACE) is None


def test_two_tunings_do_not_see_each_other() -> None:
    operated = Operated()
    operated.submit("one", **ONE_POOL)
    operated.submit("two", **ONE_POOL)

    def finished() -> Iterator[str]:
        return (operated.status(name).get("phase", "") for name in ("one", "two"))

    for _ in range(20):
        operated.reconcile("one")
        operated.reconcile("two")
        operated.cluster.step()
    assert list(finished()) == ["Succeeded", "Succeeded"]
    assert operated.names()["Deployment"] == ["one-full", "two-full"]
    assert tuning_manifest("one", **ONE_POOL)["spec"] == tuning_manifest("two", **ONE_POOL)["spec"]


@pytest.mark.parametrize("scheme", ["BF16", "W8A8-INT8"])
def test_a_node_whose_clock_is_behind_is_no_trouble_of_its_pool(operated: Operated, scheme: str) -> None:
    """Its kubelet says that the pod ended an hour before the scheduler gave it to the node."""
    gate = TrialReport(trial="any", failure=Failure(reason=FailureReason.ACCURACY_GATE, message="too far off"))
    operated.cluster.endings["full", scheme] = [
        lambda pod: pod.ended("quantize", QUANTIZED, began=-3600, finished=-3500).ended(
            "measure", gate, exit_code=1, began=-3500, finished=-3400
        )
    ]
    operated.submit(**ONE_POOL)
    operated.run()
    used = operated.pool("full")["budgetUsed"]
    assert used["gpuHours"] >= 0
    assert used["durationSeconds"] >= 0
    assert not operated.errors
