"""What becomes of an answer: approval, a manifest alone, adoption; going on once the spec has changed; a queue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.building import BUSYBOX_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.plugin import Plugin
from tests.cluster.tunings import pool_of, tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("answers")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


def small(name: str, **more: Any) -> Manifest:
    """Two trials on one pool; W8A8-INT8 wins."""
    search = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(name, pools=("full",), search=search, **more)


def deployments(place: Workplace) -> list[str]:
    return [found["metadata"]["name"] for found in place.api.list("deployment")]


def events(place: Workplace, name: str) -> list[tuple[str, str]]:
    found = place.api.run(
        "get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "jsonpath={.items[*].reason}"
    )
    return [(name, reason) for reason in found.split()]


def give_way(place: Workplace, deployment: str) -> None:
    """The engine that serves has most of the node, and a trial needs as much."""
    place.api.run("scale", "deployment", deployment, "--replicas=0")


def test_a_winner_waits_for_approval_and_then_serves(place: Workplace, tmp_path: Path) -> None:
    place.api.apply(small("careful", output={"approval": "Manual"}))
    place.until(lambda: "AwaitingApproval" in place.described("careful"), "the winner waits")
    assert deployments(place) == []
    (pool,) = place.tuning("careful")["status"]["pools"]
    command = pool["message"].partition("To deploy it: ")[2]
    assert command.startswith("kubectl haqa approve careful --trial ")
    assert ("careful", "AwaitingApproval") in events(place, "careful")
    Plugin(place.api, tmp_path).says(*command.split()[2:])
    place.in_phase("Succeeded", name="careful")
    assert deployments(place) == ["careful-full"]


def test_a_manifest_alone_deploys_nothing(place: Workplace) -> None:
    place.api.apply(small("paper", output={"mode": "Manifest"}))
    found = place.in_phase("Succeeded", name="paper")
    assert pool_of(found, "full")["best"]["configuration"] == "W8A8-INT8/rtn"
    assert deployments(place) == []


def test_a_deployment_is_taken_over_when_that_is_asked_for(place: Workplace) -> None:
    labels = {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "mine"}
    container = {"name": "vllm", "image": BUSYBOX_IMAGE, "command": ["sleep", "600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    place.api.apply(theirs)
    place.api.apply(small("taking", output={"deployment": {"name": "mine", "adopt": True}}))

    def serving() -> bool:
        (found,) = place.api.get("deployment", "mine")["spec"]["template"]["spec"]["containers"]
        return bool(found["image"] != BUSYBOX_IMAGE)

    place.until(serving, "the Deployment is taken over")
    assert place.api.get("deployment", "mine")["spec"]["replicas"] == 2


def test_a_larger_space_goes_on_with_the_trials_there_are(place: Workplace) -> None:
    place.api.apply(small("more"))
    place.in_phase("Succeeded", name="more")
    before = {trial["metadata"]["uid"] for trial in place.trials("more")}
    give_way(place, "more-full")
    place.api.apply(tuning("more", pools=("full",)))

    def done() -> bool:
        found = place.tuning("more")
        seen = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(seen and found["status"]["trialsDone"] == "3/3")

    place.until(done, "the third scheme is measured")
    assert before < {trial["metadata"]["uid"] for trial in place.trials("more")}
    assert set(place.measured("more").values()) == {1}


def test_another_workload_begins_with_the_earlier_winner_which_keeps_serving(place: Workplace) -> None:
    place.api.apply(small("again"))
    place.in_phase("Succeeded", name="again")
    uid = place.api.get("deployment", "again-full")["metadata"]["uid"]
    workload = {"inputTokens": 64, "outputTokens": 32, "concurrency": [1, 8], "repeats": 3}
    schemes = {
        "strategy": "grid",
        "schemes": ["BF16", "W4A16", "W8A8-INT8"],
        "algorithms": ["rtn"],
        "engineDefaults": False,
    }
    give_way(place, "again-full")
    place.api.apply(tuning("again", pools=("full",), workload=workload, search=schemes))

    def new_run() -> list[Manifest]:
        return [trial for trial in place.trials("again") if trial["spec"]["proposer"] == "earlier-run"]

    place.until(lambda: new_run(), "the earlier winner is tried")
    (guess,) = new_run()
    assert guess["spec"]["number"] == 1
    assert guess["spec"]["configuration"]["scheme"] == "W8A8-INT8"
    serving = place.api.get("deployment", "again-full")
    assert serving["metadata"]["uid"] == uid
    assert place.tuning("again")["status"]["pools"][0]["deployment"] == "again-full"

    def done() -> bool:
        found = place.tuning("again")
        seen = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(seen and found["status"]["phase"] == "Succeeded")

    place.until(done, "the new answer")
    annotations = place.api.get("deployment", "again-full")["metadata"]["annotations"]
    assert annotations["haqa.dev/trial"] == guess["metadata"]["name"]


def test_jobs_of_a_queue_wait_until_they_are_admitted(place: Workplace) -> None:
    """Kueue's part is played by the test: it sets `suspend` to false, as Kueue does with what it admits."""
    place.api.apply(small("queued", queueName="gpus", output={"mode": "Manifest"}))
    admitted: set[str] = set()

    def admit() -> bool:
        for job in place.api.list("job", "haqa.dev/tuning=queued"):
            name = job["metadata"]["name"]
            if job["spec"].get("suspend") and name not in admitted:
                assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
                assert place.api.list("pod", f"job-name={name}") == []
                admitted.add(name)
                place.api.run("patch", "job", name, "--type=merge", "-p", '{"spec":{"suspend":false}}')
        return bool(place.phase("queued") == "Succeeded")

    place.until(lambda: "waits to be admitted" in place.described("queued"), "it says what it waits for")
    place.until(admit, "it ends once its Jobs are admitted")
    assert len(admitted) == 4, "the model's Job, an artifact's and two trials"


def test_model_and_pools_of_a_tuning_that_runs_cannot_change(place: Workplace) -> None:
    place.api.apply(small("fixed", output={"mode": "Manifest"}))
    place.until(lambda: place.phase("fixed") in ("Running", "Succeeded"), "it runs")
    other = small("fixed", output={"mode": "Manifest"})
    other["spec"]["model"] = {"uri": f"pvc://models/{secrets.token_hex(2)}"}
    with pytest.raises(Refused, match="cannot change"):
        place.api.apply(other)
