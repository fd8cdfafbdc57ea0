"""One tuning edited again and again, at random: every spec that is accepted ends in a defined phase, what is refused is
refused by name, and the first spec once more has the first answer once more.

After Acto (Gu et al., "Acto: automatic end-to-end testing for operation correctness of cloud system management", 2023).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

ENDS = ("Succeeded", "Failed", "Suspended")
TRANSITIONS = 20
_SEARCH = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}
_BUDGET = {"maxTrials": 5, "trialTimeout": "5m"}
_WORKLOAD = {"inputTokens": 32, "outputTokens": 32, "concurrency": [1, 8], "repeats": 3}

EDITS: dict[str, tuple[Any, ...]] = {
    "budget": (_BUDGET, {**_BUDGET, "maxTrials": 1}, {**_BUDGET, "maxTrials": 40}, {**_BUDGET, "maxGpuHours": 0.0001}),
    "search": (
        _SEARCH,
        {**_SEARCH, "schemes": ["BF16"]},
        {**_SEARCH, "schemes": ["W4A16", "W8A8-INT8"], "strategy": "random"},
        {**_SEARCH, "engine": {"max-num-seqs": [8, 16]}, "strategy": "bayesian"},
    ),
    "constraints": (
        [],
        [{"metric": "perplexity", "maxDegradationPercent": 5}],
        [{"metric": "perplexity", "max": 0.5}],
        [{"metric": "e2e", "percentile": 95, "max": 100000}],
    ),
    "objective": ({"metric": "throughput"}, {"metric": "e2e", "concurrency": 8}),
    "confirmation": ({"rounds": 0}, {"rounds": 2}),
    "suspend": (True, False),
    "workload": (_WORKLOAD, {**_WORKLOAD, "repeats": 4}),
}
"""Field -> what it may be. The pool's name and the model are fixed once a trial has begun."""

WRONG: tuple[tuple[str, Any, str], ...] = (
    ("budget", {**_BUDGET, "maxTrials": 0}, "maxTrials"),
    ("search", {**_SEARCH, "schemes": ["W3A16"]}, "schemes"),
    ("search", {**_SEARCH, "strategy": "guess"}, "strategy"),
    ("constraints", [{"metric": "perplexity"}], "constraints"),
    ("objective", {"metric": "throughput", "percentile": 200}, "percentile"),
    ("nodePools", [{"name": "other", "nodeSelector": {"haqa.dev/pool": "full"}}], "nodePools"),
    ("model", {"uri": "pvc://models/another"}, "model"),
    ("workload", {**_WORKLOAD, "concurrency": []}, "concurrency"),
)
"""Field, value, and what the refusal names."""


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("transitions")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_accepted_spec_ends_and_going_back_goes_back(place: Workplace, seed: int) -> None:
    draw, name = random.Random(seed), f"edits-{seed}"
    first = {"search": _SEARCH, "budget": _BUDGET, "workload": _WORKLOAD, "objective": {"metric": "throughput"}}
    spec: dict[str, Any] = {**first, "output": {"mode": "Manifest"}}
    applied(place, name, spec)
    answer = best(ended(place, name))
    refused = 0
    for _ in range(TRANSITIONS):
        if draw.random() < 0.25:
            field, value, named = draw.choice(WRONG)
            with pytest.raises(Refused, match=named):
                applied(place, name, {**spec, field: value})
            refused += 1
            continue
        field = draw.choice(sorted(EDITS))
        spec = {**spec, field: draw.choice(EDITS[field])}
        applied(place, name, spec)
        found = ended(place, name)
        if spec.get("suspend"):
            # What has its answer keeps it. What is being measured ends, and nothing else begins.
            place.until(lambda: not active(place), f"the trials of {name} to end")
        else:
            assert found["status"]["phase"] != "Suspended"
        if found["status"]["phase"] == "Failed":
            assert any(pool["message"] for pool in found["status"]["pools"]), "why is said"
    assert refused
    applied(place, name, {**first, "output": {"mode": "Manifest"}, "constraints": [], "suspend": False})
    applied(place, name, {**first, "output": {"mode": "Manifest"}})
    assert best(ended(place, name)) == answer
    assert set(place.measured(name).values()) == {1}, "nothing is measured twice"


def applied(place: Workplace, name: str, spec: dict[str, Any]) -> None:
    place.api.apply(tuning(name, pools=("full",), **spec))


def ended(place: Workplace, name: str) -> Manifest:
    """The tuning, once the operator has seen its spec and is done with it."""

    def probe() -> bool:
        found = place.tuning(name)
        status = found.get("status", {})
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and status.get("phase") in ENDS

    place.until(probe, f"{name} to end: {place.tuning(name)['spec']}")
    return place.tuning(name)


def active(place: Workplace) -> bool:
    return any(job.get("status", {}).get("active") for job in place.jobs())


def best(found: Manifest) -> tuple[str, str | None]:
    """Phase of the tuning, and the configuration that is to be served."""
    (pool,) = found["status"]["pools"]
    return str(found["status"]["phase"]), pool.get("best", {}).get("configuration")
