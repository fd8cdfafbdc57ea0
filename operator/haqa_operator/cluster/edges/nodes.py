"""The cluster's nodes, as far as they bear on a tuning: one view for all tunings, and word of what changes.

Hundreds of tunings may wait for nodes; each asking the API server for all of them every few seconds is what made a
thousand of them cost four hundred calls a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, Protocol

from kubernetes import client
from kubernetes.informer import ADDED, DELETED, ERROR, MODIFIED, SharedInformer

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import NODE, ApiServer
from haqa_operator.cluster.observe.snapshot import label_selector

log = logging.getLogger(__name__)

Changed = Callable[[Mapping[str, str]], None]
"""Called with the labels of a node that has come, gone or changed; with those of before too, where they were others."""

_RESYNC_S: Final = 300
"""The server ends a watch after so long, and all nodes are listed again: nothing that was missed stays so."""
_CALL_LIMITS_S: Final = (10, _RESYNC_S + 60)
"""To connect, and between two signs of life."""
_SYNC_LIMIT_S: Final = 30.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class Nodes(Protocol):
    """What nodes there are."""

    def matching(self, selector: Mapping[str, str]) -> list[Manifest]:
        """Those with all of these labels. Raises ApiError."""


class ListedNodes:
    """Asks the API server each time."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    def matching(self, selector: Mapping[str, str]) -> list[Manifest]:
        return self._api.list(NODE, selector=label_selector(selector))


class WatchedNodes:
    """Keeps up with the API server by a watch.

    Args:
        api: Asked where no node matches: it knows what is no label selector, and a watch may be a moment behind.
        nodes: The client that lists and watches.
    """

    def __init__(self, api: ApiServer, nodes: client.CoreV1Api) -> None:
        self._direct = ListedNodes(api)
        self._known: dict[str, Manifest] = {}
        self._listeners: list[Changed] = []
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._failed = threading.Event()
        self._pause_s = 0.0
        self._serialize = nodes.api_client.sanitize_for_serialization
        self._informer = SharedInformer(self._lister(nodes), resync_period=_RESYNC_S)
        for event in (ADDED, MODIFIED):
            self._informer.add_event_handler(event, self._seen)
        self._informer.add_event_handler(DELETED, self._gone)
        self._informer.add_event_handler(ERROR, self._trouble)

    def start(self) -> None:
        self._informer.start()

    def stop(self) -> None:
        """Leaves the watching thread, which ends with the process: its stream may have nothing to say for minutes."""
        self._informer._stop_event.set()

    def listen(self, changed: Changed) -> None:
        """Called from the watching thread."""
        self._listeners.append(changed)

    def matching(self, selector: Mapping[str, str]) -> list[Manifest]:
        if not self._synced.is_set() and (self._failed.is_set() or not self._synced.wait(_SYNC_LIMIT_S)):
            return self._direct.matching(selector)
        with self._lock:
            found = [node for node in self._known.values() if _matches(node, selector)]
        return found or self._direct.matching(selector)

    def _lister(self, nodes: client.CoreV1Api) -> Callable[..., Any]:
        # The informer's Watch reads the type of what comes from the docstring.
        @wraps(nodes.list_node)
        def listed(**arguments: Any) -> Any:
            # The informer connects again at once, whatever has ended its watch.
            if self._pause_s:
                self._informer._stop_event.wait(self._pause_s)
            found = nodes.list_node(**{"_request_timeout": _CALL_LIMITS_S, **arguments})
            self._pause_s = 0.0
            if not arguments.get("watch"):
                # In one go, before anybody is told of the first of them.
                kept = {node.metadata.name: self._kept(node) for node in found.items}
                with self._lock:
                    before, self._known = self._known, kept
                self._synced.set()
                self._failed.clear()
                self._tell_differences(before, kept)
            return found

        return listed

    def _trouble(self, error: Any) -> None:
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s or _FIRST_PAUSE_S)
        self._failed.set()
        log.warning("nodes cannot be watched, again in %.0f s: %s", self._pause_s, error)

    def _seen(self, node: client.V1Node) -> None:
        kept = self._kept(node)
        # What is not looked at makes most of a node: hundreds of images, and who has written which field.
        node.status.images = node.metadata.managed_fields = node.metadata.annotations = None
        with self._lock:
            before = self._known.get(node.metadata.name)
            self._known[node.metadata.name] = kept
        if before != kept:
            self._tell(before, kept)

    def _gone(self, node: client.V1Node) -> None:
        with self._lock:
            before = self._known.pop(node.metadata.name, None)
        if before is not None:
            self._tell(before)

    def _tell_differences(self, before: Mapping[str, Manifest], now: Mapping[str, Manifest]) -> None:
        for name in before.keys() | now.keys():
            if before.get(name) != now.get(name):
                self._tell(before.get(name), now.get(name))

    def _tell(self, *nodes: Manifest | None) -> None:
        labels = [node["metadata"]["labels"] for node in nodes if node is not None]
        for one in labels[:1] if labels[:1] == labels[1:] else labels:
            for listener in self._listeners:
                listener(one)

    def _kept(self, node: client.V1Node) -> Manifest:
        whole = self._serialize(node)
        status = whole.get("status", {})
        return {
            "apiVersion": NODE.api_version,
            "kind": NODE.kind,
            "metadata": {"name": whole["metadata"]["name"], "labels": whole["metadata"].get("labels", {})},
            "status": {
                "allocatable": status.get("allocatable", {}),
                # Without the times: a heartbeat is no change.
                "conditions": [
                    {"type": one["type"], "status": one["status"]} for one in status.get("conditions") or ()
                ],
            },
        }


def _matches(node: Manifest, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"]["labels"]
    return all(labels.get(name) == value for name, value in selector.items())
