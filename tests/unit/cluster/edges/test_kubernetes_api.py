"""Which errors of the client and of the transport mean "again in a moment", which "not like this", and which a bug."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError, api_exception
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

from haqa_operator.cluster.edges.api_server import (
    FIELD_MANAGER,
    FIRST_WRITER,
    JOB,
    NODE,
    TRIAL,
    ApiError,
    ApiRefused,
    ApiUnavailable,
)
from haqa_operator.cluster.edges.kubernetes_api import CALL_LIMIT_S, KubernetesApi

MANIFEST = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "team"}}
SENTENCE = 'jobs.batch "j" is forbidden: exceeded quota: jobs'


class Client:
    """In the place of the client: answers every call with one text or error, and keeps what it was called with."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.resources = SimpleNamespace(get=self._resource)

    def _resource(self, api_version: str, kind: str) -> Any:
        if isinstance(self.answer, ResourceNotFoundError):
            raise self.answer
        verbs = {verb: self._verb(verb) for verb in ("get", "create", "server_side_apply", "delete")}
        status = {verb: self._verb(f"status/{verb}") for verb in verbs}
        return SimpleNamespace(**verbs, subresources={"status": SimpleNamespace(**status)})

    def _verb(self, verb: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.calls.append((verb, arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return SimpleNamespace(data=self.answer)

        return call

    def read_namespaced_pod_log(self, pod: str, namespace: str, **arguments: Any) -> str:
        return str(self._verb("log")(pod=pod, namespace=namespace, **arguments).data)

    def list_namespaced_event(self, namespace: str, **arguments: Any) -> Any:
        events = json.loads(self._verb("events")(namespace=namespace, **arguments).data)
        items = [
            SimpleNamespace(metadata=SimpleNamespace(resource_version=one.pop("version")), **one) for one in events
        ]
        return SimpleNamespace(items=items)


def api(answer: str | Exception) -> tuple[KubernetesApi, Client]:
    made, stub = KubernetesApi.__new__(KubernetesApi), Client(answer)
    made._core, made._dynamic = cast("client.CoreV1Api", stub), cast(Any, stub)
    return made, stub


def refusal(status: int, body: str | None = None) -> ApiException:
    """As the dynamic client raises it."""
    error = ApiException(status=status, reason="Reason")
    error.body = json.dumps({"kind": "Status", "message": SENTENCE}) if body is None else body
    return cast(ApiException, api_exception(error))


def raised(error: Exception) -> ApiError:
    server, _ = api(error)
    with pytest.raises(ApiError) as caught:
        server.apply(MANIFEST)
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize("status", [0, 200, 401, 408, 409, 410, 429, 500, 501, 502, 503, 504, 507])
def test_what_may_succeed_in_a_moment_is_unavailable(status: int) -> None:
    assert isinstance(raised(refusal(status)), ApiUnavailable)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 406, 411, 412, 413, 414, 415, 422, 431, 451])
def test_what_somebody_has_to_change_is_refused_with_the_servers_sentence(status: int) -> None:
    error = raised(refusal(status))
    assert isinstance(error, ApiRefused)
    assert error.status == status
    assert str(error) == f"server_side_apply Job j: {SENTENCE}"


def test_a_long_sentence_does_not_fill_the_status() -> None:
    long = json.dumps({"message": "because " * 10_000})
    assert len(str(raised(refusal(403, long)))) < 2100


@pytest.mark.parametrize("body", ["<html>a proxy's page</html>", "", "[]", '{"kind": "Status"}', "null", "3"])
def test_a_refusal_without_a_sentence_is_its_status(body: str) -> None:
    assert str(raised(refusal(403, body))) == "server_side_apply Job j: 403 Reason"


@pytest.mark.parametrize(
    "error",
    [
        MaxRetryError(cast(Any, None), "/apis", NewConnectionError(cast(Any, None), "[Errno 111] Connection refused")),
        ReadTimeoutError(cast(Any, None), "/apis", "Read timed out. (read timeout=20)"),
        ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer")),
        SSLError("certificate has expired"),
        ResourceNotFoundError("No matches found for {'kind': 'Job'}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_transport_that_fails_and_a_kind_that_is_not_there_yet_are_unavailable(error: Exception) -> None:
    assert isinstance(raised(error), ApiUnavailable)


@pytest.mark.parametrize("answer", ["<html>please log in</html>", "", b"\xff\xfe\x00binary"])
def test_an_answer_that_is_not_json_is_a_proxys(answer: str) -> None:
    server, _ = api(answer)
    with pytest.raises(ApiUnavailable, match="is there a proxy in between"):
        server.get(JOB, "j", "team")


@pytest.mark.parametrize(
    "bug",
    [KeyError("metadata"), TypeError("not callable"), AttributeError("x"), socket.gaierror(-2, "x"), ValueError("x")],
)
def test_a_bug_comes_out_as_itself(bug: Exception) -> None:
    server, _ = api(bug)
    with pytest.raises(type(bug)) as caught:
        server.apply(MANIFEST)
    assert caught.value is bug


def test_what_is_not_there_is_none_and_deleting_it_is_harmless() -> None:
    server, _ = api(refusal(404))
    assert server.get(JOB, "j", "team") is None
    assert server.apply_status(MANIFEST) is None
    server.delete(JOB, "j", "team")
    assert server.log("team", "p", "measure") == ""
    for call in (lambda: server.list(JOB, "team"), lambda: server.create(MANIFEST)):
        with pytest.raises(ApiRefused):
            call()


def test_what_is_there_already_is_not_created() -> None:
    server, _ = api(refusal(409))
    assert server.create(MANIFEST) is None
    with pytest.raises(ApiUnavailable):
        server.apply_status(MANIFEST)


@pytest.mark.parametrize(("status", "expected"), [(400, ""), (404, "")])
def test_a_container_that_has_not_run_has_no_log(status: int, expected: str) -> None:
    server, _ = api(refusal(status))
    assert server.log("team", "p", "measure", previous=True) == expected


@pytest.mark.parametrize("status", [403, 500])
def test_any_other_error_of_a_log_is_one(status: int) -> None:
    server, _ = api(refusal(status))
    with pytest.raises(ApiError):
        server.log("team", "p", "measure")
    with pytest.raises(ApiError):
        server.get(JOB, "j", "team")
    with pytest.raises(ApiError):
        server.delete(JOB, "j", "team")


def test_every_call_has_a_time_limit_and_says_who_writes() -> None:
    server, stub = api('{"items": [{"metadata": {"name": "n"}}]}')
    server.apply(MANIFEST)
    server.apply(MANIFEST, FIRST_WRITER, force=False)
    server.create(MANIFEST)
    server.apply_status({**MANIFEST, "status": {}})
    server.delete(JOB, "j", "team")
    server.get(TRIAL, "t", "team")
    assert server.list(NODE, selector="pool=a") == [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}]
    server.log("team", "p", "measure")
    assert {arguments["_request_timeout"] for _, arguments in stub.calls} == {CALL_LIMIT_S}
    writers = [
        (verb, one["field_manager"], one.get("force_conflicts")) for verb, one in stub.calls if "field_manager" in one
    ]
    assert writers == [
        ("server_side_apply", FIELD_MANAGER, True),
        ("server_side_apply", FIRST_WRITER, False),
        ("create", FIRST_WRITER, None),
        ("status/server_side_apply", FIELD_MANAGER, True),
    ]


def test_the_latest_warning_is_the_one_of_the_highest_version() -> None:
    events = [
        {"version": "99", "reason": "Old", "message": "x"},
        {"version": "100", "reason": "New", "message": "quota"},
    ]
    server, stub = api(json.dumps(events))
    assert server.latest_warning("team", "uid-1") == "New: quota"
    assert stub.calls[0][1]["field_selector"] == "involvedObject.uid=uid-1,type=Warning"
    assert api("[]")[0].latest_warning("team", "uid-1") is None
    with pytest.raises(ApiRefused):
        api(refusal(403))[0].latest_warning("team", "uid-1")
