"""`make cluster-scale`: what the operator costs with hundreds of tunings on hundreds of nodes, and how soon it acts.

etcd, API server, scheduler and controllers are real, the nodes are played by kwok. Most tunings wait for nodes that are
not there; some have a trial that runs for ever. Prints figures; nothing is judged here, since machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.building import kwok, tools
from tests.cluster.definitions import define
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.local_cluster import LocalCluster
from tests.cluster.operator_process import OperatorProcess, claim
from tests.cluster.operator_rights import operator_kubeconfig
from tests.cluster.scale.machines import node, write_stages
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until

from haqa_operator.cluster.edges.api_server import NODE, TUNING
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi

NAMESPACE = "scale"
POOLS = 10
_LIMIT_S = 900.0
_HTTP = 18080


@dataclass(frozen=True)
class Size:
    """Attributes:
    watched_s: How long nothing changes.
    changes: Of which the time is taken until they are acted on.
    """

    nodes: int
    waiting: int
    running: int
    watched_s: float
    changes: int


@dataclass(frozen=True)
class Place:
    """A cluster with played nodes, and one namespace full of tunings."""

    api: KubernetesApi
    kubectl: Kubectl
    operator: OperatorProcess

    def tunings(self) -> list[Manifest]:
        return self.api.list(TUNING, NAMESPACE)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{_HTTP}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


def waiting_tuning(number: int) -> Manifest:
    """Whose node is not there."""
    return _tuning(f"waits-{number:04}", {"scale/waits": f"w{number:04}"})


def running_tuning(number: int) -> Manifest:
    return _tuning(f"runs-{number:04}", {"scale/pool": f"p{number % POOLS}"})


def _tuning(name: str, selector: dict[str, str]) -> Manifest:
    pool = {"name": "l40s", "nodeSelector": selector}
    made = tuning(name, nodePools=[pool], budget={"maxTrials": 5, "trialTimeout": "6h"})
    made["metadata"]["namespace"] = NAMESPACE
    return made


@contextmanager
def place(size: Size, folder: Path) -> Iterator[Place]:
    """With everything in it, and no operator at work yet."""
    cluster = LocalCluster.beside_others()
    with ExitStack() as ending:
        ending.callback(cluster.stop)
        kubectl = cluster.start([]).within(NAMESPACE)
        define(kubectl)
        kubectl.run("create", "namespace", NAMESPACE)
        kubectl.apply(*claim("models", NAMESPACE, folder / "models"), *claim("artifacts", NAMESPACE, folder / "store"))
        api = KubernetesApi.connect(str(kubectl.kubeconfig))
        write_stages(folder / "stages.yaml")
        stages = [folder / "stages.yaml", *(kwok() / "nodes").iterdir()]
        command = [kwok() / "kwok", "--kubeconfig", kubectl.kubeconfig, "--manage-all-nodes"]
        command += ["--node-lease-duration-seconds=60", *(f"--config={stage}" for stage in stages)]
        with (folder / "kwok.log").open("w") as log:
            player = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT)
        ending.callback(player.wait, 20)
        ending.callback(player.terminate)
        made = [node(f"node-{n:04}", **{"scale/pool": f"p{n % POOLS}"}) for n in range(size.nodes)]
        _create(api, [*made, *map(waiting_tuning, range(size.waiting)), *map(running_tuning, range(size.running))])
        wait_until(lambda: _ready_nodes(api) >= size.nodes, _LIMIT_S, "the nodes are ready", pause_s=2)
        rights = operator_kubeconfig(kubectl, Helm(tools() / "helm", folder), folder)
        extra = {
            "HAQA_HTTP": f"127.0.0.1:{_HTTP}",
            "HAQA_EXTRA_VOLUMES": "[]",
            "HAQA_LOG_LEVEL": "WARNING",
            # As the operator's image has it.
            "MALLOC_ARENA_MAX": "2",
        }
        operator = OperatorProcess(kubectl, folder / "operator.log", extra, kubeconfig=rights)
        ending.callback(operator.stop)
        yield Place(api, kubectl, operator)


def _create(api: KubernetesApi, manifests: Iterable[Manifest]) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(api.create, manifests):
            pass


def _ready_nodes(api: KubernetesApi) -> int:
    def ready(found: Manifest) -> bool:
        conditions = found.get("status", {}).get("conditions") or ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    return sum(map(ready, api.list(NODE)))


def calls(metrics: str) -> Counter[str]:
    """Verb and kind -> calls of the API server that the operator has made."""
    found: Counter[str] = Counter()
    for labels, value in re.findall(r"^haqa_api_request_seconds_count\{(.+)\} (\S+)$", metrics, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[f"{named['verb']} {named['kind']}"] += int(float(value))
    return found


def looks(metrics: str) -> int:
    found = re.findall(r"^haqa_reconcile_seconds_count\{.+\} (\S+)$", metrics, re.MULTILINE)
    return sum(int(float(value)) for value in found)


def memory_mib(metrics: str) -> float:
    found = re.search(r"^process_resident_memory_bytes (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) / 2**20 if found else float("nan")


def cpu_s(metrics: str) -> float:
    found = re.search(r"^process_cpu_seconds_total (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def begun(at: Place, size: Size) -> float:
    """Seconds from the operator's start until it has looked at all tunings."""
    began = time.monotonic()
    at.operator.start()

    def probe() -> bool:
        try:
            return looks(at.metrics()) >= size.waiting + size.running
        except OSError:
            return False

    wait_until(probe, _LIMIT_S, "all tunings have been looked at", lambda: at.operator.log.read_text()[-3000:])
    return time.monotonic() - began


def run(at: Place, size: Size) -> dict[str, object]:
    """The figures."""
    found: dict[str, object] = {"first start, with everything to be written, s": begun(at, size)}
    wait_until(lambda: _measuring(at) >= size.running, _LIMIT_S, "the trials run", at.operator.log.read_text, pause_s=5)
    at.operator.stop()
    found["start, s"] = begun(at, size)
    time.sleep(60)  # what the start has left over
    before, began = at.metrics(), time.monotonic()
    time.sleep(size.watched_s)
    after, seconds = at.metrics(), time.monotonic() - began
    made = calls(after) - calls(before)
    found["nothing changes: seconds"] = seconds
    found["nothing changes: calls a second"] = made.total() / seconds
    found["nothing changes: calls a second, by verb and kind"] = {
        what: round(count / seconds, 2) for what, count in made.most_common(12)
    }
    found["nothing changes: share of a core"] = (cpu_s(after) - cpu_s(before)) / seconds
    found["resident memory, MiB"] = memory_mib(after)
    found["a node comes until the tuning says so, s"] = _summary(_reactions(at, size.changes, _node_comes))
    found["a spec changes until the status says so, s"] = _summary(_reactions(at, size.changes, _spec_changes))
    found["resident memory at the end, MiB"] = memory_mib(at.metrics())
    return found


def _measuring(at: Place) -> int:
    return sum(found.get("status", {}).get("phase") == "Running" for found in at.tunings())


def _reactions(at: Place, changes: int, change: Callable[[Place, int], Callable[[Manifest], bool]]) -> list[float]:
    """Seconds until each change is acted on, one after the other."""
    seconds = []
    for number in range(changes):
        acted = change(at, number)
        began = time.monotonic()
        name = waiting_tuning(number)["metadata"]["name"]
        while not acted(at.api.get(TUNING, name, NAMESPACE) or {}):
            if time.monotonic() - began > 60:
                raise TimeoutError(f"{name}: nothing has come of a change after a minute")
            time.sleep(0.02)
        seconds.append(time.monotonic() - began)
    return seconds


def _node_comes(at: Place, number: int) -> Callable[[Manifest], bool]:
    at.api.create(node(f"late-{number:04}", **{"scale/waits": f"w{number:04}"}))
    return lambda found: bool(_pool(found).get("hardware"))


def _spec_changes(at: Place, number: int) -> Callable[[Manifest], bool]:
    changed = waiting_tuning(number)
    changed["spec"]["budget"]["maxTrials"] = 7
    written = at.api.apply(changed, "scale")
    generation = written["metadata"]["generation"]
    return lambda found: bool(found.get("status", {}).get("observedGeneration") == generation)


def _pool(found: Manifest) -> Manifest:
    pools: list[Manifest] = found.get("status", {}).get("pools") or [{}]
    return pools[0]


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "median": statistics.median(ordered),
        "95th percentile": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        "longest": ordered[-1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--running", type=int, default=50)
    parser.add_argument("--watched-s", type=float, default=300)
    parser.add_argument("--changes", type=int, default=40)
    given = parser.parse_args()
    size = Size(given.nodes, given.waiting, given.running, given.watched_s, given.changes)
    with tempfile.TemporaryDirectory(prefix=f"haqa-scale-{secrets.token_hex(2)}-") as folder:
        os.chmod(folder, 0o755)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster ends with this
        with place(size, Path(folder)) as at:
            print(json.dumps({"size": vars(given), **run(at, size)}, indent=2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
