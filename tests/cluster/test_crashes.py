"""However often the operator is killed, and wherever: the same end as without, no trial measured twice, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.end_state import end_state
from tests.cluster.git_target import git_target
from tests.cluster.kubectl import Kubectl, Manifest, has_condition
from tests.cluster.tunings import tuning
from tests.cluster.workplace import LIMIT_S, Workplace, workplace
from tests.fakes.forges import FakeGitea
from tests.fakes.git_server import GitServer, git

pytestmark = pytest.mark.timeout(900)

POOLS = ("full",)


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("crashes")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


@pytest.fixture(scope="module")
def undisturbed(place: Workplace) -> dict[str, object]:
    """What the same tuning comes to if nothing happens; its name is as long as the others'."""
    place.api.apply(tuning("calm1", pools=POOLS))
    place.in_phase("Succeeded", name="calm1")
    found = end_state(place, "calm1")
    place.tidied()
    return found


@contextmanager
def crashing(place: Workplace, crashes: Path) -> Iterator[None]:
    """An operator that dies after every write, in the place of the usual one."""
    place.operator.kill()
    calm = place.operator.program
    place.operator.program = ("-m", "tests.cluster.crashing_operator", str(crashes))
    try:
        place.operator.start()
        yield
    finally:
        place.operator.stop()
        place.operator.program = calm
        place.operator.start()


def test_an_operator_that_crashes_after_every_single_write_comes_to_the_same_end(
    place: Workplace, undisturbed: dict[str, object]
) -> None:
    crashes = place.folder / "crashes"
    with crashing(place, crashes):
        place.api.apply(tuning("storm", pools=POOLS))
        place.in_phase("Succeeded", name="storm", limit_s=2 * LIMIT_S)
        # Concluding goes on after the phase is written.
        place.until(lambda: "Service" in crashes.read_text(), "the last write")
    assert end_state(place, "storm") == undisturbed
    written = [line.rsplit(" ", 1)[0] for line in crashes.read_text().splitlines()]
    for write in (
        "create QuantizationTrial",
        "create Job",
        "server_side_apply QuantizationTrial/status",
        "server_side_apply QuantizationTuning/status",
        "server_side_apply Deployment",
        "server_side_apply Service",
        "server_side_apply PodDisruptionBudget",
        "server_side_apply ControllerRevision",
    ):
        assert write in written, f"no crash after {write}: {written}"
    assert written.count("create QuantizationTrial") == 3


def test_an_operator_killed_at_ten_moments_comes_to_the_same_end(
    place: Workplace, cluster: Kubectl, undisturbed: dict[str, object]
) -> None:
    moments = 0

    def killed() -> None:
        nonlocal moments
        moments += 1
        place.operator.kill()
        place.operator.start()

    place.behaviour.told(hold=["fetch", "quantize", "engine", "measure"])
    place.api.apply(tuning("kills", pools=POOLS))
    place.until(lambda: place.jobs("model"), "the Job that looks at the model")
    killed()
    cluster.run("cordon", "full")
    try:
        place.behaviour.told(hold=["quantize", "engine", "measure"])
        place.until(lambda: place.jobs(), "the baseline's Job, whose pod has no node")
        killed()
    finally:
        cluster.run("uncordon", "full")
    place.at_step("Quantizing", 0, "kills")
    killed()
    place.behaviour.told(hold=["engine", "measure"])
    place.at_step("Loading", 0, "kills")
    killed()
    place.behaviour.told(hold=["measure"])
    place.at_step("Evaluating", 0, "kills")
    killed()
    # The trial ends while nobody looks.
    moments += 1
    place.operator.kill()
    place.behaviour.told()
    (job,) = place.jobs()
    place.until(lambda: has_condition("Complete")(place.api.get("job", job["metadata"]["name"])), "the baseline's end")
    place.behaviour.told(hold=["quantize"])
    place.operator.start()
    # As soon as it is recorded, and then with the next one in sight.
    place.at_step("Succeeded", 0, "kills")
    killed()
    place.until(lambda: len(place.trials("kills")) == 2, "the next trial")
    killed()
    place.behaviour.told()
    place.at_step("Succeeded", 2, "kills")
    killed()
    place.until(lambda: place.api.list("deployment"), "the winner's Deployment")
    killed()
    place.in_phase("Succeeded", name="kills")
    killed()
    assert moments >= 10
    assert end_state(place, "kills") == undisturbed


def test_an_answer_that_is_approved_proposed_merged_and_stale_comes_to_the_same_end(
    place: Workplace, tmp_path: Path
) -> None:
    """Beside the API server's objects, the repository and the forge are written to: nothing is proposed twice."""
    calm = life_of_an_answer(place, "serene", tmp_path / "calm")
    place.tidied()
    crashes = place.folder / "crashes-of-an-answer"
    with crashing(place, crashes):
        stormy = life_of_an_answer(place, "stormy", tmp_path / "storm")
    assert stormy == calm
    written = [line.rsplit(" ", 1)[0] for line in crashes.read_text().splitlines()]
    for write in ("publish Open", "publish Merged", "server_side_apply ControllerRevision"):
        assert write in written, f"no crash after {write}: {written}"


def life_of_an_answer(place: Workplace, name: str, folder: Path) -> dict[str, Any]:
    """From the search to another price, with all that people do on the way; what is left in the end."""
    with GitServer(folder) as server:
        repository = server.repository({"README.md": "ours\n"})
        with FakeGitea(repository) as forge:
            target = git_target(place.api, server, forge)
            spec = {"output": {"mode": "Git", "approval": "Manual", "git": target}}
            place.api.apply(priced(name, 2.0, **spec))
            place.until(lambda: "answer" in pool(place, name), "the winner waits", 2 * LIMIT_S)
            assert forge.pulls == [], "nothing is proposed before it is approved"
            approved = {"tuning": name, "trial": pool(place, name)["answer"]["trial"], "approvedBy": "tests"}
            approval = {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationApproval", "spec": approved}
            place.api.apply({**approval, "metadata": {"name": name}})
            place.until(lambda: "waits to be merged" in place.described(name), "it is proposed")
            forge.merge(1)
            # An operator looks at an open pull request when it starts, and every few minutes.
            place.operator.kill()
            place.operator.start()
            place.until(lambda: "waits to be rolled out" in place.described(name), "the merge is noticed")
            manifests = yaml.safe_load_all(repository.file(f"apps/chat/{name}-full.yaml"))
            place.api.apply(*[manifest for manifest in manifests if manifest])
            place.in_phase("Succeeded", name=name)
            place.api.apply(priced(name, 3.0, **spec))
            place.until(lambda: stale(place, name) == "True", "the answer is stale")
            records = place.api.list("controllerrevision", f"haqa.dev/tuning={name}")
            return {
                "trials": len(place.trials(name)),
                "measured": sorted(place.measured(name).values()),
                "pulls": [(one.state, one.title.replace(name, "TUNING")) for one in forge.pulls],
                "commits": git(repository.path, "rev-list", "--count", "main"),
                "records": [(one["revision"], one["metadata"]["annotations"]["haqa.dev/phase"]) for one in records],
                "approved by": [one["metadata"]["annotations"].get("haqa.dev/approved-by") for one in records],
                "answer": {key: pool(place, name)["answer"][key] for key in ("revision", "phase", "serving")},
            }


def priced(name: str, cost: float, **spec: Any) -> Manifest:
    nodes = {"name": "full", "nodeSelector": {"haqa.dev/pool": "full"}, "costPerHour": cost}
    search = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(name, nodePools=[nodes], search=search, **spec)


def pool(place: Workplace, name: str) -> Manifest:
    found: Manifest = next(iter(place.tuning(name).get("status", {}).get("pools", ())), {})
    return found


def stale(place: Workplace, name: str) -> str | None:
    conditions = place.tuning(name)["status"]["conditions"]
    return next((str(one["status"]) for one in conditions if one["type"] == "Stale"), None)
