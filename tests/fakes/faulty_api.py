"""Between the operator and an API server: what was called, and faults on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import EVENT, FIELD_MANAGER, POD, ApiServer, Kind

Answer = TypeVar("Answer")
_REVIEW = Kind("authentication.k8s.io/v1", "SelfSubjectReview")


@dataclass(frozen=True)
class Call:
    """One call of the API server.

    Attributes:
        verb: get, list, apply, create, apply_status, patch, delete, log, latest_warning or user.
        manifest: What is to be written; empty for a call that writes nothing.
    """

    verb: str
    kind: Kind
    name: str = ""
    manifest: Manifest = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return self.verb in ("apply", "create", "apply_status", "patch", "delete")


Fault = Callable[[Call], BaseException | None]
"""What a call is answered with instead of being carried out; None = it is carried out."""


class FaultyApi:
    """An `ApiServer` in front of another.

    Attributes:
        faults: Asked before every call, in order.
        calls: Everything that was called, carried out or not.
        after: Called when a call was carried out, before its answer is given.
    """

    def __init__(self, server: ApiServer) -> None:
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.after: Callable[[Call], None] = lambda call: None
        self._server = server

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        return self._through(Call("get", kind, name), lambda: self._server.get(kind, name, namespace))

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        return self._through(Call("list", kind, selector), lambda: self._server.list(kind, namespace, selector))

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER, *, force: bool = True) -> Manifest:
        return self._through(_writing("apply", manifest), lambda: self._server.apply(manifest, manager, force=force))

    def create(self, manifest: Manifest) -> Manifest | None:
        return self._through(_writing("create", manifest), lambda: self._server.create(manifest))

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        return self._through(_writing("apply_status", manifest), lambda: self._server.apply_status(manifest))

    def patch(self, manifest: Manifest, manager: str) -> Manifest | None:
        return self._through(_writing("patch", manifest), lambda: self._server.patch(manifest, manager))

    def delete(self, kind: Kind, name: str, namespace: str) -> None:
        self._through(Call("delete", kind, name), lambda: self._server.delete(kind, name, namespace))

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        return self._through(Call("log", POD, pod), lambda: self._server.log(namespace, pod, container, previous))

    def latest_warning(self, namespace: str, uid: str) -> str | None:
        return self._through(Call("latest_warning", EVENT, uid), lambda: self._server.latest_warning(namespace, uid))

    def user(self) -> str:
        return self._through(Call("user", _REVIEW), self._server.user)

    def _through(self, call: Call, carry_out: Callable[[], Answer]) -> Answer:
        self.calls.append(call)
        for fault in self.faults:
            if (error := fault(call)) is not None:
                raise error
        answer = carry_out()
        self.after(call)
        return answer


def _writing(verb: str, manifest: Manifest) -> Call:
    return Call(verb, Kind.of(manifest), manifest["metadata"]["name"], manifest)
