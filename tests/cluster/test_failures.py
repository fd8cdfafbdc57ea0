"""Every reason for which a trial can fail, produced by real pods: killed by the kernel, evicted by the kubelet, …

What a person finds is checked as much as what the operator does: the trial's sentence and log, and the tuning's.
Reasons that have to do with where a pod runs are in `test_stuck.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import LIMIT_S, Workplace, workplace

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

SMALL = {"memoryGib": 2}
"""A node of this size: its engines have a memory limit of three quarters of it, as on a real one."""
DISK_LIMIT = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "scratch"},
    "spec": {"limits": [{"type": "Container", "default": {"ephemeral-storage": "100Mi"}}]},
}
"""What a cluster's administrator allows to pods that do not say what they need."""


@dataclass(frozen=True)
class Case:
    """A configuration, how it is made to fail, and what is then to be read."""

    tuning: str
    setting: int
    misbehaviour: dict[str, str]
    reason: str
    sentence: str
    tail: str = ""
    attempts: int = 1


CASES = (
    Case("filled", 1, {"quantize": "oom"}, "QuantizationOOM", "memory limit of its container (1536Mi)", "alloc"),
    Case("broken", 2, {"quantize": "crash"}, "QuantizationFailed", "columns=704 is not divisible", "Traceback"),
    Case("loading", 3, {"engine": "log:no_kernel_w8a16.log"}, "EngineLoadFailed", "no kernel", "Failed to find"),
    Case("loading", 4, {"engine": "oom"}, "EngineOOM", "memory limit of its container (1536Mi)", "allocating"),
    Case("loading", 5, {"engine": "silent"}, "Timeout", "did not answer /health within 32 s", "waiting for ever"),
    Case("loading", 6, {"engine": "log:kv_cache_space.log"}, "EngineOOM", "lower VLLM_CPU_KVCACHE_SPACE", "Error"),
    Case("serving", 7, {"measure": "gate"}, "AccuracyGate", "perplexity 91.3 is above the limit"),
    Case("serving", 8, {"measure": "errors"}, "LoadErrors", "37 of 64 requests failed"),
    Case("serving", 9, {"measure": "missing"}, "MetricsMissing", "ended without a report", "interrupted", attempts=3),
    Case("serving", 10, {"quantize": "fill-disk"}, "Evicted", "exceeds the total limit of containers", attempts=3),
)
GOOD = 11
"""The setting that works."""
WITH_GOOD = ("loading", "serving")
"""Tunings that have it. An artifact that cannot be made is not tried a second time: those two have nothing else."""


def searching(name: str, pool: str, scheme: str, **spec: Any) -> Manifest:
    settings = [case.setting for case in CASES if case.tuning == name] + ([GOOD] if name in WITH_GOOD else [])
    manifest = tuning(
        name,
        pools=(pool,),
        search={
            "strategy": "grid",
            "schemes": [scheme],
            "algorithms": ["rtn"],
            "engineDefaults": False,
            "engine": {"max-num-seqs": settings},
        },
        budget={"maxTrials": len(settings), "trialTimeout": "5m"},
        **spec,
    )
    manifest["spec"]["nodePools"][0]["hardware"] = SMALL
    return manifest


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """All failures of single configurations happen at once, in four tunings on two nodes."""
    with workplace(cluster, tmp_path_factory.mktemp("failures")) as found:
        found.behaviour.told(misbehaviours={f"max-num-seqs={case.setting}": case.misbehaviour for case in CASES})
        found.api.apply(DISK_LIMIT)
        without = {"approval": "Manual"}  # a Deployment of theirs would take the place of the others' on the node
        found.api.apply(searching("filled", "full", "W8A8-INT8", output=without))
        found.api.apply(searching("broken", "avx2", "W8A8-INT8", output=without))
        found.api.apply(searching("loading", "full", "W8A8-INT8"), searching("serving", "avx2", "W4A16"))
        yield found


def trial_of(place: Workplace, case: Case) -> Manifest:
    """The case's trial once it is over."""

    def probe() -> Manifest | None:
        for trial in place.trials(case.tuning):
            chosen = trial["spec"]["configuration"].get("engine", {}).get("max-num-seqs")
            if chosen == case.setting and trial.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return trial
        return None

    return wait_until(probe, 2 * LIMIT_S, f"{case.reason} of {case.tuning}", place.told)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.reason}-{case.setting}" for case in CASES])
def test_a_trial_says_why_it_failed(place: Workplace, case: Case) -> None:
    trial = trial_of(place, case)
    status = trial["status"]
    assert status["phase"] == "Failed"
    assert status["failure"]["reason"] == case.reason
    assert case.sentence in status["failure"]["message"]
    assert case.tail in "\n".join(status["failure"].get("logTail", []))
    assert case.reason in place.api.run("describe", "quantizationtrial", trial["metadata"]["name"])


@pytest.mark.parametrize("case", CASES, ids=[f"{case.reason}-{case.setting}" for case in CASES])
def test_only_failures_that_another_try_could_mend_are_tried_again(place: Workplace, case: Case) -> None:
    trial = trial_of(place, case)
    status = trial["status"]
    assert status["attempts"] == case.attempts
    assert len([warning for warning in status.get("warnings", []) if case.reason in warning]) == case.attempts - 1
    # A Job whose engine would be started again for ever has been removed.
    assert len(place.api.list("job", f"haqa.dev/trial={trial['metadata']['name']}")) <= 1


@pytest.mark.parametrize("name", WITH_GOOD)
def test_a_tuning_goes_on_after_failures_and_finds_the_configuration_that_works(place: Workplace, name: str) -> None:
    found = place.in_phase("Succeeded", name=name, limit_s=2 * LIMIT_S)
    (pool,) = found["status"]["pools"]
    failures = sum(case.tuning == name for case in CASES)
    assert pool["trials"] == {"total": failures + 2, "running": 0, "succeeded": 2, "failed": failures}
    assert f"max-num-seqs={GOOD}" in pool["best"]["configuration"]
    assert place.api.get("deployment", f"{name}-{pool['name']}")["status"]["availableReplicas"] == 1
