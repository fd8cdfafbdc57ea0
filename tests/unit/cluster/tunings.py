"""A whole tuning in memory: the operator's reconciler against a simulated cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.faulty_api import FaultyApi
from tests.fakes.kinds import CONTROLLER_REVISION, DEPLOYMENT, SERVICE
from tests.fakes.simulated_cluster import NAMESPACE, SimulatedCluster
from tests.policies import OPEN

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.reconciler import Key, Reconciler
from haqa_operator.cluster.edges.api_server import JOB, POD, TRIAL, TUNING
from haqa_operator.cluster.installation import Installation

POOLS = ("full", "avx2")
ONE_POOL: dict[str, Any] = {"nodePools": [{"name": "full", "nodeSelector": {"pool": "full"}}]}
"""For `tuning_manifest`: the first of the pools alone."""
_MOST_STEPS = 60
_RECORD = re.compile(r"-[0-9a-f]{10}(?=\"|-verify)")


def tuning_manifest(name: str = "demo", pools: tuple[str, ...] = POOLS, **spec: Any) -> Manifest:
    """Three schemes on two pools; `spec` replaces whole fields."""
    return {
        "apiVersion": TUNING.api_version,
        "kind": TUNING.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"uri": "pvc://models/model"},
            "nodePools": [{"name": pool, "nodeSelector": {"pool": pool}} for pool in pools],
            "workload": {"inputTokens": 32, "outputTokens": 32, "concurrency": [1, 8], "repeats": 3},
            "constraints": [{"metric": "perplexity", "maxDegradationPercent": 5}],
            "search": {
                "strategy": "grid",
                "schemes": ["BF16", "W8A8-INT8", "W4A16"],
                "algorithms": ["rtn"],
                "engineDefaults": False,
            },
            "artifacts": {"pvc": "artifacts"},
            "budget": {"maxTrials": 5, "trialTimeout": "5m"},
            "confirmation": {"rounds": 0},
            **spec,
        },
    }


@dataclass
class Operated:
    """Tunings, their cluster, and the operator.

    Attributes:
        api: The operator's way to the API server; the cluster's own is not disturbed by its faults.
        errors: What reconciliations have raised, in order.
    """

    cluster: SimulatedCluster = field(default_factory=SimulatedCluster)
    installation: Installation = field(default_factory=lambda: Installation(policy=OPEN))
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = FaultyApi(self.cluster.api)
        for pool in POOLS:
            self.cluster.node(pool)
        self.restart()

    def restart(self) -> None:
        """A new operator process: nothing is remembered."""
        self.dependencies = Dependencies.of(self.api, self.installation)
        self.reconciler = Reconciler(self.dependencies, lambda key: None, lambda: self.cluster.now)

    def submit(self, name: str = "demo", **spec: Any) -> None:
        self.cluster.api.stand_in(tuning_manifest(name, **spec))

    def reconcile(self, name: str = "demo") -> None:
        """As the queue calls it: an error is logged, and somebody tries again later."""
        try:
            self.reconciler.reconcile(Key(NAMESPACE, name))
        except Exception as error:
            self.errors.append(error)

    def run(self, until: Callable[[Manifest], bool] | None = None, name: str = "demo") -> Manifest:
        """Reconciles and lets time pass until the tuning has ended (or `until` holds); its status."""
        reached = until or (lambda status: status.get("phase") in ("Succeeded", "Failed"))
        for _ in range(_MOST_STEPS):
            self.reconcile(name)
            status = self.status(name)
            if reached(status):
                return status
            self.cluster.step()
        raise AssertionError(f"not reached in {_MOST_STEPS} steps: {self.status(name)}; errors {self.errors[-3:]}")

    def status(self, name: str = "demo") -> Manifest:
        found = self.cluster.api.get(TUNING, name, NAMESPACE)
        assert found is not None
        status: Manifest = found.get("status", {})
        return status

    def pool(self, pool: str, name: str = "demo") -> Manifest:
        return next(one for one in self.status(name)["pools"] if one["name"] == pool)

    def condition(self, kind: str, name: str = "demo") -> Manifest:
        return next(one for one in self.status(name)["conditions"] if one["type"] == kind)

    def jobs(self) -> list[Manifest]:
        """All Jobs but those that verify what is deployed."""
        found = self.cluster.api.list(JOB, NAMESPACE)
        return [job for job in found if job["metadata"]["labels"]["haqa.dev/component"] != "verify"]

    def records(self, pool: str = "full") -> list[Manifest]:
        """The pool's answers, oldest first."""
        found = self.cluster.api.list(CONTROLLER_REVISION, NAMESPACE, f"haqa.dev/pool={pool}")
        return sorted(found, key=lambda record: int(record["revision"]))

    def names(self) -> dict[str, list[str]]:
        """What is there, by kind."""
        kinds = (TRIAL, JOB, POD, DEPLOYMENT, SERVICE)
        return {k.kind: sorted(one["metadata"]["name"] for one in self.cluster.api.list(k, NAMESPACE)) for k in kinds}

    def end_state(self) -> dict[str, Any]:
        """Everything that must not depend on how it came about: times and counters left out."""
        pools = {
            pool["name"]: (pool["phase"], pool["best"]["configuration"], pool["trials"], pool["deployment"])
            for pool in self.status()["pools"]
        }
        trials = {
            trial["metadata"]["name"]: (trial["status"]["phase"], trial["spec"]["configuration"])
            for trial in self.cluster.api.list(TRIAL, NAMESPACE)
        }
        deployments = {one["metadata"]["name"]: one["spec"] for one in self.cluster.api.list(DEPLOYMENT, NAMESPACE)}
        names = self.names()
        names["Pod"] = [pod for pod in names["Pod"] if pod.endswith("-abcde")]
        found = json.dumps({"deployments": deployments, "names": names})
        # The name of a record says when its trial ended.
        masked = json.loads(_RECORD.sub("-RECORD", found))
        masked["names"] = {kind: sorted(of) for kind, of in masked["names"].items()}
        return {"pools": pools, "trials": trials, **masked}
