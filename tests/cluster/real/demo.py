"""`make cluster-demo`: a cluster on this machine, the operator from its image, and a tuning of the demo model.

Real Kubernetes, llm-compressor and vLLM; no Docker. The cluster stays, to be looked at, until `make cluster-down`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml
from rich.console import Console
from tests.cluster.building import (
    PYTHON_IMAGE,
    CannotBuild,
    cache_folder,
    components,
    images,
    install_packages,
    python_image,
    say,
    tools,
)
from tests.cluster.helm import CHART, Helm, Values
from tests.cluster.image_building import OPERATOR_IMAGE, operator_image
from tests.cluster.kubectl import Kubectl, Refused
from tests.cluster.local_cluster import CannotStart, LocalCluster, configured
from tests.cluster.node_specs import read_nodes
from tests.cluster.operator_process import claim
from tests.cluster.real.environments import ROOT, CannotMount, NodeEnvironments
from tests.cluster.service_client import complete
from tests.cluster.waiting import wait_until

from haqa_operator.api.status import TuningPhase
from haqa_operator.cli.cluster.connection import connect
from haqa_operator.cli.cluster.found import FoundTuning, find_tuning
from haqa_operator.cli.cluster.status import status_view
from haqa_operator.cli.cluster.watching import watch

EXAMPLE = ROOT / "examples" / "cluster-demo.yaml"
NODES = Path(__file__).parent / "nodes.yaml"
NAMESPACE, SYSTEM, RELEASE = "demo", "haqa-system", "haqa"
_SERVICE_ACCOUNT_LIMIT_S = 60.0


def values(environments: NodeEnvironments) -> Values:
    """Of the chart: everything from this machine, nothing pulled."""
    repository, _, tag = OPERATOR_IMAGE.rpartition(":")
    runner, _, runner_tag = PYTHON_IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "runner": {
            "image": {"repository": runner, "tag": runner_tag},
            "images": {"cpu": PYTHON_IMAGE},
            "command": environments.runner_command,
            "env": environments.runner_env,
        },
        "engine": {"image": PYTHON_IMAGE, "command": environments.engine_command},
        "extraVolumes": environments.volumes,
        "nodeSelector": {"haqa.dev/role": "system"},
    }


def start(cluster: LocalCluster) -> Kubectl:
    """The cluster, with the two images that nobody publishes."""
    say("1/4  Kubernetes and the operator's image; the first time they are built, in about 15 minutes")
    install_packages()
    components()
    images()
    archives = [python_image(), operator_image()]
    tools()
    kubectl = cluster.start(read_nodes(NODES))
    for archive in archives:
        cluster.load_image(archive)
    return kubectl


def install(kubectl: Kubectl, environments: NodeEnvironments) -> Kubectl:
    """The operator, and a namespace for tunings with the demo model and a store for what is made of it."""
    say("2/4  helm install haqa")
    for namespace in (NAMESPACE, SYSTEM):
        kubectl.run("create", "namespace", namespace)
    api = kubectl.within(NAMESPACE)
    accounts = ("get", "serviceaccounts", "-o", "name")
    wait_until(lambda: api.run(*accounts), _SERVICE_ACCOUNT_LIMIT_S, f"the service account of {NAMESPACE}")
    folder = cache_folder() / "demo"
    artifacts = folder / f"artifacts-{int(time.time())}"
    api.apply(*claim("models", NAMESPACE, ROOT / "demo"), *claim("artifacts", NAMESPACE, artifacts))
    helm = Helm(tools() / "helm", folder, kubectl.kubeconfig)
    where = ("--namespace", SYSTEM, "--wait", "--timeout", "150s")
    helm.run("install", RELEASE, str(CHART), *where, values=values(environments))
    say("     the environments' bytecode, once for all pods")
    environments.compile(api)
    return api


def tune(api: Kubectl, version: str, console: Console) -> FoundTuning:
    """Watches the tuning until it is over.

    Args:
        version: vLLM's, of the engines.
    """
    say(f"3/4  kubectl apply -f {EXAMPLE.relative_to(ROOT)}, and kubectl haqa status demo --watch; about half an hour")
    tuning = yaml.safe_load(EXAMPLE.read_text())
    for pool in tuning["spec"]["nodePools"]:
        # The official images say it in their names.
        pool["engineVersion"] = version
    api.apply(tuning)
    at = connect(NAMESPACE, None, api.kubeconfig)
    return watch(lambda: find_tuning(at, "demo"), console)


def ask(api: Kubectl, found: FoundTuning) -> None:
    """One request to each winner, as an application of the cluster sends it."""
    say("4/4  a request to each winner")
    for pool in found.status.pools:
        service = api.get("service", str(pool.deployment))
        answer = complete(api, service, model="demo", prompt="def __init__(self, ", max_tokens=16)
        print(f"{pool.name}: {answer['choices'][0]['text']!r}")


def main() -> int:
    cluster, console = configured(), Console()
    try:
        environments = NodeEnvironments.of_this_machine()
        kubectl = start(cluster)
        api = install(kubectl, environments)
        print(_to_look_around(cluster), flush=True)
        found = tune(api, environments.engine_version, console)
        console.print(status_view(found))
        if found.status.phase is TuningPhase.SUCCEEDED:
            ask(api, found)
        print(_to_look_around(cluster))
    except (CannotBuild, CannotStart, CannotMount, Refused, ValueError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if found.status.phase is TuningPhase.SUCCEEDED else 1


def _to_look_around(cluster: LocalCluster) -> str:
    return f"""
In another terminal, as long as the cluster runs (`make cluster-down` ends it):

  export KUBECONFIG={cluster.kubeconfig} PATH={ROOT / ".venv/bin"}:{components()}:$PATH
  kubectl haqa status demo -n {NAMESPACE}
  kubectl get quantizationtrials,pods -n {NAMESPACE}
"""


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
