"""What the operator itself costs: from the end of a trial to the next Job, writes for each trial, memory.

HAQA_TEST_KUBECONFIG=… python -m benchmarks.operator_overhead --trials 100 --tunings 100

Runs the operator beside the cluster of `make cluster` (with its python image: `make cluster-load IMAGES=python`), with
the stub runner and engine, in a namespace that it removes again. Times are taken where a user would see them: from
watches of Jobs and pods, on this process' clock. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.building import components
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.operator_process import ROOT, OperatorProcess
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import namespace, supplied

from haqa_operator.cluster.names import MEASURE

WRITES = ("create", "server_side_apply", "delete")
ADDRESS = "127.0.0.1:18080"


def searching(name: str, pool: str, trials: int) -> Manifest:
    """A tuning of that many trials, without a Deployment at its end."""
    return tuning(
        name,
        pools=(pool,),
        workload={"inputTokens": 32, "outputTokens": 32, "concurrency": [1], "repeats": 3},
        constraints=[],
        search={
            "strategy": "grid",
            "schemes": ["BF16", "W8A8-INT8", "W4A16"],
            "algorithms": ["rtn"],
            "engineDefaults": False,
            "engine": {"max-num-seqs": list(range(1, trials + 1))},
        },
        output={"mode": "Manifest"},
        budget={"maxTrials": trials, "trialTimeout": "5m"},
    )


class TrialClock:
    """When Jobs appeared and measuring ended, as watches of Jobs and pods heard it."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.appeared: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        api = config.new_client_from_config(str(kubeconfig))
        self._namespace = namespace
        for listing, heard in (
            (client.BatchV1Api(api).list_namespaced_job, self._job),
            (client.CoreV1Api(api).list_namespaced_pod, self._pod),
        ):
            threading.Thread(target=self._listen, args=(listing, heard), daemon=True).start()

    def gaps(self) -> list[float]:
        """Seconds from the end of each trial's measuring, which is before the end of its Job, to the next Job."""
        starts = sorted(self.appeared.values())
        following = ((end, next((start for start in starts if start > end), None)) for end in self.ended.values())
        return [start - end for end, start in following if start is not None]

    def _job(self, job: client.V1Job, now: float) -> None:
        self.appeared.setdefault(job.metadata.name, now)

    def _pod(self, pod: client.V1Pod, now: float) -> None:
        states = {status.name: status.state for status in pod.status.container_statuses or ()}
        if MEASURE in states and states[MEASURE].terminated is not None:
            self.ended.setdefault(pod.metadata.name, now)

    def _listen(self, listing: Callable[..., object], heard: Callable[[Any, float], None]) -> None:
        while True:
            for event in watch.Watch().stream(listing, self._namespace, timeout_seconds=600):
                heard(event["object"], time.monotonic())


def metric(name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"http://{ADDRESS}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    )


def writes() -> float:
    return sum(metric("haqa_api_request_seconds_count", verb=verb) for verb in WRITES)


def resident_mib() -> float:
    return metric("process_resident_memory_bytes") / 2**20


def cluster(kubeconfig: Path) -> Kubectl:
    """With the definitions of this checkout."""
    found = Kubectl(str(components() / "kubectl"), kubeconfig)
    found.run("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    wait_until(lambda: found.run("api-resources", "--api-group=haqa.dev", "-o", "name"), 30, "the definitions")
    return found


def measure_trials(api: Kubectl, trials: int) -> None:
    clock = TrialClock(api.kubeconfig, api.namespace)
    before = writes()
    began = time.monotonic()
    api.apply(searching("overhead", "full", trials))

    def done() -> bool:
        return api.get("quantizationtuning", "overhead").get("status", {}).get("phase") in ("Succeeded", "Failed")

    wait_until(done, 30.0 * trials, "the tuning ends")
    seconds = time.monotonic() - began
    ended = len(api.list("quantizationtrial"))
    gaps = sorted(clock.gaps())
    print(f"{ended} trials in {seconds:.0f} s, {seconds / ended:.1f} s each with their pods")
    print(
        f"end of measuring to the next Job, {len(gaps)} times: median {statistics.median(gaps):.2f} s, "
        f"95th percentile {gaps[int(0.95 * len(gaps))]:.2f} s, longest {gaps[-1]:.2f} s"
    )
    print(f"writes of the API server for each trial, events included: {(writes() - before) / ended:.1f}")
    print(f"resident memory with 1 tuning of {ended} trials: {resident_mib():.0f} MiB")


def measure_tunings(api: Kubectl, tunings: int) -> None:
    api.apply(*(searching(f"waiting-{number}", "nowhere", 3) for number in range(tunings)))

    def all_seen() -> bool:
        found = api.list("quantizationtuning")
        return len([one for one in found if one.get("status", {}).get("phase") == "Pending"]) >= tunings

    wait_until(all_seen, 10.0 * tunings, f"{tunings} tunings are looked at")
    before, began = metric("haqa_reconcile_seconds_count"), time.monotonic()
    time.sleep(60)
    looks = (metric("haqa_reconcile_seconds_count") - before) / (time.monotonic() - began)
    print(f"resident memory with {tunings} more tunings, which wait for nodes: {resident_mib():.0f} MiB")
    print(f"looks a second at them: {looks:.1f}; queue {metric('haqa_queue_depth'):.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tunings", type=int, default=100)
    given = parser.parse_args()
    kubeconfig = os.environ.get("HAQA_TEST_KUBECONFIG")
    if not kubeconfig:
        print("HAQA_TEST_KUBECONFIG names no cluster; `make cluster` starts one", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, namespace(cluster(Path(kubeconfig))) as api:
        root = Path(folder)
        supplied(api, root)
        operator = OperatorProcess(api, root / "operator.log", {"HAQA_HTTP": ADDRESS})
        operator.start()
        try:
            wait_until(lambda: _answers(), 60, "the operator answers")
            measure_trials(api, given.trials)
            measure_tunings(api, given.tunings)
        finally:
            operator.stop()
    return 0


def _answers() -> bool:
    try:
        return resident_mib() > 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
