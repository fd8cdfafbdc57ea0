"""What people and machines do to a running tuning: deleting and editing its objects, restarting what it depends on.

Each test ends with the tuning where it would have come without, or says why that cannot be. Crashes of the operator
itself are in `test_crashes.py`, lost and drained nodes in `test_disruptions.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.machinery import Machinery
from tests.cluster.tunings import pool_of, tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import LIMIT_S, Workplace, workplace

pytestmark = pytest.mark.timeout(600)

POOLS = ("full",)
MANIFEST = {"mode": "Manifest"}
"""No Deployment, where the test is not about it."""
_LOOKED_AT_S = 10
"""After a change the operator looks within a second or two."""
GPU_NODE = {"nvidia.com/gpu.product": "NVIDIA-L40S"}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


def measured_once(place: Workplace) -> bool:
    return set(place.measured().values()) == {1}


def configurations(place: Workplace) -> list[str]:
    return [trial["spec"]["summary"] for trial in place.trials()]


def test_an_api_server_that_was_away_while_a_trial_ended_changes_nothing(place: Workplace, cluster: Kubectl) -> None:
    machinery = Machinery.of(cluster.kubeconfig)
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    running = place.at_step("Evaluating", 0)["metadata"]["name"]
    with machinery.without("kube-apiserver"):
        place.behaviour.told()
        wait_until(lambda: place.measured()[running] == 1, 60, "the trial to be measured while nobody can be told")
    place.until(lambda: answers(cluster), "the API server")
    found = place.in_phase("Succeeded")
    assert place.operator.running
    assert found["status"]["trialsDone"] == "3/3"
    assert measured_once(place)


def answers(cluster: Kubectl) -> bool:
    try:
        return bool(cluster.run("get", "--raw", "/readyz"))
    except Refused:
        return False


def test_a_job_deleted_by_hand_is_made_again_and_its_pods_never_run_side_by_side(place: Workplace) -> None:
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    trial = place.at_step("Evaluating", 0)["metadata"]["name"]
    (job,) = place.jobs()
    place.api.run("delete", "job", job["metadata"]["name"], "--wait=false")
    crowded = []

    def another() -> bool:
        pods = [pod for pod in place.pods() if pod["status"]["phase"] in ("Pending", "Running")]
        crowded.append(len(pods) > 1)
        jobs = [found["metadata"]["uid"] for found in place.jobs()]
        return bool(jobs) and job["metadata"]["uid"] not in jobs and len(pods) == 1

    place.until(another, "another Job")
    assert not any(crowded)
    place.behaviour.told()
    place.in_phase("Succeeded")
    assert place.measured()[trial] == 1
    assert place.trials()[0]["status"]["attempts"] == 1


def test_trials_deleted_by_hand_are_measured_again(place: Workplace) -> None:
    """A finished one, the finished baseline, and one that is running."""
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    place.at_step("Evaluating", 0)
    place.behaviour.told()
    place.at_step("Succeeded", 0)
    place.behaviour.told(hold=["measure"])
    running = place.at_step("Evaluating", 1)
    baseline = place.trials()[0]
    names = [trial["metadata"]["name"] for trial in (baseline, running)]
    uids = {trial["metadata"]["uid"] for trial in (baseline, running)}
    place.api.run("delete", "quantizationtrials", *names, "--wait=true")
    place.behaviour.told()
    found = place.in_phase("Succeeded")
    assert found["status"]["trialsDone"] == "3/3"
    assert sorted(configurations(place)) == ["BF16", "W4A16/rtn", "W8A8-INT8/rtn"]
    assert not uids & {trial["metadata"]["uid"] for trial in place.trials()}
    assert pool_of(found, "full")["best"]["configuration"] == "W8A8-INT8/rtn"


def test_an_answer_outlives_the_trial_that_won(place: Workplace) -> None:
    """It is on record, and nothing is measured for it again."""
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    answer = pool_of(place.in_phase("Succeeded"), "full")["answer"]
    winner = next(one for one in place.trials() if one["spec"]["summary"] == "W8A8-INT8/rtn")
    place.api.run("delete", "quantizationtrial", winner["metadata"]["name"], "--wait=true")
    time.sleep(_LOOKED_AT_S)
    found = place.tuning()
    assert found["status"]["phase"] == "Succeeded"
    assert pool_of(found, "full")["best"]["configuration"] == "W8A8-INT8/rtn"
    assert pool_of(found, "full")["answer"] == answer
    assert sorted(configurations(place)) == ["BF16", "W4A16/rtn"]


def test_a_trial_cannot_be_edited(place: Workplace) -> None:
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    trial = place.at_step("Succeeded", 0)["metadata"]["name"]
    changes = '{"spec": {"configuration": {"scheme": "W4A16"}}}'
    with pytest.raises(Refused, match="says what was measured and cannot change; delete the trial"):
        place.api.run("patch", "quantizationtrial", trial, "--type=merge", "-p", changes)
    better = '{"status": {"phase": "Failed"}}'
    with pytest.raises(Refused, match="a finished trial"):
        place.api.run("patch", "quantizationtrial", trial, "--subresource=status", "--type=merge", "-p", better)


def test_the_winners_deployment_comes_back_as_it_was_measured(place: Workplace) -> None:
    place.api.apply(tuning(pools=POOLS))
    place.in_phase("Succeeded")

    def container() -> Manifest:
        found: list[Manifest] = place.api.get("deployment", "demo-full")["spec"]["template"]["spec"]["containers"]
        (only,) = found
        return only

    before = container()
    arguments = '[{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["--enforce-eager"]}]'
    place.api.run("scale", "deployment", "demo-full", "--replicas=0")
    place.api.run("annotate", "deployment", "demo-full", "owner=somebody")
    place.api.run("set", "image", "deployment/demo-full", "vllm=localhost/other:1")
    place.until(lambda: container() == before, "the image to be put back")
    place.api.run("patch", "deployment", "demo-full", "--type=json", "-p", arguments)
    place.until(lambda: container() == before, "the arguments to be put back")
    edited = place.api.get("deployment", "demo-full")
    assert edited["spec"]["replicas"] == 0
    assert edited["metadata"]["annotations"]["owner"] == "somebody"
    uid = edited["metadata"]["uid"]
    place.api.run("delete", "service", "demo-full")
    place.until(lambda: place.api.list("service"), "the Service to come back", limit_s=60)
    place.api.run("delete", "deployment", "demo-full")

    def back() -> bool:
        found = place.api.list("deployment")
        return bool(found) and found[0]["metadata"]["uid"] != uid

    place.until(back, "the Deployment to come back", limit_s=60)
    assert container() == before
    place.until(lambda: place.api.get("deployment", "demo-full")["status"].get("availableReplicas") == 1, "it to serve")
    assert measured_once(place)


def test_a_changed_budget_takes_effect_and_what_was_measured_cannot_change(place: Workplace) -> None:
    def edited(**spec: Any) -> Manifest:
        return tuning(pools=POOLS, output=MANIFEST, **spec)

    place.behaviour.told(hold=["measure"])
    place.api.apply(edited())
    place.at_step("Evaluating", 0)
    for field, change in (
        ("model", edited(model={"uri": "pvc://models/other"})),
        ("nodePools", tuning(pools=("avx2",), output=MANIFEST)),
    ):
        with pytest.raises(Refused, match=f"{field} cannot change once the tuning has started"):
            place.api.apply(change)
    place.api.apply(edited(budget={"maxTrials": 1, "trialTimeout": "5m"}))
    place.behaviour.told()
    found = place.in_phase("Succeeded")
    assert found["status"]["trialsDone"] == "2/2"
    assert "budget.maxTrials 1" in pool_of(found, "full")["stopped"]
    place.api.apply(edited(budget={"maxTrials": 5, "trialTimeout": "5m"}))
    place.until(lambda: place.tuning()["status"]["trialsDone"] == "3/3", "the raised budget to be used")
    found = place.in_phase("Succeeded")
    assert pool_of(found, "full")["stopped"] == "every feasible configuration has been tried"
    assert measured_once(place)


@pytest.mark.parametrize("operator", ["up", "down"])
def test_deleting_a_running_tuning_ends_its_jobs_within_seconds(place: Workplace, operator: str) -> None:
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=POOLS))
    place.at_step("Evaluating", 0)
    if operator == "down":
        place.operator.kill()
    place.api.run("delete", "quantizationtuning", "demo", "--wait=true", limit_s=10)
    place.until(lambda: not place.api.list("job"), "the Jobs to be gone", limit_s=30)
    place.until(lambda: not place.trials(), "the trials to be gone", limit_s=30)
    place.until(lambda: not place.pods(), "the pods to be gone", limit_s=60)


def test_a_tuning_created_again_at_once_begins_anew(place: Workplace) -> None:
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    first = place.at_step("Evaluating", 0)["metadata"]["uid"]
    place.api.run("delete", "quantizationtuning", "demo", "--wait=true")
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))

    def begun() -> bool:
        running = [t for t in place.trials() if t.get("status", {}).get("phase") == "Evaluating"]
        return bool(running) and running[0]["metadata"]["uid"] != first

    place.until(begun, "the new baseline")
    place.behaviour.told()
    place.in_phase("Succeeded")
    assert len(place.trials()) == 3
    assert measured_once(place)


def test_trials_run_in_parallel_on_gpus_and_none_is_proposed_twice(place: Workplace) -> None:
    search = {
        "strategy": "grid",
        "schemes": ["BF16", "FP8-DYNAMIC", "W4A16"],
        "algorithms": ["rtn"],
        "engineDefaults": False,
    }
    manifest = tuning(pools=("l40s",), parallelTrials=2, search=search, output=MANIFEST)
    manifest["spec"]["nodePools"] = [{"name": "l40s", "nodeSelector": GPU_NODE, "gpusPerReplica": 1}]
    manifest["spec"]["search"]["engine"] = {"max-num-seqs": [64]}
    place.api.apply(manifest)
    place.at_step("Succeeded", 0)
    place.behaviour.told(hold=["measure"])

    def evaluating() -> int:
        return sum(trial.get("status", {}).get("phase") == "Evaluating" for trial in place.trials())

    place.until(lambda: evaluating() == 2, "two trials at once")
    unfinished = [trial for trial in place.trials() if trial["status"]["phase"] not in ("Succeeded", "Failed")]
    assert len(unfinished) == 2
    place.behaviour.told()
    place.in_phase("Succeeded", "Failed")
    tried = configurations(place)
    assert len(tried) == len(set(tried)) >= 4
    assert measured_once(place)


def test_a_namespace_that_allows_no_pod_says_so_and_goes_on_once_it_does(place: Workplace) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    place.api.apply(quota)
    place.api.apply(tuning(pools=POOLS, output=MANIFEST))
    place.until(lambda: "exceeded quota" in place.described(), "the tuning to say what keeps it waiting", LIMIT_S)
    place.api.run("delete", "resourcequota", "none")
    place.in_phase("Succeeded")
