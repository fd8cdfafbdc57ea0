"""What serves a tuning's winners, as it is in the cluster, and writing it: each object is read once in a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import MANAGED_BY, POOL_LABEL, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.build.records import laid_out
from haqa_operator.cluster.edges.api_server import (
    DEPLOYMENT,
    FIELD_MANAGER,
    FIRST_WRITER,
    INFERENCE_SERVICE,
    POD,
    ApiRefused,
    ApiServer,
    Kind,
    UnknownKind,
)
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.differences import differs
from haqa_operator.cluster.observe.snapshot import label_selector
from haqa_operator.cluster.rollout import Layout

Place = tuple[str, ...]
"""A field below `spec`."""

_REPLICAS: dict[str, Place] = {"Deployment": ("replicas",), INFERENCE_SERVICE.kind: ("predictor", "minReplicas")}
"""Kind -> where its number of replicas is."""


class Foreign(Exception):
    """An object that an answer would write is somebody else's; the message says whose, and what to do."""


@dataclass
class LiveObjects:
    """Lives for one look at one tuning."""

    api: ApiServer
    namespace: str
    tuning: str
    _deployments: dict[str, Manifest] | None = field(default=None, repr=False)
    _objects: dict[tuple[Kind, str], Manifest | None] = field(default_factory=dict, repr=False)

    def lay_out(self, layout: Layout, output: Output) -> None:
        """Writes what differs, all or nothing: what somebody else has made under one of the names is left alone.

        Raises:
            Foreign
        """
        self.check_ours(layout.revision.answer, output)
        for manifest in laid_out(layout):
            self._apply(manifest)

    def write(self, answer: Answer, output: Output) -> None:
        """Writes what differs of an answer that somebody else rolls out.

        Raises:
            Foreign
        """
        self.check_ours(answer, output)
        for manifest in answer.manifests:
            self._apply(manifest)

    def remove(self, answer: Answer) -> None:
        """What did not do, and had nothing before it; what is somebody else's stays."""
        for manifest in answer.manifests:
            found = self._existing(manifest)
            if found is not None and self._ours(found, answer.pool):
                self.api.delete(Kind.of(manifest), manifest["metadata"]["name"], self.namespace)
                self._objects[Kind.of(manifest), manifest["metadata"]["name"]] = None

    def check_ours(self, answer: Answer, output: Output) -> None:
        """Raises Foreign: one of the names is somebody else's, and is not to be adopted."""
        if output.deployment.adopt:
            return
        for manifest in answer.manifests:
            found = self._existing(manifest)
            if found is not None and not self._ours(found, answer.pool):
                raise Foreign(_foreign(manifest, answer.pool))

    def _apply(self, manifest: Manifest) -> None:
        """Sets the number of replicas once; from then on the field belongs to whoever scales it.

        A field that its only owner does not apply any more falls back to the API server's default. So `replicas` gets
        an owner that applies nothing else before it is left out. Whatever else an earlier winner had goes.
        """
        existing, place = self._existing(manifest), _REPLICAS.get(manifest["kind"])
        if place is None:
            if existing is None or differs(manifest, existing):
                self._remember(self.api.apply(manifest, force=existing is not None))
            return
        replicas = _at(manifest["spec"], place)
        lasting = {**manifest, "spec": _without(manifest["spec"], place)}
        if existing is None:
            # Not forced: somebody may have made one of this name since we asked.
            self.api.apply(manifest, force=False)
        elif _owns(existing, place):
            replicas = _at(existing["spec"], place)
        else:
            if differs(lasting, existing):
                self._remember(self.api.apply(lasting))
            return
        metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
        self.api.apply({**manifest, "metadata": metadata, "spec": _alone(replicas, place)}, FIRST_WRITER)
        self._remember(self.api.apply(lasting))

    def adapted(self, answer: Answer) -> tuple[Manifest, ...]:
        """An adopted Deployment keeps its selector, which the API server lets nobody change."""
        deployment = answer.manifest("Deployment")
        if deployment is None or not answer.output.deployment.adopt:
            return answer.manifests
        existing = self._existing(deployment)
        selector = (existing or {}).get("spec", {}).get("selector", {}).get("matchLabels")
        if not selector or selector == deployment["spec"]["selector"]["matchLabels"]:
            return answer.manifests
        adapted: list[Manifest] = []
        for manifest in answer.manifests:
            spec = dict(manifest["spec"])
            match manifest["kind"]:
                case "Deployment":
                    template = spec["template"]
                    labels = {**template["metadata"]["labels"], **selector}
                    spec |= {
                        "selector": {"matchLabels": selector},
                        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
                    }
                case "Service":
                    spec["selector"] = dict(selector)
                case _:
                    spec["selector"] = {"matchLabels": dict(selector)}
            adapted.append({**manifest, "spec": spec})
        return tuple(adapted)

    def deployments(self) -> dict[str, Manifest]:
        """The tuning's, by name."""
        if self._deployments is None:
            chosen = label_selector({**MANAGED_BY, TUNING_LABEL: label(self.tuning)})
            found: Sequence[Manifest] = self.api.list(DEPLOYMENT, self.namespace, chosen)
            self._deployments = {str(one["metadata"]["name"]): one for one in found}
        return self._deployments

    def deployment(self, name: str | None) -> Manifest | None:
        """Also one that was not made by HAQA, and is to be adopted."""
        return self.deployments().get(name) or self.found(DEPLOYMENT, name) if name else None

    def pods_of(self, deployment: Manifest) -> tuple[Manifest, ...]:
        selector = label_selector(deployment["spec"]["selector"]["matchLabels"])
        return tuple(self.api.list(POD, self.namespace, selector))

    def _existing(self, manifest: Manifest) -> Manifest | None:
        return self.found(Kind.of(manifest), str(manifest["metadata"]["name"]))

    def found(self, kind: Kind, name: str) -> Manifest | None:
        """As it was when it was first asked for, or has been written since."""
        if (kind, name) not in self._objects:
            self._objects[kind, name] = self.api.get(kind, name, self.namespace)
        return self._objects[kind, name]

    def _remember(self, written: Manifest) -> None:
        kind, name = Kind.of(written), str(written["metadata"]["name"])
        self._objects[kind, name] = written
        if kind == DEPLOYMENT:
            self.deployments()[name] = written

    def _ours(self, existing: Manifest, pool: str) -> bool:
        labels = existing["metadata"].get("labels") or {}
        wanted = {**MANAGED_BY, TUNING_LABEL: label(self.tuning), POOL_LABEL: label(pool)}
        return all(labels.get(name) == value for name, value in wanted.items())

    def known_deployments(self) -> dict[str, Manifest]:
        """As far as this look has asked for them."""
        return self._deployments or {}

    def serves(self, kind: str, name: str, pool: str) -> bool:
        """Whether there is such a Deployment, or InferenceService, and it was made for the pool.

        Of a kind that the cluster, or the operator's rights, know no more there is nothing to see.
        """
        try:
            found = self.found(INFERENCE_SERVICE if kind == INFERENCE_SERVICE.kind else DEPLOYMENT, name)
        except (UnknownKind, ApiRefused):
            return False
        return found is not None and self._ours(found, pool)

    def all_there(self, answer: Answer) -> bool:
        """As far as this look has seen it."""
        named = ((Kind.of(one), str(one["metadata"]["name"])) for one in answer.manifests)
        return all(self._objects.get(address) is not None for address in named)


def _at(spec: Manifest, place: Place) -> Any:
    found: Any = spec
    for name in place:
        found = found[name]
    return found


def _without(spec: Manifest, place: Place) -> Manifest:
    name, *inside = place
    if not inside:
        return {key: value for key, value in spec.items() if key != name}
    return {**spec, name: _without(spec[name], tuple(inside))}


def _alone(value: Any, place: Place) -> Manifest:
    name, *inside = place
    return {name: _alone(value, tuple(inside)) if inside else value}


def _foreign(manifest: Manifest, pool: str) -> str:
    return (
        f"{manifest['kind']} {manifest['metadata']['name']} exists already and was not made by this tuning for pool "
        f'"{pool}"; choose another output.deployment.name, or set output.deployment.adopt to take it over'
    )


def _owns(existing: Manifest, place: Place) -> bool:
    """Whether the operator ended between creating the object and handing its number of replicas over."""
    ours = (
        entry["fieldsV1"]
        for entry in existing["metadata"].get("managedFields", ())
        if entry["manager"] == FIELD_MANAGER and entry["operation"] == "Apply"
    )
    return any(_has(fields.get("f:spec", {}), place) for fields in ours)


def _has(fields: Manifest, place: Place) -> bool:
    name, *inside = place
    below = fields.get(f"f:{name}")
    return below is not None and (not inside or _has(below, tuple(inside)))
