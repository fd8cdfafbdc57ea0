"""Whole tunings from spec to Deployment, in memory: what comes out, and what is said on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.kinds import DEPLOYMENT, SERVICE
from tests.fakes.simulated_cluster import NAMESPACE, Ending, reporting
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_contract import Configuration, Failure, FailureReason, TrialReport
from haqa_operator.api import Proposal, Proposer
from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import APPROVAL, CONTROLLER_REVISION, EVENT, JOB, TRIAL, TUNING
from haqa_operator.cluster.edges.proposals import ProposalRequest


def trials_of(operated: Operated) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in operated.cluster.api.list(TRIAL, NAMESPACE)}


def schemes(operated: Operated, pool: str) -> list[str]:
    found = (one for one in trials_of(operated).values() if one["spec"]["pool"] == pool)
    return [one["spec"]["configuration"]["scheme"] for one in sorted(found, key=lambda one: one["spec"]["number"])]


def test_every_pool_gets_the_winner_of_its_own_hardware(operated: Operated) -> None:
    operated.submit()
    status = operated.run()
    assert status["phase"] == "Succeeded"
    assert operated.pool("full")["best"]["configuration"] == "W8A8-INT8/rtn"
    assert operated.pool("avx2")["best"]["configuration"] == "W4A16/rtn"
    assert status["bestSpeedup"] == "4.50x"
    assert status["poolsDone"] == "2/2"
    assert operated.names()["Deployment"] == operated.names()["Service"] == ["demo-avx2", "demo-full"]
    assert sorted(operated.cluster.measured) == sorted(trials_of(operated)), "each trial is measured once"
    assert not operated.errors


def test_trial_and_winner_run_the_same_command(operated: Operated) -> None:
    operated.submit()
    operated.run()
    winner = operated.pool("full")["best"]["trial"]
    job = operated.cluster.api.get(JOB, winner, NAMESPACE)
    deployment = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert job is not None
    assert deployment is not None

    def engine(of: Manifest, containers: str) -> Manifest:
        return next(one for one in of["spec"]["template"]["spec"][containers] if one["name"] == "vllm")

    trial, served = engine(job, "initContainers"), engine(deployment, "containers")
    assert [trial[field] for field in ("image", "command", "args", "env", "resources")] == [
        served[field] for field in ("image", "command", "args", "env", "resources")
    ]


def test_the_baseline_runs_alone_and_first(operated: Operated) -> None:
    operated.submit()
    operated.run(until=lambda status: status.get("trialsDone") not in (None, "0/0"))
    assert set(schemes(operated, "full")) == {"BF16"}
    operated.run()
    assert schemes(operated, "full")[0] == "BF16"


def test_a_failed_trial_says_why_and_the_search_goes_on(operated: Operated) -> None:
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.ENGINE_OOM, "no memory for the cache")]
    operated.submit(**ONE_POOL)
    status = operated.run()
    failed = next(one for one in trials_of(operated).values() if one["status"]["phase"] == "Failed")
    assert failed["status"]["failure"]["reason"] == "EngineOOM"
    assert failed["status"]["failure"]["message"] == "no memory for the cache"
    assert status["phase"] == "Succeeded"
    assert operated.pool("full")["best"]["configuration"] == "W4A16/rtn"
    assert operated.pool("full")["trials"]["failed"] == 1


def test_a_failure_that_is_not_the_configurations_is_tried_again_and_costs_no_trial(operated: Operated) -> None:
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.METRICS_MISSING, "no numbers came")]
    operated.submit(**ONE_POOL)
    operated.run()
    again = next(one for one in trials_of(operated).values() if one["spec"]["configuration"]["scheme"] == "W8A8-INT8")
    assert again["status"]["phase"] == "Succeeded"
    assert again["status"]["attempts"] == 2
    assert again["status"]["warnings"] == ["attempt 1: MetricsMissing: no numbers came"]
    assert operated.pool("full")["budgetUsed"]["trials"] == 2


def test_a_trial_that_is_tried_in_vain_every_time_fails(operated: Operated) -> None:
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.METRICS_MISSING)] * 9
    operated.submit(**ONE_POOL)
    operated.run()
    failed = next(one for one in trials_of(operated).values() if one["status"]["phase"] == "Failed")
    assert failed["status"]["failure"]["reason"] == "MetricsMissing"
    assert failed["status"]["attempts"] == 3


def test_suspending_lets_running_trials_end_and_starts_none(operated: Operated) -> None:
    operated.submit()
    operated.run(until=lambda status: status.get("phase") == "Running")
    operated.submit(suspend=True)
    for _ in range(5):
        operated.reconcile()
        operated.cluster.step()
    assert operated.status()["phase"] == "Suspended"
    assert {one["status"]["phase"] for one in trials_of(operated).values()} == {"Succeeded"}
    before = len(trials_of(operated))
    operated.submit(suspend=False)
    assert operated.run()["phase"] == "Succeeded"
    assert len(trials_of(operated)) > before


def approved_by_alice(operated: Operated, trial: str) -> None:
    approval = {
        "apiVersion": APPROVAL.api_version,
        "kind": APPROVAL.kind,
        "metadata": {"name": "yes", "namespace": NAMESPACE},
        "spec": {"tuning": "demo", "trial": trial, "approvedBy": "alice"},
    }
    operated.cluster.api.stand_in(approval)


def test_an_answer_waits_for_approval(operated: Operated) -> None:
    operated.submit(output={"approval": "Manual"})
    operated.run(until=lambda status: {pool["phase"] for pool in status["pools"]} == {"AwaitingApproval"})
    assert operated.names()["Deployment"] == []
    winner = operated.pool("full")["best"]["trial"]
    assert operated.pool("full")["message"].endswith(f"kubectl haqa approve demo --trial {winner}")
    approved_by_alice(operated, winner)
    operated.run(until=lambda status: "Succeeded" in {pool["phase"] for pool in status["pools"]})
    assert operated.names()["Deployment"] == ["demo-full"]
    (record,) = operated.records()
    assert record["metadata"]["annotations"]["haqa.dev/approved-by"] == "alice"


def test_an_approval_is_of_what_was_decided_before_it_and_of_nothing_later(operated: Operated) -> None:
    """Names of trials and Deployments come again; what somebody said yes to does not."""
    asked = {**ONE_POOL, "output": {"approval": "Manual"}}
    operated.submit(**asked)
    operated.run(until=lambda status: {pool["phase"] for pool in status["pools"]} == {"AwaitingApproval"})
    winner = operated.pool("full")["best"]["trial"]
    approved_by_alice(operated, winner)
    operated.run()
    operated.cluster.now += 60
    # Another place for the same winner, and many of it.
    elsewhere = {"approval": "Manual", "deployment": {"name": "payments", "replicas": 50}}
    operated.submit(**{**asked, "output": elsewhere})
    operated.run(until=lambda status: {pool["phase"] for pool in status["pools"]} == {"AwaitingApproval"})
    assert operated.names()["Deployment"] == ["demo-full"]
    # Another configuration by the same name: records and trials are gone, as whoever may delete them can have it.
    for record in operated.records():
        operated.cluster.api.delete(CONTROLLER_REVISION, record["metadata"]["name"], NAMESPACE)
    for trial in trials_of(operated):
        operated.cluster.api.delete(TRIAL, trial, NAMESPACE)
    operated.submit(**asked)
    operated.run(until=lambda status: {pool["phase"] for pool in status["pools"]} == {"AwaitingApproval"})
    assert operated.pool("full")["best"]["trial"] == winner, "by the name it would count"
    assert operated.records()[-1]["metadata"]["annotations"].get("haqa.dev/approved-by") is None


def test_only_manifests_are_wanted(operated: Operated) -> None:
    operated.submit(output={"mode": "Manifest"})
    assert operated.run()["phase"] == "Succeeded"
    assert operated.names()["Deployment"] == []


def test_a_winner_that_does_not_come_up_says_what_it_waits_for(operated: Operated) -> None:
    operated.cluster.deployments.starting = False
    operated.submit()
    operated.run(until=lambda status: {pool["phase"] for pool in status.get("pools", [])} == {"Deploying"})
    operated.cluster.step()
    operated.reconcile()
    assert "Deployment demo-full: demo-full-" in operated.pool("full")["message"]
    operated.cluster.deployments.starting = True
    assert operated.run()["phase"] == "Succeeded"


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE])
def test_what_somebody_else_has_made_is_never_written(operated: Operated, kind: Any) -> None:
    theirs = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "postgres", "namespace": NAMESPACE, "labels": {"app": "postgres"}},
        "spec": {"selector": {"app": "postgres"}},
    }
    before = operated.cluster.api.stand_in(theirs)
    operated.submit(
        nodePools=[{"name": "full", "nodeSelector": {"pool": "full"}}], output={"deployment": {"name": "postgres"}}
    )
    status = operated.run()
    assert status["phase"] == "Failed"
    assert operated.pool("full")["message"] == (
        f'{kind.kind} postgres exists already and was not made by this tuning for pool "full"; choose another '
        "output.deployment.name, or set output.deployment.adopt to take it over"
    )
    after = operated.cluster.api.get(kind, "postgres", NAMESPACE)
    assert after is not None
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])
    assert sum(len(operated.names()[name]) for name in ("Deployment", "Service")) == 1, "neither was written"


def test_what_is_to_be_adopted_is_taken_over(operated: Operated) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "chat"}},
    }
    operated.cluster.api.stand_in(theirs)
    pools = [{"name": "full", "nodeSelector": {"pool": "full"}}]
    operated.submit(nodePools=pools, output={"deployment": {"name": "chat", "adopt": True}})
    assert operated.run()["phase"] == "Succeeded"
    service = operated.cluster.api.get(SERVICE, "chat", NAMESPACE)
    assert service is not None
    assert service["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "haqa"


def test_drift_of_a_winner_is_corrected_but_not_its_scale(operated: Operated) -> None:
    operated.submit()
    operated.run()
    found = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert found is not None
    changed = {**found, "spec": {**found["spec"], "replicas": 7}}
    containers = changed["spec"]["template"]["spec"]["containers"]
    image = containers[0]["image"]
    containers[0]["image"] = "somebody/else:1"
    operated.cluster.api.stand_in(changed)
    operated.reconcile()
    after = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert after is not None
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert after["spec"]["replicas"] == 7


@pytest.mark.parametrize("known", [False, True], ids=["while-inspected", "suspended-once-known"])
def test_a_model_that_is_changed_before_the_first_trial_is_inspected_anew(operated: Operated, known: bool) -> None:
    pools = [{"name": "full", "nodeSelector": {"pool": "full"}}]
    operated.submit(nodePools=pools)
    operated.reconcile()
    if known:
        operated.submit(nodePools=pools, suspend=True)
        operated.cluster.step()
        operated.reconcile()
        assert operated.status()["model"]
    operated.submit(nodePools=pools, model={"uri": "pvc://models/another"})
    if not known:
        operated.cluster.step()
    assert operated.run()["phase"] == "Succeeded"
    jobs = operated.jobs()
    requests = [json.loads(one["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]) for one in jobs]
    assert {one["trial"] for one in requests} > {"fetch"}
    assert {one["model"]["uri"] for one in requests} == {"pvc://models/another"}
    assert not operated.errors


def test_a_pool_without_nodes_waits_while_the_other_is_tuned(operated: Operated) -> None:
    pools = [{"name": name, "nodeSelector": {"pool": name}} for name in ("full", "later")]
    operated.submit(nodePools=pools)
    operated.run(until=lambda status: status.get("poolsDone") == "1/2")
    assert operated.pool("later")["phase"] == "Pending"
    assert operated.pool("later")["message"].startswith("waiting: ")
    operated.cluster.node("later")
    assert operated.run()["phase"] == "Succeeded"


def test_a_trial_that_somebody_deletes_is_proposed_and_measured_anew(operated: Operated) -> None:
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status.get("trialsDone", "").startswith("2/"))
    gone = max(trials_of(operated))
    operated.cluster.api.delete(TRIAL, gone, NAMESPACE)
    assert operated.run()["phase"] == "Succeeded"
    assert sorted(schemes(operated, "full")) == ["BF16", "W4A16", "W8A8-INT8"]


def test_the_baseline_in_status_is_the_baseline_even_where_it_is_gone(operated: Operated) -> None:
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status.get("trialsDone", "").startswith("2/"))
    assert operated.pool("full")["baseline"].endswith("-000")
    operated.cluster.api.delete(TRIAL, operated.pool("full")["baseline"], NAMESPACE)
    operated.reconcile()
    names = {name: one["spec"]["proposer"] for name, one in trials_of(operated).items()}
    shown = operated.pool("full").get("baseline")
    assert shown is None or names[shown] == "baseline"


def test_a_spec_that_becomes_invalid_loses_nothing_that_was_found(operated: Operated) -> None:
    operated.submit()
    operated.run()
    before = operated.status()
    operated.submit(search={"engine": {"no-such-setting": [1]}, "strategy": "grid", "schemes": ["BF16"]})
    operated.reconcile()
    assert operated.status()["phase"] == "Failed"
    assert "no-such-setting" in operated.condition("Degraded")["message"]
    assert operated.condition("Degraded")["reason"] == "InvalidSpec"
    assert operated.status()["pools"] == before["pools"]
    assert operated.status()["model"] == before["model"]
    measured = len(operated.cluster.measured)
    operated.submit()
    assert operated.run()["phase"] == "Succeeded"
    assert len(operated.cluster.measured) == measured, "nothing is measured twice"


def test_a_tuning_that_is_deleted_leaves_its_winners_and_nothing_else(operated: Operated) -> None:
    operated.submit()
    operated.run()
    operated.cluster.api.delete(TUNING, "demo", NAMESPACE)
    operated.reconcile()
    names = operated.names()
    assert all(name.startswith("demo-") for name in names.pop("Pod")), "the winners' own"
    assert names == {
        "QuantizationTrial": [],
        "Job": [],
        "Deployment": ["demo-avx2", "demo-full"],
        "Service": ["demo-avx2", "demo-full"],
    }
    assert not operated.errors


def test_events_say_what_happened(operated: Operated) -> None:
    operated.submit()
    operated.run()
    tuning = operated.cluster.api.get(TUNING, "demo", NAMESPACE)
    assert tuning is not None
    reasons = {
        event["reason"]
        for event in operated.cluster.api.list(EVENT, NAMESPACE)
        if event["involvedObject"]["uid"] == tuning["metadata"]["uid"]
    }
    assert {"Searching", "TrialStarted", "TrialSucceeded"} <= reasons


def test_a_finished_tuning_is_only_applied_again(operated: Operated) -> None:
    operated.submit()
    operated.run()
    operated.api.calls.clear()
    versions = operated.names(), operated.status()
    operated.reconcile()
    assert (operated.names(), operated.status()) == versions
    written = [call for call in operated.api.calls if call.writes]
    assert not written


def test_nothing_of_an_earlier_winner_stays_in_the_deployment(operated: Operated) -> None:
    pools = [{"name": "full", "nodeSelector": {"pool": "full"}}]
    search = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}

    def variables() -> set[str]:
        found = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
        assert found is not None
        return {one["name"] for one in found["spec"]["template"]["spec"]["containers"][0]["env"]}

    operated.submit(nodePools=pools, search={**search, "fixedEngine": {"OMP_WAIT_POLICY": "active"}})
    operated.run()
    assert "OMP_WAIT_POLICY" in variables()
    operated.submit(nodePools=pools, search=search)
    operated.run(until=lambda status: status["phase"] == "Running")
    assert "OMP_WAIT_POLICY" in variables(), "the earlier winner serves until there is another"
    assert operated.run()["phase"] == "Succeeded"
    assert "OMP_WAIT_POLICY" not in variables()


NO_KERNEL = reporting(FailureReason.ENGINE_LOAD_FAILED, "this device has no kernel for the scheme (x); take it out")
TWO_EACH: dict[str, Any] = {
    "search": {
        "strategy": "grid",
        "schemes": ["BF16", "W8A8-INT8", "W4A16"],
        "algorithms": ["rtn"],
        "engine": {"max-num-seqs": [64, 128]},
        "engineDefaults": False,
    },
    "budget": {"maxTrials": 20, "trialTimeout": "5m"},
}


def test_what_a_trial_has_ruled_out_is_not_tried_and_the_status_says_by_which(operated: Operated) -> None:
    operated.cluster.endings["full", "W4A16"] = [NO_KERNEL] * 9
    operated.submit(**ONE_POOL, **TWO_EACH)
    assert operated.run()["phase"] == "Succeeded"
    assert schemes(operated, "full").count("W4A16") == 1
    assert schemes(operated, "full").count("W8A8-INT8") == 2
    (skipped,) = [one for one in operated.pool("full")["skipped"] if one["parameters"] == "scheme=W4A16"]
    assert "ended with EngineLoadFailed: this device has no kernel for the scheme (x)" in skipped["reason"]
    assert "or is ruled out by what trials have shown" in operated.pool("full")["stopped"]


def test_an_answer_that_another_trial_has_overtaken_is_asked_for_again(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    operated.cluster.endings["full", "W4A16"] = [NO_KERNEL] * 9
    ask, late = operated.dependencies.proposals.ask, [64, 128]

    def slow(question: ProposalRequest, propose: Any, on_answer: Any) -> None:
        def before_anything_failed() -> Any:
            found = Configuration.of("W4A16", "rtn", max_num_seqs=late.pop()) if late else None
            return Proposal(configuration=found, proposer=Proposer.AGENT) if found else propose()

        ask(question, before_anything_failed, on_answer)

    monkeypatch.setattr(operated.dependencies.proposals, "ask", slow)
    operated.submit(**ONE_POOL, **TWO_EACH)
    assert operated.run()["phase"] == "Succeeded"
    assert not late
    assert schemes(operated, "full").count("W4A16") == 1


def jobs(operated: Operated, component: str) -> list[Manifest]:
    found = operated.cluster.api.list(JOB, NAMESPACE, f"haqa.dev/component={component}")
    return sorted(found, key=lambda job: str(job["metadata"]["name"]))


def failing(reason: FailureReason, message: str) -> Ending:
    report = TrialReport(trial="quantize", failure=Failure(reason=reason, message=message))
    return lambda pod: pod.ended("quantize", report, exit_code=3, began=100, finished=160)


def test_an_artifact_is_made_once_for_all_pools_and_every_trial_is_told_which_it_is(operated: Operated) -> None:
    operated.submit()
    operated.run()
    made = jobs(operated, "artifact")
    requests = [request_of(job) for job in made]
    assert sorted(one["configuration"]["scheme"] for one in requests) == ["W4A16", "W8A8-INT8"], "for two pools"
    assert {one["model_digest"] for one in requests} == {"sha256-model"}
    served = {
        (one["configuration"]["scheme"], one.get("artifact"))
        for job in jobs(operated, "trial")
        for one in [request_of(job)]
    }
    digests = {scheme: scheme.lower().encode().hex().ljust(64, "0")[:64] for scheme in ("W8A8-INT8", "W4A16")}
    assert served == {("BF16", None), *digests.items()}


def test_making_is_put_down_to_the_trial_that_asked_first(operated: Operated) -> None:
    operated.submit()
    operated.run()
    by_scheme: dict[str, list[float]] = {}
    for one in trials_of(operated).values():
        by_scheme.setdefault(one["spec"]["configuration"]["scheme"], []).append(one["status"]["machineHours"])
    assert all(len(hours) == 2 for hours in by_scheme.values())
    assert max(by_scheme["BF16"]) == pytest.approx(min(by_scheme["BF16"]))
    for scheme in ("W8A8-INT8", "W4A16"):
        assert max(by_scheme[scheme]) == pytest.approx(2 * min(by_scheme[scheme])), "both Jobs take 30 s"


def test_an_artifact_that_cannot_be_made_fails_its_trials_on_all_pools_and_no_accelerator_was_held(
    operated: Operated,
) -> None:
    operated.cluster.makings["W8A8-INT8"] = [failing(FailureReason.QUANTIZATION_OOM, "it takes 254 GiB")]
    operated.submit()
    assert operated.run()["phase"] == "Succeeded"
    failed = [one for one in trials_of(operated).values() if one["status"]["phase"] == "Failed"]
    assert {one["spec"]["pool"] for one in failed} == {"full", "avx2"}
    assert {one["status"]["failure"]["reason"] for one in failed} == {"QuantizationOOM"}
    asked, other = sorted((one["status"]["machineHours"] for one in failed), reverse=True)
    assert (asked > 0, other) == (True, 0)
    assert not any(request_of(job)["configuration"]["scheme"] == "W8A8-INT8" for job in jobs(operated, "trial"))
    assert operated.pool("full")["best"]["configuration"] == "W4A16/rtn"


def test_a_job_that_makes_an_artifact_is_replaced_where_it_failed_by_no_fault_of_its_own(operated: Operated) -> None:
    operated.cluster.makings["W8A8-INT8"] = [failing(FailureReason.MODEL_FETCH, "the hub does not answer")]
    operated.submit(**ONE_POOL)
    operated.run()
    assert operated.pool("full")["best"]["configuration"] == "W8A8-INT8/rtn"
    assert operated.pool("full")["trials"]["failed"] == 0
    assert [job["metadata"]["labels"]["haqa.dev/attempt"] for job in jobs(operated, "artifact")].count("2") == 1


def request_of(job: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
    return found


SMALL: dict[str, Any] = {
    "nodePools": [{"name": "full", "nodeSelector": {"pool": "full"}, "hardware": {"memoryGib": 3.2}}]
}
"""A machine that holds a model of 40 layers with 8 bits or less, and not with 16."""


def test_a_baseline_that_does_not_fit_is_scored_and_never_served(operated: Operated) -> None:
    operated.cluster.layers = 40
    operated.submit(**SMALL)
    status = operated.run()
    assert status["phase"] == "Succeeded"
    first = next(one for one in trials_of(operated).values() if one["spec"]["number"] == 0)
    assert (first["spec"]["proposer"], first["status"]["phase"]) == ("reference", "Succeeded")
    assert first["status"]["metrics"]["perplexity"]["value"] == 70
    (scored,) = [job for job in jobs(operated, "trial") if job["metadata"]["name"] == first["metadata"]["name"]]
    (container,) = scored["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "reference"
    assert not scored["spec"]["template"]["spec"].get("initContainers"), "no engine"
    assert first["metadata"]["name"] not in operated.cluster.measured
    best = operated.pool("full")["best"]
    assert best["configuration"] == "W8A8-INT8/rtn"
    ready = operated.condition("Ready")["message"]
    assert "The baseline is not served here (" in ready
    assert "accuracy with its own, found without serving it" in ready
    assert operated.names()["Deployment"] == ["demo-full"]
