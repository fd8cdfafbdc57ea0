"""What a tuning has left behind, without the names and times that two runs of the same tuning cannot share."""

from __future__ import annotations

import re
from typing import Any

from tests.cluster.kubectl import Manifest
from tests.cluster.workplace import Workplace

_RECORD = re.compile(r"-[0-9a-f]{10}(?=')")


def end_state(place: Workplace, name: str) -> dict[str, Any]:
    status = place.tuning(name)["status"]
    pools = [pool["name"] for pool in status["pools"]]
    return {
        "phase": status["phase"],
        "pools": [_pool(pool, name) for pool in status["pools"]],
        "trials": [_trial(trial) for trial in place.trials(name)],
        "measured": sorted(place.measured(name).values()),
        "jobs": len(place.api.list("job", f"haqa.dev/tuning={name}")),
        "pods": len(place.api.list("pod", f"haqa.dev/tuning={name},haqa.dev/component=trial")),
        "deployments": [_served(place.api.get("deployment", f"{name}-{pool}"), name) for pool in pools],
        "services": [_reached(place.api.get("service", f"{name}-{pool}"), name) for pool in pools],
    }


def _pool(pool: Manifest, name: str) -> Manifest:
    kept = {key: pool[key] for key in ("name", "phase", "trials", "stopped", "candidates")}
    kept["message"] = pool["message"].replace(name, "TUNING")
    return kept | {"best": pool["best"]["configuration"], "speedup": pool["best"]["speedup"]["value"]}


def _trial(trial: Manifest) -> Manifest:
    spec, status = trial["spec"], trial["status"]
    kept = {key: spec[key] for key in ("pool", "number", "configuration", "proposer")}
    return kept | {key: status.get(key) for key in ("phase", "attempts", "throughput", "failure", "warnings")}


def _served(deployment: Manifest, name: str) -> str:
    # The name of a record says when its trial ended.
    return _RECORD.sub("-RECORD", repr(deployment["spec"]).replace(name, "TUNING"))


def _reached(service: Manifest, name: str) -> str:
    own = {key: value for key, value in service["spec"].items() if not key.startswith("clusterIP")}
    return repr(own).replace(name, "TUNING")
