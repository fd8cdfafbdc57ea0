"""An answer from its search to the requests of users, and what changes around it; a real cluster with stub engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.building import PYTHON_IMAGE
from tests.cluster.git_target import git_target
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace
from tests.fakes.forges import TOKEN, FakeGitea
from tests.fakes.git_server import GitServer

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

POOL = {"name": "full", "nodeSelector": {"haqa.dev/pool": "full"}}
SEARCH = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("production")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    extra = dict(place.operator.extra)
    yield
    if place.operator.extra != extra:
        place.operator.stop()
        place.operator.extra = extra
    place.tidied()


def asked(name: str, **more: Any) -> Manifest:
    return tuning(name, pools=("full",), search=SEARCH, **more)


def pool(place: Workplace, name: str) -> Manifest:
    found: Manifest = place.tuning(name)["status"]["pools"][0]
    return found


def condition(place: Workplace, name: str, kind: str) -> Manifest:
    conditions = place.tuning(name).get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), {})


def pods(place: Workplace, deployment: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in place.api.list("pod", f"app.kubernetes.io/instance={deployment}")}


def records(place: Workplace, name: str) -> list[Manifest]:
    found = place.api.list("controllerrevision", f"haqa.dev/tuning={name}")
    return sorted(found, key=lambda record: int(record["revision"]))


def test_winner_and_baseline_are_measured_alternately_on_one_node(place: Workplace) -> None:
    place.api.apply(asked("sure", confirmation={"rounds": 3}))
    place.in_phase("Succeeded", name="sure")
    windows = [trial for trial in place.trials("sure") if trial["spec"]["proposer"] == "confirmation"]
    assert len(windows) in (4, 6), "two rounds at the least, of one window each"
    schemes = [trial["spec"]["configuration"]["scheme"] for trial in windows]
    assert set(schemes[:2]) == set(schemes[2:4]) == {"BF16", "W8A8-INT8"}
    assert schemes[0] != schemes[2], "the order changes from round to round"
    assert pool(place, "sure")["answer"]["confirmed"] is True
    assert set(place.measured("sure").values()) == {1}
    (record,) = records(place, "sure")
    assert record["data"]["confirmed"] is True
    assert record["data"]["speedup"]["low"] > 1


def test_winner_and_baseline_are_measured_at_once_where_the_node_has_gpus_for_both(place: Workplace) -> None:
    manifest = tuning("pair", search=SEARCH, confirmation={"rounds": 3}, parallelTrials=2)
    gpus = {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    manifest["spec"]["nodePools"] = [{"name": "full", "nodeSelector": gpus, "gpusPerReplica": 1}]
    place.api.apply(manifest)
    place.in_phase("Succeeded", name="pair")
    windows = [trial for trial in place.trials("pair") if trial["spec"]["proposer"] == "confirmation"]
    for one, other in zip(windows[::2], windows[1::2], strict=True):
        assert one["spec"]["configuration"]["scheme"] != other["spec"]["configuration"]["scheme"]
        assert other["status"]["started"] < one["status"]["finished"], "both held a GPU at the same time"
        assert one["status"]["node"] == other["status"]["node"]
    assert pool(place, "pair")["answer"]["confirmed"] is True


def test_another_engine_image_makes_the_answer_stale_and_changes_nothing(place: Workplace) -> None:
    place.api.apply(asked("lasting"))
    place.in_phase("Succeeded", name="lasting")
    before, jobs = place.api.get("deployment", "lasting-full"), len(place.api.list("job"))
    place.operator.stop()
    place.operator.extra = {**place.operator.extra, "HAQA_ENGINE_IMAGE": f"{PYTHON_IMAGE}-v0.33.0"}
    place.operator.start()
    place.until(lambda: condition(place, "lasting", "Stale").get("status") == "True", "the answer is stale")
    assert "was measured" in condition(place, "lasting", "Stale")["message"]
    after = place.api.get("deployment", "lasting-full")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert len(place.api.list("job")) == jobs
    assert place.phase("lasting") == "Succeeded"


def test_the_same_answer_to_another_question_starts_no_pod(place: Workplace) -> None:
    place.api.apply(asked("again"))
    place.in_phase("Succeeded", name="again")
    before = pods(place, "again-full")
    place.api.apply(asked("again", budget={"maxTrials": 7, "trialTimeout": "5m"}))
    place.until(lambda: len(records(place, "again")) == 2, "the question is answered anew")
    place.in_phase("Succeeded", name="again")
    assert pods(place, "again-full") == before
    assert pool(place, "again")["answer"]["message"] == "the same as answer 1"


def test_another_price_is_said_and_nothing_is_measured(place: Workplace) -> None:
    priced = {"nodePools": [{**POOL, "costPerHour": 2.0}]}
    place.api.apply(asked("priced", **priced))
    place.in_phase("Succeeded", name="priced")
    place.api.apply(asked("priced", nodePools=[{**POOL, "costPerHour": 3.0}]))
    place.until(lambda: condition(place, "priced", "Stale").get("status") == "True", "the answer is stale")
    assert len(place.trials("priced")) == 2


def test_a_winner_goes_through_a_pull_request_and_is_verified_once_it_is_rolled_out(
    place: Workplace, tmp_path: Path
) -> None:
    with GitServer(tmp_path / "git") as server:
        repository = server.repository({"README.md": "ours\n"})
        with FakeGitea(repository) as forge:
            git = git_target(place.api, server, forge)
            place.api.apply(asked("owned", output={"mode": "Git", "git": git}))
            place.in_phase("AwaitingApproval", "Running", name="owned")
            place.until(lambda: forge.pulls, "a pull request is opened")
            place.until(lambda: "waits to be merged" in place.described("owned"), "and followed")
            assert place.api.list("deployment") == [], "only the repository is written to"
            forge.merge(1)
            # Who rolls it out is Argo CD or Flux, whose part is played here.
            place.until(lambda: "waits to be rolled out" in place.described("owned"), "the merge is noticed", 600)
            manifests = yaml.safe_load_all(repository.file("apps/chat/owned-full.yaml"))
            place.api.apply(*[manifest for manifest in manifests if manifest])
            place.in_phase("Succeeded", name="owned")
            answer = pool(place, "owned")["answer"]
            assert (answer["phase"], answer["message"]) == ("Serving", "as fast as its trial")
            (record,) = records(place, "owned")
            assert "throughput" in record["metadata"]["annotations"]["haqa.dev/verified"]
            kinds = "quantizationtunings,quantizationtrials,controllerrevisions,configmaps,deployments,jobs,events"
            assert TOKEN not in place.api.run("get", kinds, "-o", "yaml") + place.operator.log.read_text()
