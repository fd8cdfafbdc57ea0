"""Events tell a person what has happened, each thing once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import Condition, PoolPhase, PoolStatus, TuningStatus
from haqa_operator.cluster.edges.api_server import ApiError, ApiServer
from haqa_operator.cluster.edges.events import Event, EventRecorder, event_manifest, events_of

TUNING: Manifest = {
    "apiVersion": "haqa.dev/v1alpha1",
    "kind": "QuantizationTuning",
    "metadata": {"name": "demo", "namespace": "team", "uid": "u-1", "generation": 2},
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def status(*pools: PoolStatus, degraded: str = "") -> TuningStatus:
    condition = Condition(
        type="Degraded",
        status="True" if degraded else "False",
        reason="InvalidSpec" if degraded else "AsExpected",
        message=degraded,
        last_transition_time="2026-01-01T00:00:00Z",
    )
    return TuningStatus(pools=pools, conditions=(condition,))


def pool(phase: PoolPhase, message: str = "", **more: object) -> PoolStatus:
    return PoolStatus(name="full", phase=phase, message=message, hardware="4 x L40S", candidates=12, **more)


def events(before: TuningStatus, after: TuningStatus) -> list[tuple[str, str]]:
    return [(event.reason, event.message) for event in events_of(before, after)]


def test_what_is_waited_for_is_an_event_when_it_changes() -> None:
    no_node = status(pool(PoolPhase.PENDING, "waiting: no node matches"))
    no_model = status(pool(PoolPhase.PENDING, "inspecting the model"))
    assert events(TuningStatus(), no_node) == [("Waiting", 'pool "full": waiting: no node matches')]
    assert events(no_node, no_node) == []
    assert events(no_node, no_model) == [("Waiting", 'pool "full": inspecting the model')]


def test_the_steps_of_inspecting_the_model_are_no_events() -> None:
    one, two = (status(pool(PoolPhase.PENDING, f"inspecting the model: {step}")) for step in ("pulling", "reading"))
    assert events(one, two) == []


def test_progress_inside_a_phase_is_no_event() -> None:
    one, two = (status(pool(PoolPhase.SEARCHING, f"trial {number}")) for number in (1, 2))
    assert events(TuningStatus(), one) == [("Searching", 'pool "full": 12 configurations to choose from on 4 x L40S')]
    assert events(one, two) == []


def test_an_answer_and_its_deployment_are_events() -> None:
    searching = status(pool(PoolPhase.SEARCHING, "trial 1"))
    starting = status(pool(PoolPhase.DEPLOYING, "W4A16 is 1.7x", deployment="demo-full"))
    serving = status(pool(PoolPhase.SUCCEEDED, "W4A16 is 1.7x", deployment="demo-full"))
    assert events(searching, starting) == [
        ("Deploying", 'pool "full": W4A16 is 1.7x Deployment demo-full is starting'),
    ]
    assert events(starting, serving) == [("Completed", 'pool "full": W4A16 is 1.7x')]


def test_a_wrong_spec_is_a_warning_once() -> None:
    wrong = status(degraded="spec.model.uri: no such folder")
    (event,) = events_of(TuningStatus(), wrong)
    assert event == Event("InvalidSpec", "spec.model.uri: no such folder", warning=True)
    assert events(wrong, wrong) == []


def test_the_same_event_has_the_same_name_and_another_event_another() -> None:
    def name(reason: str, message: str, generation: int = 2) -> str:
        about = {**TUNING, "metadata": {**TUNING["metadata"], "generation": generation}}
        return str(event_manifest(about, Event(reason, message), NOW, "host")["metadata"]["name"])

    assert name("Waiting", "a") == name("Waiting", "a")
    assert (
        len({name("Waiting", "a"), name("Waiting", "b"), name("Searching", "a"), name("Waiting", "a", generation=3)})
        == 4
    )


def test_an_event_has_what_the_api_server_wants() -> None:
    made = event_manifest(TUNING, Event("Waiting", "x" * 2000), NOW, "host")
    assert made["lastTimestamp"] == "2026-01-02T03:04:05Z"
    assert len(made["message"]) == 1024
    assert made["involvedObject"]["uid"] == "u-1"
    assert made["type"] == "Normal"


def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    class Refusing:
        def create(self, manifest: object) -> None:
            raise ApiError("forbidden")

    EventRecorder(cast(ApiServer, Refusing())).record(TUNING, Event("Waiting", "a"))
