"""The real API server, by Kubernetes' Python client.

Only the client's own errors and those of the transport under it become an `ApiError`. Anything else is a bug, and comes
out with its traceback.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from haqa_contract.failures import shortened
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges import telemetry
from haqa_operator.cluster.edges.api_server import (
    FIELD_MANAGER,
    FIRST_WRITER,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    Kind,
    UnknownKind,
)
from haqa_operator.cluster.edges.nodes import WatchedNodes

CALL_LIMIT_S = 20.0
CONNECT_LIMIT_S = 10.0
LOG_BYTES = 256 * 1024
LOG_LINES = 2000

_MERGE_PATCH = "application/merge-patch+json"
_UNAUTHORIZED = 401
_CONFLICT, _NOT_FOUND, _GONE = 409, 404, 410
_LATER = frozenset({_UNAUTHORIZED, 408, _CONFLICT, _GONE, 429})
"""4xx that another try may not get: a token that is being renewed, a time limit, a write that came between, a limit."""


_LONGEST_SENTENCE = 2000
"""A webhook's may have a megabyte, and it goes into a status."""


class KubernetesApi:
    """An `ApiServer` over HTTPS."""

    def __init__(self, api: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api)
        self._who = client.AuthenticationV1Api(api)
        self._api = api
        self._dynamic = _LimitedClient(api)

    @classmethod
    def connect(cls, kubeconfig: str | None = None) -> KubernetesApi:
        """By a kubeconfig, or as a pod's service account."""
        if kubeconfig:
            return cls(config.new_client_from_config(kubeconfig))
        configuration = client.Configuration()
        config.load_incluster_config(configuration)
        return cls(client.ApiClient(configuration))

    @classmethod
    def connect_as_person(cls, kubeconfig: str | None = None, context: str | None = None) -> KubernetesApi:
        """As kubectl does: by a kubeconfig, that of $KUBECONFIG, or the one in the home directory.

        Raises:
            ApiUnavailable: there is none, or nobody answers.
        """
        configuration = client.Configuration()
        # A person would rather be told than wait for three more tries.
        configuration.retries = False
        try:
            config.load_kube_config(kubeconfig, context, client_configuration=configuration)
        except ConfigException as error:
            raise ApiUnavailable(f"no cluster: {error}; name a kubeconfig or a context of it") from None
        api = client.ApiClient(configuration)
        try:
            client.VersionApi(api).get_code(_request_timeout=CONNECT_LIMIT_S)
        except HTTPError as error:
            raise ApiUnavailable(
                f"no cluster answers at {configuration.host}: {error}; is this the right one?"
            ) from None
        except ApiException as error:
            if error.status == _UNAUTHORIZED:
                raise ApiUnavailable(f"{configuration.host} does not know you (401): log in again") from None
            if error.status in (0, None) or error.status >= 500:
                raise ApiUnavailable(
                    f"the cluster at {configuration.host} does not answer: {_sentence(error)}"
                ) from None
        with _mapped("asking what kinds there are"):
            return cls(api)

    def leases(self) -> client.CoordinationV1Api:
        """By which one of several operators acts; each call is tried once."""
        configuration = copy.copy(self._api.configuration)
        configuration.retries = False
        return client.CoordinationV1Api(client.ApiClient(configuration))

    def nodes(self) -> WatchedNodes:
        """All of the cluster's, to be watched."""
        return WatchedNodes(self, self._core)

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        try:
            return self._call(kind, "get", name=name, namespace=namespace)
        except ApiError as error:
            if _status(error) == _NOT_FOUND:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        found = self._call(kind, "get", namespace=namespace, label_selector=selector)
        items: list[Manifest] = found.get("items", [])
        # The server leaves these two out in lists.
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER, *, force: bool = True) -> Manifest:
        return self._applied(manifest, manager, force=force)

    def create(self, manifest: Manifest) -> Manifest | None:
        namespace = manifest["metadata"].get("namespace")
        try:
            return self._call(
                Kind.of(manifest), "create", body=manifest, namespace=namespace, field_manager=FIRST_WRITER
            )
        except ApiError as error:
            if _status(error) == _CONFLICT:
                return None
            raise

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        try:
            return self._applied(manifest, FIELD_MANAGER, subresource="status")
        except ApiError as error:
            if _status(error) == _NOT_FOUND:
                return None
            raise

    def patch(self, manifest: Manifest, manager: str) -> Manifest | None:
        metadata = manifest["metadata"]
        try:
            return self._call(
                Kind.of(manifest),
                "patch",
                body=manifest,
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                content_type=_MERGE_PATCH,
                field_manager=manager,
            )
        except ApiError as error:
            if _status(error) == _NOT_FOUND:
                return None
            raise

    def delete(self, kind: Kind, name: str, namespace: str) -> None:
        try:
            self._call(kind, "delete", name=name, namespace=namespace, body={"propagationPolicy": "Background"})
        except ApiError as error:
            if _status(error) != _NOT_FOUND:
                raise

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        try:
            with _mapped(f"log of {pod}/{container}"):
                text = self._core.read_namespaced_pod_log(
                    pod,
                    namespace,
                    container=container,
                    previous=previous,
                    tail_lines=LOG_LINES,
                    limit_bytes=LOG_BYTES,
                    _request_timeout=CALL_LIMIT_S,
                )
        except ApiError as error:
            # 400: the container has not started, or has no earlier run.
            if _status(error) in (400, _NOT_FOUND):
                return ""
            raise
        return str(text)

    def latest_warning(self, namespace: str, uid: str) -> str | None:
        chosen = f"involvedObject.uid={uid},type=Warning"
        with _mapped(f"events of {namespace}"):
            found = self._core.list_namespaced_event(namespace, field_selector=chosen, _request_timeout=CALL_LIMIT_S)
        latest = max(found.items, key=lambda event: event.metadata.resource_version.zfill(20), default=None)
        return f"{latest.reason}: {latest.message}" if latest is not None else None

    def user(self) -> str:
        with _mapped("asking who you are"):
            review = self._who.create_self_subject_review({}, _request_timeout=CALL_LIMIT_S)
        return str(review.status.user_info.username)

    def _applied(
        self, manifest: Manifest, manager: str, *, force: bool = True, subresource: str | None = None
    ) -> Manifest:
        metadata = manifest["metadata"]
        return self._call(
            Kind.of(manifest),
            "server_side_apply",
            subresource=subresource,
            body=manifest,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=manager,
            force_conflicts=force,
        )

    def _call(self, kind: Kind, verb: str, *, subresource: str | None = None, **arguments: Any) -> Manifest:
        given = {name: value for name, value in arguments.items() if value not in (None, "")}
        what = f"{verb} {kind.kind} {arguments.get('name') or ''}".rstrip()
        with telemetry.timed(telemetry.API_CALLS, verb, kind.kind), _mapped(what):
            resource = self._dynamic.resources.get(api_version=kind.api_version, kind=kind.kind)
            target = resource.subresources[subresource] if subresource else resource
            # Plain JSON: the client's own objects take eight times as long for a list of a hundred trials.
            answer = getattr(target, verb)(**given, serialize=False, _request_timeout=CALL_LIMIT_S)
            found: Manifest = json.loads(answer.data)
            return found


class _LimitedClient(DynamicClient):  # type: ignore[misc]
    """Asking which kinds there are has a time limit too."""

    def request(self, method: str, path: str, body: Any = None, **arguments: Any) -> Any:
        arguments.setdefault("_request_timeout", CALL_LIMIT_S)
        return super().request(method, path, body, **arguments)


def context_namespace(kubeconfig: str | None = None, context: str | None = None) -> str:
    """The namespace of a kubeconfig's context, of the current one where none is named."""
    try:
        contexts, current = config.list_kube_config_contexts(kubeconfig)
    except ConfigException:
        return "default"
    found = next((one for one in contexts if one["name"] == context), None) if context else current
    return str(((found or {}).get("context") or {}).get("namespace") or "default")


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """The client's and the transport's errors as `ApiError`."""
    try:
        yield
    except ApiException as error:
        message = f"{what}: {_sentence(error)}"
        status = error.status or 0
        # A status below 400 is no answer: the client uses 0 where TLS failed.
        if status < 400 or status >= 500 or status in _LATER:
            raise ApiUnavailable(message) from error
        raise ApiRefused(message, status) from error
    except ResourceNotFoundError as error:
        raise UnknownKind(f"{what}: the API server does not know this kind (yet): {error}") from error
    except HTTPError as error:
        raise ApiUnavailable(f"{what}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ApiUnavailable(f"{what}: the answer is not JSON; is there a proxy in between? ({error})") from error


def _status(error: ApiError) -> int | None:
    """The HTTP status behind it."""
    cause = error.__cause__
    return cause.status if isinstance(cause, ApiException) else None


def _sentence(error: ApiException) -> str:
    """The server's own, without headers and tracebacks."""
    try:
        return shortened(str(json.loads(error.body)["message"]), _LONGEST_SENTENCE)
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
