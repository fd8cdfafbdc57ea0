"""An upgrade of the operator changes no run: neither in the middle, nor one that has ended."""

from __future__ import annotations

import json

import pytest
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.cluster.edges.api_server import TRIAL
from haqa_operator.tuning import pool_setup

POOL = {"name": "full", "nodeSelector": {"pool": "full"}}


def measured_lengths(operated: Operated) -> dict[str, str]:
    """Trial -> the length that its engine was started with."""
    jobs = (one["spec"]["template"]["metadata"]["annotations"] for one in operated.jobs())
    requests = [json.loads(found[REQUEST_ANNOTATION]) for found in jobs if REQUEST_ANNOTATION in found]
    return {
        one["trial"]: length(one["engine"]["args"]) for one in requests if one["trial"] not in ("fetch", "quantize")
    }


def served_length(operated: Operated) -> str:
    deployment = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return length(container["args"])


def length(args: list[str]) -> str:
    (found,) = [text.partition("=")[2] for text in args if text.startswith("--max-model-len=")]
    return found


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An operator whose default was 256 tokens, until `undo`."""
    monkeypatch.setattr(pool_setup, "served_length", lambda *_: 256)
    return monkeypatch


def test_by_default_trials_and_winner_take_what_model_and_memory_allow(operated: Operated) -> None:
    operated.submit(nodePools=[POOL])
    operated.run()
    lengths = measured_lengths(operated)
    assert len(lengths) == len(operated.cluster.api.list(TRIAL, NAMESPACE))
    assert set(lengths.values()) == {served_length(operated)} == {"auto"}
    assert "earlier version" not in operated.pool("full")["message"]


def test_a_run_that_was_begun_under_an_earlier_version_is_measured_alike_to_its_end(
    operated: Operated, earlier: pytest.MonkeyPatch
) -> None:
    operated.submit(nodePools=[POOL])
    operated.run(until=lambda status: status.get("trialsDone") not in (None, "0/0"))
    begun = set(operated.cluster.measured)
    earlier.undo()
    status = operated.run()
    assert status["phase"] == "Succeeded"
    assert len(operated.cluster.measured) == len(set(operated.cluster.measured)) > len(begun)
    assert set(measured_lengths(operated).values()) == {served_length(operated)} == {"256"}
    assert "set spec.serving.maxModelLen to what your users send" in operated.pool("full")["message"]


def test_a_baseline_that_runs_during_the_upgrade_says_how_the_rest_is_measured(
    operated: Operated, earlier: pytest.MonkeyPatch
) -> None:
    operated.submit(nodePools=[POOL])
    operated.run(until=lambda status: bool(measured_lengths(operated)))
    (baseline,) = operated.cluster.api.list(TRIAL, NAMESPACE)
    assert baseline.get("status", {}).get("phase") != "Succeeded"
    earlier.undo()
    operated.run()
    assert set(measured_lengths(operated).values()) == {"256"}


def test_a_finished_tuning_keeps_what_it_serves_until_a_length_is_named(
    operated: Operated, earlier: pytest.MonkeyPatch
) -> None:
    operated.submit(nodePools=[POOL])
    operated.run()
    done = len(operated.cluster.measured)
    earlier.undo()
    operated.reconcile()
    assert len(operated.cluster.measured) == done
    assert served_length(operated) == "256"
    operated.submit(nodePools=[POOL], serving={"maxModelLen": 1024})
    operated.run()
    assert len(operated.cluster.measured) > done
    assert served_length(operated) == "1024"
