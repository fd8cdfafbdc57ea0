"""The operator as a process: `python -m haqa_operator.handlers.main`.

Events are watched without finalizers, annotations or stored progress (`kopf.on.event`): what a handler hears is only
that something has changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import kopf

from haqa_operator.api.labels import TUNING_LABEL
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.reconciler import Key, Reconciler
from haqa_operator.cluster.edges import telemetry
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi
from haqa_operator.cluster.installation import Installation, InstallationError
from haqa_operator.handlers import logs
from haqa_operator.handlers.lease import Lease
from haqa_operator.handlers.queue import Queue
from haqa_operator.handlers.watches import SERVER_TIMEOUT_S, Watches
from haqa_operator.handlers.web import Health, serve_web

TUNINGS = ("haqa.dev", "v1alpha1", "quantizationtunings")
APPROVALS = ("haqa.dev", "v1alpha1", "quantizationapprovals")
CHILDREN = (
    ("haqa.dev", "v1alpha1", "quantizationtrials"),
    ("batch", "v1", "jobs"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("", "v1", "services"),
)
CLIENT_TIMEOUT_S = SERVER_TIMEOUT_S + 60
_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_WRITES_S: Final = 20.0
INACTIVITY_S = 90
"""The API server sends a bookmark about every minute; a stream without one is dead, whatever TCP believes."""


def register(registry: kopf.OperatorRegistry, queue: Queue, watches: Watches) -> None:
    """The watches: tunings, what carries a tuning's label, and approvals, which people make without one."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.watching.server_timeout = SERVER_TIMEOUT_S
        settings.watching.client_timeout = CLIENT_TIMEOUT_S
        settings.watching.inactivity_timeout = INACTIVITY_S
        settings.watching.connect_timeout = 10
        settings.watching.chunk_size = 100
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        # Of a cluster's thousands of pods only a trial's are sent.
        for resource in CHILDREN:
            settings.watching.label_selectors[resource] = TUNING_LABEL
        # One replica with Recreate; peering is no leader election.
        settings.peering.standalone = True
        settings.posting.enabled = False
        # Handlers of events store nothing on objects; were there ever others, it would be under our own name.
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="haqa.dev")
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="haqa.dev")

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.AiohttpSession | None:
        # By KUBERNETES_SERVICE_HOST, or a kubeconfig. kopf's own way with a service account needs the cluster's DNS.
        info = kopf.login_via_client(**arguments)
        return watches.session(info) if info else None

    @kopf.on.event(*TUNINGS, registry=registry)
    async def tuning_changed(name: str, namespace: str, **_: Any) -> None:
        queue.add(Key(namespace, name))

    @kopf.on.event(*APPROVALS, registry=registry)
    async def approval_changed(namespace: str, spec: kopf.Spec, **_: Any) -> None:
        queue.add(Key(namespace, spec["tuning"]))

    async def child_changed(namespace: str, labels: kopf.Labels, **_: Any) -> None:
        # Of a name that was too long for a label only a hash is left; the tuning's own timer has it reconciled then.
        queue.add(Key(namespace, labels[TUNING_LABEL]))

    for resource in CHILDREN:
        kopf.on.event(*resource, registry=registry, labels={TUNING_LABEL: kopf.PRESENT})(child_changed)


async def serve(installation: Installation, api: KubernetesApi, address: str) -> None:
    """Runs until it is stopped; raises what ends the watching or the working."""
    registry = kopf.OperatorRegistry()
    queue = Queue(lambda key: reconciler.reconcile(key))
    nodes = api.nodes()
    dependencies = Dependencies.of(api, installation, nodes)
    reconciler = Reconciler(dependencies, queue.add_from_thread)
    nodes.listen(reconciler.nodes_changed)
    telemetry.QUEUE_DEPTH.set_function(lambda: queue.depth)
    watches = Watches([plural for *_, plural in (TUNINGS, APPROVALS, *CHILDREN)], whole=APPROVALS[-1:])
    register(registry, queue, watches)
    host, _, port = address.rpartition(":")
    lease = _lease(installation, api)
    health = Health(watches, queue, standby=lambda: None if lease is None or lease.held else lease.waiting)
    web = await serve_web(health, host, int(port)) if address else None
    if lease is not None and not await _acquired(lease):
        if web is not None:
            await web.cleanup()
        return
    watches.begin()
    nodes.start()
    namespaces = installation.namespaces
    watching = asyncio.ensure_future(
        kopf.operator(registry=registry, clusterwide=not namespaces, namespaces=namespaces, standalone=True)
    )
    working = asyncio.create_task(queue.run())
    try:
        done, _pending = await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (watching, working):
            task.cancel()
        await asyncio.gather(watching, working, return_exceptions=True)
        nodes.stop()
        dependencies.proposals.close()
        dependencies.publications.close()
        if lease is not None and await _all_written():
            await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), lease.give_back)
        if web is not None:
            await web.cleanup()


async def _acquired(lease: Lease) -> bool:
    """Whether it is held; else this process was told to end while it waited."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(lease.acquire())
    # As process 1 of a container nobody else listens to these, before kopf does.
    for number in _ENDS:
        loop.add_signal_handler(number, waiting.cancel)
    try:
        await waiting
    except asyncio.CancelledError:
        return False
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)
    return True


async def _all_written() -> bool:
    """Whether the reconciliations that were under way have come to their end: they cannot be stopped half-way."""
    try:
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), _LAST_WRITES_S)
    except TimeoutError:
        return False
    return True


def _lease(installation: Installation, api: KubernetesApi) -> Lease | None:
    if installation.lease is None:
        return None
    namespace, _, name = installation.lease.partition("/")
    return Lease(api.leases(), name, namespace, f"{socket.gethostname()}_{uuid.uuid4()}")


def main() -> int:
    """The exit status: 0 when stopped, 2 for an environment that is wrong."""
    try:
        logs.configure(os.environ)
        installation = Installation.from_environment(os.environ)
        address = _address(os.environ.get("HAQA_HTTP", "0.0.0.0:8080"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(serve(installation, KubernetesApi.connect(os.environ.get("KUBECONFIG")), address))
    return 0


def _address(text: str) -> str:
    _, _, port = text.rpartition(":")
    if text and not (port.isdigit() and int(port) < 65536):
        raise InstallationError(f"HAQA_HTTP: {text!r} is not HOST:PORT; empty serves nothing")
    return text


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Questions to language models would be waited for; the next operator asks them again.
    os._exit(status)
