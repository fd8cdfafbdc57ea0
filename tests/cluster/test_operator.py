"""The operator on a real cluster, with no right but the chart's: real API server, scheduler, kubelets and pods.

Runner and engine are stubs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.cluster.building import BUSYBOX_IMAGE
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.operator_rights import operator_kubeconfig
from tests.cluster.tunings import pool_of, tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import emptied, supplied

TUNING_LIMIT_S = 180.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def api(definitions: None, python_image: None, kubectl: Kubectl, tmp_path: Path) -> Iterator[Kubectl]:
    supplied(kubectl, tmp_path)
    yield kubectl
    emptied(kubectl)


@pytest.fixture
def operator(api: Kubectl, helm: Helm, tmp_path: Path) -> Iterator[OperatorProcess]:
    rights = operator_kubeconfig(api, helm, tmp_path)
    process = OperatorProcess(api, tmp_path / "operator.log", kubeconfig=rights)
    process.start()
    yield process
    process.stop()


def in_phase(api: Kubectl, phase: str, log: Path, name: str = "demo", limit_s: float = TUNING_LIMIT_S) -> Manifest:
    def probe() -> Manifest | None:
        found = api.get("quantizationtuning", name)
        return found if found.get("status", {}).get("phase") == phase else None

    def why_not() -> str:
        return api.run("describe", "quantizationtuning", name) + "\n" + log.read_text()[-6000:]

    return wait_until(probe, limit_s, f"{name} is {phase}", why_not)


def same_command_as_measured(api: Kubectl, trial: str, deployment: str) -> None:
    (job,) = api.list("job", f"haqa.dev/trial={trial}")
    measured = next(c for c in job["spec"]["template"]["spec"]["initContainers"] if c["name"] == "vllm")
    (served,) = api.get("deployment", deployment)["spec"]["template"]["spec"]["containers"]
    for part in ("image", "command", "args", "env", "resources"):
        assert served[part] == measured[part], part


def test_two_pools_get_the_winner_of_their_own_hardware_served(operator: OperatorProcess, api: Kubectl) -> None:
    api.apply(tuning())
    found = in_phase(api, "Succeeded", operator.log)
    assert pool_of(found, "full")["best"]["configuration"] == "W8A8-INT8/rtn"
    assert pool_of(found, "avx2")["best"]["configuration"] == "W4A16/rtn"
    assert found["status"]["bestSpeedup"] == "4.50x"
    assert found["status"]["poolsDone"] == "2/2"
    assert found["status"]["trialsDone"] == "6/6"
    for pool in ("full", "avx2"):
        same_command_as_measured(api, pool_of(found, pool)["best"]["trial"], f"demo-{pool}")
        deployment = api.get("deployment", f"demo-{pool}")
        assert deployment["status"]["availableReplicas"] == 1
        assert "ownerReferences" not in deployment["metadata"]
        assert api.get("service", f"demo-{pool}")["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert "finalizers" not in found["metadata"]
    assert not any("kopf" in name for name in found["metadata"].get("annotations", {}))


def test_deleting_a_tuning_leaves_the_winner_and_takes_the_rest_even_without_an_operator(
    operator: OperatorProcess, api: Kubectl
) -> None:
    api.apply(tuning(pools=("full",)))
    in_phase(api, "Succeeded", operator.log)
    operator.kill()
    api.run("delete", "quantizationtuning", "demo", "--wait=true", limit_s=20)
    wait_until(lambda: not api.list("quantizationtrial"), 60, "the trials are gone")
    wait_until(lambda: not api.list("job"), 60, "the Jobs are gone")
    assert api.get("deployment", "demo-full")["status"]["availableReplicas"] == 1


def test_an_operator_killed_again_and_again_measures_nothing_twice(operator: OperatorProcess, api: Kubectl) -> None:
    api.apply(tuning(pools=("full",)))

    def jobs() -> set[str]:
        return {job["metadata"]["uid"] for job in api.list("job")}

    def reached(count: int) -> bool:
        return len(jobs()) >= count

    for seen in range(1, 8):
        wait_until(partial(reached, seen), 60, f"{seen} Jobs were made", operator.log.read_text)
        operator.kill()
        operator.start()
    in_phase(api, "Succeeded", operator.log)
    trials = api.list("quantizationtrial")
    assert sorted(trial["spec"]["number"] for trial in trials) == [0, 1, 2]
    assert all(trial["status"]["phase"] == "Succeeded" for trial in trials)
    assert len(jobs()) == 7, "one Job for the model, for each artifact, for each trial, and to verify the answer"


@pytest.mark.nightly
def test_a_suspended_tuning_starts_nothing_until_it_goes_on(operator: OperatorProcess, api: Kubectl) -> None:
    api.apply(tuning(pools=("full",), suspend=True))
    wait_until(lambda: api.get("quantizationtuning", "demo").get("status"), 60, "the operator has looked at it")
    assert api.list("job") == []
    api.apply(tuning(pools=("full",)))
    in_phase(api, "Succeeded", operator.log)


@pytest.mark.nightly
def test_a_pool_without_nodes_waits_and_says_for_what(operator: OperatorProcess, api: Kubectl) -> None:
    api.apply(tuning(pools=("nowhere",)))

    def condition() -> Manifest | None:
        found = api.get("quantizationtuning", "demo").get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == "Progressing" and c["message"]), None)

    told = wait_until(condition, 60, "it says what it waits for")
    assert "no node matches" in told["message"]
    assert "haqa.dev/pool=nowhere" in told["message"]
    assert api.get("quantizationtuning", "demo")["status"]["phase"] == "Pending"


@pytest.mark.nightly
def test_what_the_api_server_cannot_check_is_a_condition(operator: OperatorProcess, api: Kubectl) -> None:
    wrong = tuning(pools=("full",))
    wrong["spec"]["search"]["engine"] = {"max-num-seq": [8]}
    api.apply(wrong)
    found = in_phase(api, "Failed", operator.log, limit_s=60)
    (degraded,) = [c for c in found["status"]["conditions"] if c["type"] == "Degraded"]
    assert degraded["status"] == "True"
    assert "spec.search.engine.max-num-seq is not a setting of vLLM" in degraded["message"]
    assert api.list("job") == []


@pytest.mark.nightly
def test_a_deployment_of_somebody_else_is_not_touched(operator: OperatorProcess, api: Kubectl) -> None:
    container = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["sleep", "600"]}
    labels = {"app": "theirs"}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "demo-full"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    api.apply(theirs)
    before = api.get("deployment", "demo-full")["spec"]
    api.apply(tuning(pools=("full",)))
    found = in_phase(api, "Failed", operator.log)
    assert "was not made by this tuning" in pool_of(found, "full")["message"]
    assert api.get("deployment", "demo-full")["spec"] == before


@pytest.mark.nightly
def test_replicas_belong_to_others_once_the_deployment_is_there(operator: OperatorProcess, api: Kubectl) -> None:
    api.apply(tuning(pools=("full",), output={"deployment": {"replicas": 2}}))
    in_phase(api, "Succeeded", operator.log)
    assert api.get("deployment", "demo-full")["spec"]["replicas"] == 2
    api.run("scale", "deployment", "demo-full", "--replicas=1")
    operator.kill()
    operator.start()
    # An edit, so that it is seen when the operator has looked again.
    again = tuning(pools=("full",), output={"deployment": {"replicas": 2}}, budget={"maxTrials": 4})
    api.apply(again)

    def looked() -> bool:
        found = api.get("quantizationtuning", "demo")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"] > 1)

    wait_until(looked, 60, "the operator has looked at the edit", operator.log.read_text)
    assert api.get("deployment", "demo-full")["spec"]["replicas"] == 1
