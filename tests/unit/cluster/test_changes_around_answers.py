"""What changes around an answer: nothing of what serves, until somebody wants it to."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.answered import (
    BETTER,
    DRIVER,
    FIRST,
    annotated,
    endpoints,
    phases,
    searching,
    settle,
    winners_pods,
)
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_operator.cluster.edges.api_server import JOB, NODE, TRIAL
from haqa_operator.cluster.installation import Installation


def test_nothing_of_the_installation_changes_what_serves(served: Operated) -> None:
    before = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    served.installation = Installation(engine_image="another/vllm:v0.33.0", user_id=4711)
    served.restart()
    served.api.calls.clear()
    settle(served)
    assert served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE) == before
    assert not [call for call in served.api.calls if call.writes and call.kind in (DEPLOYMENT, TRIAL, JOB)]
    stale = served.condition("Stale")
    assert stale["status"] == "True"
    assert "the engine's image is another/vllm:v0.33.0 now" in stale["message"]
    assert served.status()["phase"] == "Succeeded"


def test_nodes_that_go_away_take_no_answer_with_them(served: Operated) -> None:
    before = {name: served.status()[name] for name in ("phase", "pools", "model", "bestSpeedup")}
    served.cluster.api._stored.pop((NODE, None, "full-1"))
    settle(served)
    assert {name: served.status()[name] for name in before} == before
    drifted = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert drifted is not None
    image = drifted["spec"]["template"]["spec"]["containers"][0]["image"]
    drifted["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/else:1"
    served.cluster.api.stand_in(drifted)
    served.reconcile()
    after = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert after is not None
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_new_driver_makes_the_answer_stale(operated: Operated) -> None:
    label = "nvidia.com/cuda.driver-version.full"
    operated.cluster.node("full", **{label: "550.54.15"})
    operated.submit(**FIRST)
    operated.run()
    assert operated.condition("Stale")["status"] == "False"
    operated.cluster.node("full", **{label: "570.86.15"})
    settle(operated)
    assert "there are nodes with driver 570.86.15" in operated.condition("Stale")["message"]
    assert len(operated.records()) == 1


def test_a_change_starts_a_search_only_where_it_is_wanted(operated: Operated) -> None:
    label = "nvidia.com/cuda.driver-version.full"
    operated.cluster.node("full", **{label: "550.54.15"})
    operated.submit(**FIRST, output={"onChange": "Retune"})
    operated.run()
    measured = len(operated.cluster.measured)
    (before,) = endpoints(operated)
    operated.cluster.node("full", **{label: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    assert endpoints(operated) == [before], "it serves meanwhile"
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 2 * measured
    assert operated.condition("Stale")["status"] == "False"
    assert len(operated.records()) == 2
    settle(operated)
    assert len(operated.cluster.measured) == 2 * measured, "and only once"


def test_everything_is_measured_again_when_somebody_says_so(served: Operated) -> None:
    measured = len(served.cluster.measured)
    annotated(served, retune="2026-11-29")
    served.reconcile()
    served.run()
    settle(served)
    assert len(served.cluster.measured) == 2 * measured
    assert len(served.records()) == 2


def test_an_answer_is_only_measured_again_where_that_is_wanted(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**BETTER, output={"onChange": "Verify"})
    operated.run()
    assert len(operated.cluster.measured) == 3
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 5, "the baseline and the answer"
    assert operated.condition("Stale")["status"] == "False"
    first, second = (record["data"]["configuration"] for record in operated.records())
    assert first == second
    assert "there are nodes with driver 570.86.15" in operated.pool("full")["message"]
    settle(operated)
    assert len(operated.cluster.measured) == 5, "and only once"
    # Whatever is asked next is asked of all of it.
    operated.submit(**BETTER, output={"onChange": "Verify"}, budget={"maxTrials": 7})
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 6


def test_a_baseline_that_won_is_only_measured_again_itself(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**ONE_POOL, search=searching("BF16"), output={"onChange": "Verify"})
    operated.run()
    assert len(operated.cluster.measured) == 1
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 2
    assert operated.condition("Stale")["status"] == "False"


def test_a_change_is_noticed_also_after_somebody_had_it_measured_again(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**FIRST, output={"onChange": "Retune"})
    operated.run()
    annotated(operated, retune="once more")
    operated.run(until=lambda _: len(operated.records()) == 2)
    settle(operated)
    assert len(operated.cluster.measured) == 4
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda _: len(operated.records()) == 3)
    settle(operated)
    assert len(operated.cluster.measured) == 6
    assert operated.condition("Stale")["status"] == "False"


def test_another_price_makes_the_answer_stale_and_nothing_is_measured_again(operated: Operated) -> None:
    cheap, dear = ({**FIRST, "nodePools": [{**FIRST["nodePools"][0], "costPerHour": price}]} for price in (2.0, 4.0))
    goal: dict[str, Any] = {"objective": {"metric": "throughputPerCost"}}
    operated.submit(**cheap, **goal)
    operated.run()
    operated.submit(**dear, **goal)
    settle(operated)
    assert operated.condition("Stale")["message"].endswith("costPerHour is 4.0 now, and was 2.0")
    assert len(operated.records()) == 1
    operated.submit(**dear, **goal, output={"onChange": "Retune"})
    settle(operated)
    assert operated.condition("Stale")["status"] == "False"
    assert len(operated.cluster.measured) == 2
    before, after = (record["data"]["metrics"]["throughputPerCost"]["value"] for record in operated.records())
    assert before == pytest.approx(2 * after)
    assert phases(operated) == ["Retired", "Serving"]
    assert len(winners_pods(operated)) == 1


class TestLookingAtTheModelAgain:
    DAY = 24 * 3600.0

    def later(self, operated: Operated) -> None:
        operated.cluster.now += self.DAY
        settle(operated)

    def test_another_one_makes_the_answer_stale(self, served: Operated) -> None:
        looked = served.status()["model"]["looked"]
        served.cluster.model = "commit-2"
        settle(served)
        assert served.condition("Stale")["status"] == "False", "it is not looked at all the time"
        self.later(served)
        assert "the model is commit-2 now, and sha256-model was measured" in served.condition("Stale")["message"]
        assert served.status()["model"]["looked"] > looked
        assert len(served.cluster.measured) == 2, "and nothing is measured by itself"
        assert phases(served) == ["Serving"]

    def test_the_same_one_is_looked_at_once_a_day(self, served: Operated) -> None:
        self.later(served)
        assert served.condition("Stale")["status"] == "False"
        served.api.calls.clear()
        settle(served)
        assert not [call for call in served.api.calls if call.writes and call.kind is JOB]
        self.later(served)
        assert served.status()["phase"] == "Succeeded"

    def test_another_one_is_tuned_where_that_is_wanted(self, operated: Operated) -> None:
        operated.submit(**FIRST, output={"onChange": "Retune"})
        operated.run()
        operated.cluster.model = "commit-2"
        self.later(operated)
        operated.run()
        settle(operated)
        assert len(operated.cluster.measured) == 4
        assert operated.records()[-1]["data"]["surroundings"]["modelDigest"] == "commit-2"
        assert operated.condition("Stale")["status"] == "False"

    @pytest.mark.parametrize("never", ["suspended", "pinned", "switched off"])
    def test_where_it_cannot_change_or_nobody_wants_it_there_is_no_look(self, operated: Operated, never: str) -> None:
        model = {"uri": "hf://org/model", "revision": "0123456789" * 4} if never == "pinned" else None
        more: dict[str, Any] = {"model": model} if model else {}
        operated.submit(**FIRST, **more)
        operated.run()
        if never == "suspended":
            operated.submit(**FIRST, suspend=True)
        if never == "switched off":
            operated.installation = Installation(model_check_s=0)
            operated.restart()
        operated.cluster.model = "commit-2"
        self.later(operated)
        assert operated.condition("Stale")["status"] == "False"

    def test_a_hub_that_is_away_is_asked_again_the_next_day(self, served: Operated) -> None:
        served.cluster.model = None
        self.later(served)
        assert served.condition("Stale")["status"] == "False"
        served.cluster.model = "commit-2"
        settle(served)
        assert served.condition("Stale")["status"] == "False"
        self.later(served)
        assert "commit-2" in served.condition("Stale")["message"]
