"""An API server in memory, for whole reconciliations in milliseconds.

It passes the same contract tests as the real one (tests/fakes/api_server_contract.py): server-side apply with field
ownership, the status subresource, label selectors, generations, the custom resources' schemas, garbage collection.
What only the real one can show (admission, CEL rules, defaults, watches) is shown in tests/cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import (
    CONTROLLER_REVISION,
    EVENT,
    FIELD_MANAGER,
    FIRST_WRITER,
    NODE,
    TRIAL,
    TUNING,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    Kind,
)

CRDS = Path(__file__).parents[2] / "crds"

Address = tuple[Kind, str | None, str]
Path_ = tuple[str, ...]

_WITH_STATUS = frozenset({TUNING, TRIAL})
"""Kinds of which `apply` and `create` leave the status alone."""
_SERVER_OWNED = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_SET_BASED = re.compile(r"(?P<name>\S+) in \((?P<values>[^)]*)\)")


@dataclass
class _Stored:
    manifest: Manifest
    owned: dict[str, set[Path_]] = field(default_factory=dict)


class InMemoryApiServer:
    """An `ApiServer` whose objects live in this process.

    Attributes:
        logs: (pod, container) -> text, or the error with which its node answers.
        username: Of whoever asks.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.logs: dict[tuple[str, str], str | ApiError] = {}
        self.username = "jane"
        self._clock = clock
        self._stored: dict[Address, _Stored] = {}
        self._versions = count(1)
        self._spelled_by_others: set[str] = set()

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        found = self._stored.get((kind, namespace, name))
        if found is None:
            return None
        manifest: Manifest = _copied(found.manifest)
        manifest["metadata"]["managedFields"] = [_managed(manager, paths) for manager, paths in found.owned.items()]
        return manifest

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        matches = _selected_by(selector)
        return [
            _copied(stored.manifest)
            for (of, where, _), stored in self._stored.items()
            if of == kind and namespace in (None, where) and matches(stored.manifest["metadata"].get("labels") or {})
        ]

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER, *, force: bool = True) -> Manifest:
        kind = Kind.of(manifest)
        body = _without_status(manifest) if kind in _WITH_STATUS else _copied(manifest)
        return self._merged(kind, body, manager, force=force)

    def create(self, manifest: Manifest) -> Manifest | None:
        kind, metadata = Kind.of(manifest), manifest["metadata"]
        if (kind, metadata.get("namespace"), metadata["name"]) in self._stored:
            return None
        body = _without_status(manifest) if kind in _WITH_STATUS else _copied(manifest)
        created = self._merged(kind, body, FIRST_WRITER)
        if kind == CONTROLLER_REVISION:
            # Keeps the bytes that were sent, and takes its own spelling of them for a change.
            self._spelled_by_others.add(str(created["metadata"]["uid"]))
        return created

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        kind, metadata = Kind.of(manifest), manifest["metadata"]
        if (kind, metadata.get("namespace"), metadata["name"]) not in self._stored:
            return None
        names = {name: metadata[name] for name in ("name", "namespace") if name in metadata}
        status = {"status": _copied(manifest.get("status", {}))}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": names, **status}
        return self._merged(kind, body, f"{FIELD_MANAGER}/status")

    def patch(self, manifest: Manifest, manager: str) -> Manifest | None:
        kind, metadata = Kind.of(manifest), manifest["metadata"]
        stored = self._stored.get((kind, metadata.get("namespace"), metadata["name"]))
        if stored is None:
            return None
        before, version = stored.manifest, metadata.get("resourceVersion")
        if version not in (None, before["metadata"]["resourceVersion"]):
            raise ApiUnavailable(f"409: {kind.kind} {metadata['name']} was written since {version}")
        body = _without_status(manifest) if kind in _WITH_STATUS else _copied(manifest)
        after = _copied(before)
        _merge_patch(after, body)
        _check(kind, after)
        touched = set(_leaves(body))
        for name in stored.owned:
            stored.owned[name] -= touched
        stored.owned.setdefault(manager, set()).update(path for path in touched if _value(after, path) is not None)
        if after != before:
            after["metadata"]["resourceVersion"] = str(next(self._versions))
            if after.get("spec") != before.get("spec"):
                after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        stored.manifest = after
        answer: Manifest = _copied(after)
        return answer

    def delete(self, kind: Kind, name: str, namespace: str) -> None:
        gone = self._stored.pop((kind, namespace, name), None)
        if gone is not None:
            self._collect_garbage()

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        found = self.logs.get((pod, container), "")
        if isinstance(found, ApiError):
            raise found
        return found

    def latest_warning(self, namespace: str, uid: str) -> str | None:
        about = [
            event
            for event in self._all(EVENT, namespace)
            if event["involvedObject"].get("uid") == uid and event["type"] == "Warning"
        ]
        latest = max(about, key=lambda event: int(event["metadata"]["resourceVersion"]), default=None)
        return f"{latest['reason']}: {latest['message']}" if latest else None

    def user(self) -> str:
        return self.username

    def stand_in(self, manifest: Manifest, by: str = "somebody") -> Manifest:
        """Written by another than the operator: a person, a controller, a kubelet. Status included."""
        kind = Kind.of(manifest)
        body = _copied(manifest)
        status = body.pop("status", None)
        written = self._merged(kind, body, by)
        if status is not None:
            names = {name: body["metadata"][name] for name in ("name", "namespace") if name in body["metadata"]}
            part = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": names, "status": status}
            written = self._merged(kind, part, f"{by}/status", replace_status=True)
        return written

    def _all(self, kind: Kind, namespace: str | None = None) -> Iterator[Manifest]:
        return (
            stored.manifest
            for (of, where, _), stored in list(self._stored.items())
            if of == kind and namespace in (None, where)
        )

    def _merged(
        self, kind: Kind, body: Manifest, manager: str, *, replace_status: bool = False, force: bool = True
    ) -> Manifest:
        metadata = body["metadata"]
        address: Address = (kind, None if kind == NODE else metadata.get("namespace"), metadata["name"])
        stored = self._stored.get(address)
        before = stored.manifest if stored else self._new(kind, metadata)
        owned = {name: set(paths) for name, paths in (stored.owned if stored else {}).items()}
        base = {**before, "status": {}} if replace_status else before
        others = set().union(*(paths for name, paths in owned.items() if name != manager))
        mine = set(_leaves(body))
        changed = {path for path in mine & others if _value(before, path) != _value(body, path)}
        if changed and not force:
            raise ApiUnavailable(f"409: conflict with another manager over {sorted(changed)}")
        for name in owned.keys() - {manager}:
            owned[name] -= changed
        after = _copied(base)
        for path in sorted(owned.get(manager, set()) - mine - others, key=len, reverse=True):
            _remove(after, path)
        _merge(after, body)
        owned[manager] = mine
        _check(kind, after)
        changed_data = after.get("data") != before.get("data") or before["metadata"]["uid"] in self._spelled_by_others
        if kind == CONTROLLER_REVISION and stored and changed_data:
            raise ApiRefused(f'ControllerRevision "{metadata["name"]}" is invalid: data: field is immutable', 422)
        if after != before:
            after["metadata"]["resourceVersion"] = str(next(self._versions))
            if stored and after.get("spec") != before.get("spec"):
                after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        self._stored[address] = _Stored(after, owned)
        answer: Manifest = _copied(after)
        return answer

    def _new(self, kind: Kind, metadata: Manifest) -> Manifest:
        number = next(self._versions)
        made = {
            "name": metadata["name"],
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": made}

    def _collect_garbage(self) -> None:
        while True:
            uids = {stored.manifest["metadata"]["uid"] for stored in self._stored.values()}
            orphans = [
                address
                for address, stored in self._stored.items()
                if (owners := stored.manifest["metadata"].get("ownerReferences"))
                and not any(owner["uid"] in uids for owner in owners)
            ]
            if not orphans:
                return
            for address in orphans:
                del self._stored[address]


def _copied(value: Any) -> Any:
    """Manifests are JSON, for which this is several times faster than `deepcopy`."""
    return json.loads(json.dumps(value)) if isinstance(value, dict | list | tuple) else value


def _without_status(manifest: Manifest) -> Manifest:
    return {name: _copied(value) for name, value in manifest.items() if name != "status"}


def _keyed(value: Any) -> str | None:
    """By which field a list's items are identified, as their schemas say (`x-kubernetes-list-map-keys`)."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return next((key for key in ("name", "uid", "type") if all(key in item for item in value)), None)
    return None


def _leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*path, name))
    elif (key := _keyed(value)) is not None:
        for item in value:
            yield from _leaves(item, (*path, f"[{key}={item[key]}]"))
    else:
        yield path


def _value(where: Any, path: Path_) -> Any:
    for part in path:
        if part.startswith("["):
            key, _, wanted = part[1:-1].partition("=")
            where = next((item for item in where or () if str(item.get(key)) == wanted), None)
        else:
            where = where.get(part) if isinstance(where, dict) else None
    return where


def _managed(manager: str, paths: set[Path_]) -> Manifest:
    """An entry of `managedFields`, without what is inside lists."""
    fields: Manifest = {}
    for path in paths:
        node = fields
        for part in path:
            if part.startswith("["):
                break
            node = node.setdefault(f"f:{part}", {})
    return {"manager": manager, "operation": "Apply", "fieldsV1": fields}


def _merge(into: Manifest, body: Manifest) -> None:
    for name, value in body.items():
        present = into.get(name)
        if name == "metadata" and isinstance(value, dict):
            value = {key: item for key, item in value.items() if key not in _SERVER_OWNED}
        if isinstance(value, dict) and isinstance(present, dict):
            _merge(present, value)
        elif (key := _keyed(value)) is not None and _keyed(present) == key:
            assert isinstance(present, list)
            by_key = {item[key]: item for item in present}
            for item in value:
                if item[key] in by_key:
                    _merge(by_key[item[key]], item)
                else:
                    present.append(_copied(item))
        else:
            into[name] = _copied(value)


def _merge_patch(into: Manifest, body: Manifest) -> None:
    """RFC 7396: lists are replaced, null removes."""
    for name, value in body.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            if not isinstance(into.get(name), dict):
                into[name] = {}
            _merge_patch(into[name], value)
        elif name not in _SERVER_OWNED:
            into[name] = _copied(value)


def _remove(where: Any, path: Path_) -> None:
    """The leaf, and what is empty without it."""
    head, *rest = path
    if head.startswith("["):
        key, _, wanted = head[1:-1].partition("=")
        found = next((item for item in where if str(item.get(key)) == wanted), None)
        if found is None:
            return
        if rest and rest != [key]:
            _remove(found, tuple(rest))
        if not rest or rest == [key]:
            where.remove(found)
        return
    if not isinstance(where, dict) or head not in where:
        return
    if rest:
        _remove(where[head], tuple(rest))
    if not rest or where[head] in ({}, []):
        del where[head]


def _selected_by(selector: str) -> Callable[[dict[str, str]], bool]:
    wanted: dict[str, set[str]] = {}
    for part in re.split(r",(?![^(]*\))", selector) if selector else []:
        match = _SET_BASED.fullmatch(part)
        name, values = (match["name"], match["values"].split(",")) if match else _equality(part)
        for value in values:
            if not _LABEL_VALUE.fullmatch(value):
                raise ApiRefused(f'unable to parse requirement: values[0][{name}]: Invalid value: "{value}"', 400)
        wanted[name] = set(values)
    return lambda labels: all(labels.get(name) in values for name, values in wanted.items())


def _equality(part: str) -> tuple[str, list[str]]:
    name, equals, value = part.partition("=")
    if not equals:
        raise ApiRefused(f"unable to parse requirement: found '{part}', expected: in, notin, =, ==, !=", 400)
    return name, [value]


@cache
def _schema(kind: Kind) -> Draft202012Validator | None:
    for file in CRDS.glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        if definition["spec"]["names"]["kind"] == kind.kind:
            return Draft202012Validator(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    return None


def _check(kind: Kind, manifest: Manifest) -> None:
    if _schema(kind) is None:
        return
    parts = {part: manifest[part] for part in ("spec", "status") if part in manifest}
    if problem := _problem(kind, json.dumps(parts, sort_keys=True)):
        raise ApiRefused(f'{kind.kind}.haqa.dev "{manifest["metadata"]["name"]}" is invalid: {problem}', 422)


@lru_cache(4000)
def _problem(kind: Kind, parts: str) -> str | None:
    """What is wrong with spec and status (as JSON) by their schema; the same ones come again and again."""
    validator = _schema(kind)
    errors = list(validator.iter_errors(json.loads(parts))) if validator else []
    if not errors:
        return None
    where = ".".join(str(part) for part in errors[0].absolute_path)
    return f"{where}: {errors[0].message}"
