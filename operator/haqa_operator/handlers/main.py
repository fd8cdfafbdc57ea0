"""The operator as a process: `python -m haqa_operator.handlers.main`.

Events are watched without finalizers, annotations or stored progress (`kopf.on.event`): what a handler hears is only
that something has changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import kopf

from haqa_operator.executors.trial_job import TUNING_LABEL
from haqa_operator.handlers.queue import Queue
from haqa_operator.tuning.cluster.asking import Asking
from haqa_operator.tuning.cluster.installation import Installation, InstallationError
from haqa_operator.tuning.cluster.objects import Objects
from haqa_operator.tuning.cluster.reconciler import Key, Reconciler

GROUP, VERSION = "haqa.dev", "v1alpha1"
WATCH_S = 300
SILENCE_S = 360
"""A watch that says nothing for so long is dead: the server ends it after WATCH_S by itself."""


def register(registry: kopf.OperatorRegistry, queue: Queue) -> None:
    """The watches: tunings, and whatever carries a tuning's label."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.watching.server_timeout = WATCH_S
        settings.watching.client_timeout = SILENCE_S
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        # One replica with Recreate; peering is no leader election.
        settings.peering.standalone = True
        settings.posting.enabled = False

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, VERSION, "quantizationtunings", registry=registry)
    async def tuning_changed(name: str, namespace: str, **_: Any) -> None:
        queue.add(Key(namespace, name))

    labelled = {"labels": {TUNING_LABEL: kopf.PRESENT}, "registry": registry}

    @kopf.on.event(GROUP, VERSION, "quantizationtrials", **labelled)
    @kopf.on.event("batch", "v1", "jobs", **labelled)
    @kopf.on.event("", "v1", "pods", **labelled)
    @kopf.on.event("apps", "v1", "deployments", **labelled)
    async def child_changed(namespace: str, labels: kopf.Labels, **_: Any) -> None:
        # Of a name that was too long for a label nothing but a hash is left; the tuning's own timer looks then.
        queue.add(Key(namespace, labels[TUNING_LABEL]))


async def serve(installation: Installation, objects: Objects) -> None:
    """Runs until it is cancelled or told to stop."""
    registry = kopf.OperatorRegistry()
    asking = Asking()
    queue = Queue(lambda key: reconciler.reconcile(key))
    reconciler = Reconciler(objects, installation, asking, queue.add_from_thread)
    register(registry, queue)
    liveness = os.environ.get("HAQA_LIVENESS", "http://0.0.0.0:8080/healthz")
    namespaces = [installation.namespace] if installation.namespace else []
    work = asyncio.create_task(queue.run())
    try:
        await kopf.operator(
            registry=registry,
            clusterwide=not namespaces,
            namespaces=namespaces,
            liveness_endpoint=liveness or None,
            standalone=True,
        )
    finally:
        work.cancel()
        asking.close()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A line for every event of every pod says nothing.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    try:
        installation = Installation.from_environment(os.environ)
    except InstallationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(serve(installation, Objects.connect(os.environ.get("KUBECONFIG"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
