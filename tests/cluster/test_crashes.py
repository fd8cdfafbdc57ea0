"""However often the operator is killed, and wherever: the same end as without, no trial measured twice, none lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.end_state import end_state
from tests.cluster.kubectl import Kubectl, has_condition
from tests.cluster.tunings import tuning
from tests.cluster.workplace import LIMIT_S, Workplace, workplace

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


def test_an_operator_that_crashes_after_every_single_write_comes_to_the_same_end(
    place: Workplace, undisturbed: dict[str, object]
) -> None:
    crashes = place.folder / "crashes"
    place.operator.kill()
    calm = place.operator.program
    place.operator.program = ("-m", "tests.cluster.crashing_operator", str(crashes))
    try:
        place.operator.start()
        place.api.apply(tuning("storm", pools=POOLS))
        place.in_phase("Succeeded", name="storm", limit_s=2 * LIMIT_S)
        # Concluding goes on after the phase is written.
        place.until(lambda: "Service" in crashes.read_text(), "the last write")
    finally:
        place.operator.stop()
        place.operator.program = calm
        place.operator.start()
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
