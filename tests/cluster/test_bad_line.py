"""However bad the line between operator and API server is: the end of an undisturbed run, each trial measured once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.cluster.bad_line import BadLine
from tests.cluster.end_state import end_state
from tests.cluster.kubectl import Kubectl
from tests.cluster.tunings import tuning
from tests.cluster.workplace import LIMIT_S, Workplace, workplace

pytestmark = pytest.mark.timeout(900)

POOLS = ("full",)
_LASTS_S = 0.5
"""How long a connection has at most."""


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("lines")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


@pytest.fixture(scope="module")
def undisturbed(place: Workplace) -> dict[str, object]:
    """What the same tuning comes to if nothing happens; its name is as long as the others'."""
    place.api.apply(tuning("quiet", pools=POOLS))
    place.in_phase("Succeeded", name="quiet")
    found = end_state(place, "quiet")
    place.tidied()
    return found


@contextmanager
def over_a_bad_line(place: Workplace) -> Iterator[BadLine]:
    """The operator talks to the API server over it; everybody else does not."""
    usual = place.operator.kubeconfig
    place.operator.stop()
    with BadLine(usual or place.api.kubeconfig, place.folder) as line:
        place.operator.kubeconfig = line.kubeconfig
        place.operator.start()
        place.until(lambda: line.open, "the operator comes over the line")
        try:
            yield line
        finally:
            place.operator.stop()
            place.operator.kubeconfig = usual
    place.operator.start()


def test_connections_that_freeze_are_given_up(place: Workplace, undisturbed: dict[str, object]) -> None:
    """Watches, and the calls that are under way, hear nothing any more, and nobody says that they never will."""
    with over_a_bad_line(place) as line:
        place.behaviour.told(hold=["measure"])
        place.api.apply(tuning("stiff", pools=POOLS))
        place.at_step("Evaluating", 0, "stiff")
        assert line.freeze() > 1
        # What happens now, no watch tells.
        place.behaviour.told()
        place.in_phase("Succeeded", name="stiff", limit_s=2 * LIMIT_S)
    assert end_state(place, "stiff") == undisturbed


def test_answers_that_come_late_are_answers(place: Workplace, undisturbed: dict[str, object]) -> None:
    with over_a_bad_line(place) as line:
        line.delay_s = 0.5
        place.api.apply(tuning("delay", pools=POOLS))
        place.in_phase("Succeeded", name="delay", limit_s=2 * LIMIT_S)
    assert end_state(place, "delay") == undisturbed


def test_connections_that_are_reset_again_and_again_are_made_anew(
    place: Workplace, undisturbed: dict[str, object]
) -> None:
    dropped = 0

    def over() -> bool:
        nonlocal dropped
        time.sleep(_LASTS_S)
        dropped += line.drop()
        return place.phase("reset") == "Succeeded"

    with over_a_bad_line(place) as line:
        place.api.apply(tuning("reset", pools=POOLS))
        place.until(over, "it ends all the same", 2 * LIMIT_S)
    assert dropped > 20
    assert end_state(place, "reset") == undisturbed
