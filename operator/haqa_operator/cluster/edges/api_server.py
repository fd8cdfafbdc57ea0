"""Reads and writes of the API server, each with a time limit; objects go in and come out as JSON.

Always the server's own state and never a cache's: a decision on what was true a moment ago starts a trial twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges import telemetry

FIELD_MANAGER = "haqa-operator"
FIRST_WRITER = "haqa-operator-creation"
"""Owns what is set once and then belongs to others: a Deployment's replicas."""
CALL_LIMIT_S = 20.0
LOG_BYTES = 256 * 1024


@dataclass(frozen=True)
class Kind:
    api_version: str
    kind: str


TUNING = Kind("haqa.dev/v1alpha1", "QuantizationTuning")
TRIAL = Kind("haqa.dev/v1alpha1", "QuantizationTrial")
JOB = Kind("batch/v1", "Job")
POD = Kind("v1", "Pod")
NODE = Kind("v1", "Node")
SECRET = Kind("v1", "Secret")
DEPLOYMENT = Kind("apps/v1", "Deployment")
SERVICE = Kind("v1", "Service")
EVENT = Kind("v1", "Event")
"""The older of the two kinds: `kubectl describe` sorts by its times."""


class ApiError(Exception):
    """The API server refused or could not be reached; the message is its own."""


class Objects:
    """The API server, as far as the operator needs it."""

    def __init__(self, api: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api)
        self._dynamic = DynamicClient(api)

    @classmethod
    def connect(cls, kubeconfig: str | None = None) -> Objects:
        """By a kubeconfig, or as a pod's service account."""
        if kubeconfig:
            return cls(config.new_client_from_config(kubeconfig))
        configuration = client.Configuration()
        config.load_incluster_config(configuration)
        return cls(client.ApiClient(configuration))

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """None where there is none."""
        return self._call(kind, "get", name=name, namespace=namespace, missing_is_none=True)

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        found = self._call(kind, "get", namespace=namespace, label_selector=selector)
        items: list[Manifest] = (found or {}).get("items", [])
        # The server leaves these two out in lists.
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]

    def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply: makes the object, or changes what is ours of it; twice the same changes nothing."""
        return self._written(manifest, "server_side_apply")

    def create(self, manifest: Manifest) -> Manifest | None:
        """None where it is there already."""
        kind, metadata = _kind_of(manifest), manifest["metadata"]
        try:
            return self._call(
                kind, "create", body=manifest, namespace=metadata.get("namespace"), field_manager=FIRST_WRITER
            )
        except ApiError as error:
            if isinstance(error.__cause__, DynamicApiError) and error.__cause__.status == 409:
                return None
            raise

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        """Status alone; None where the object is gone."""
        try:
            return self._written(manifest, "server_side_apply", subresource="status")
        except ApiError as error:
            if isinstance(error.__cause__, NotFoundError):
                return None
            raise

    def delete(self, kind: Kind, name: str, namespace: str) -> None:
        """With everything that it owns; harmless where it is gone."""
        self._call(
            kind,
            "delete",
            name=name,
            namespace=namespace,
            missing_is_none=True,
            body={"propagationPolicy": "Background"},
        )

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        """The end of a container's log; empty where it is gone."""
        try:
            text = self._core.read_namespaced_pod_log(
                pod,
                namespace,
                container=container,
                previous=previous,
                tail_lines=2000,
                limit_bytes=LOG_BYTES,
                _request_timeout=CALL_LIMIT_S,
            )
        except ApiException as error:
            if error.status in (400, 404):
                return ""
            raise ApiError(f"log of {pod}/{container}: {error.reason}") from error
        except Exception as error:  # urllib3's many ways to say that nobody answered
            raise ApiError(f"log of {pod}/{container}: {error}") from error
        return str(text)

    def latest_warning(self, namespace: str, uid: str) -> str | None:
        """What the last warning about an object says; None where there is none."""
        chosen = f"involvedObject.uid={uid},type=Warning"
        try:
            found = self._core.list_namespaced_event(namespace, field_selector=chosen, _request_timeout=CALL_LIMIT_S)
        except ApiException as error:
            raise ApiError(f"events of {namespace}: {error.reason}") from error
        except Exception as error:  # urllib3's many ways to say that nobody answered
            raise ApiError(f"events of {namespace}: {error}") from error
        latest = max(found.items, key=lambda event: event.metadata.resource_version.zfill(20), default=None)
        return f"{latest.reason}: {latest.message}" if latest is not None else None

    def _written(self, manifest: Manifest, verb: str, subresource: str | None = None) -> Manifest:
        kind, metadata = _kind_of(manifest), manifest["metadata"]
        written = self._call(
            kind,
            verb,
            subresource=subresource,
            body=manifest,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )
        assert written is not None
        return written

    def _call(
        self,
        kind: Kind,
        verb: str,
        *,
        subresource: str | None = None,
        missing_is_none: bool = False,
        **arguments: Any,
    ) -> Manifest | None:
        with telemetry.timed(telemetry.API_CALLS, verb, kind.kind):
            return self._answer(kind, verb, subresource, missing_is_none, arguments)

    def _answer(
        self, kind: Kind, verb: str, subresource: str | None, missing_is_none: bool, arguments: dict[str, Any]
    ) -> Manifest | None:
        given = {name: value for name, value in arguments.items() if value not in (None, "")}
        try:
            resource = self._dynamic.resources.get(api_version=kind.api_version, kind=kind.kind)
            target = resource.subresources[subresource] if subresource else resource
            # Plain JSON: the client's own objects take eight times as long for a list of a hundred trials.
            answer = getattr(target, verb)(**given, serialize=False, _request_timeout=CALL_LIMIT_S)
        except NotFoundError as error:
            if missing_is_none:
                return None
            raise ApiError(f"{verb} {kind.kind} {arguments.get('name', '')}: {_told(error)}") from error
        except DynamicApiError as error:
            raise ApiError(f"{verb} {kind.kind} {arguments.get('name', '')}: {_told(error)}") from error
        except Exception as error:  # urllib3's many ways to say that nobody answered
            raise ApiError(f"{verb} {kind.kind} {arguments.get('name', '')}: {error}") from error
        found: Manifest = json.loads(answer.data)
        return found


def _kind_of(manifest: Manifest) -> Kind:
    return Kind(manifest["apiVersion"], manifest["kind"])


def _told(error: DynamicApiError) -> str:
    """The server's own sentence, without headers and tracebacks."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
