"""What serves a tuning's winners, as it is in the cluster, and writing it: each object is read once in a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import MANAGED_BY, POOL_LABEL, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.build.records import laid_out
from haqa_operator.cluster.edges.api_server import DEPLOYMENT, FIELD_MANAGER, FIRST_WRITER, POD, ApiServer, Kind
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.differences import differs
from haqa_operator.cluster.observe.snapshot import label_selector
from haqa_operator.cluster.rollout import Layout


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
            found = self._existing(manifest)
            if manifest["kind"] == "Deployment":
                self._apply_deployment(manifest, found)
            elif found is None or differs(manifest, found):
                self._remember(self.api.apply(manifest, force=found is not None))

    def write(self, answer: Answer, output: Output) -> None:
        """Writes what differs of an answer that somebody else rolls out; replicas only at creation.

        Raises:
            Foreign
        """
        self.check_ours(answer, output)
        for manifest in answer.manifests:
            found = self._existing(manifest)
            lasting = _without_replicas(manifest)
            if found is None:
                self.api.apply(manifest, force=False)
                metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
                replicas = {"predictor": {"minReplicas": manifest["spec"]["predictor"]["minReplicas"]}}
                self.api.apply({**manifest, "metadata": metadata, "spec": replicas}, FIRST_WRITER)
                self._remember(self.api.apply(lasting))
            elif differs(lasting, found):
                self._remember(self.api.apply(lasting))

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

    def _apply_deployment(self, deployment: Manifest, existing: Manifest | None) -> None:
        """Sets `replicas` once; from then on the field belongs to whoever scales the Deployment.

        A field that its only owner does not apply any more falls back to the API server's default. So `replicas` gets
        an owner that applies nothing else before it is left out. Whatever else an earlier winner had goes.
        """
        api, replicas = self.api, deployment["spec"]["replicas"]
        lasting = {**deployment, "spec": {name: v for name, v in deployment["spec"].items() if name != "replicas"}}
        if existing is None:
            # Not forced: somebody may have made one of this name since we asked.
            api.apply(deployment, force=False)
        elif _owns_replicas(existing):
            replicas = existing["spec"]["replicas"]
        else:
            if differs(lasting, existing):
                self._remember(api.apply(lasting))
            return
        metadata = {name: deployment["metadata"][name] for name in ("name", "namespace")}
        api.apply({**deployment, "metadata": metadata, "spec": {"replicas": replicas}}, FIRST_WRITER)
        self._remember(api.apply(lasting))

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

    def all_there(self, answer: Answer) -> bool:
        """As far as this look has seen it."""
        named = ((Kind.of(one), str(one["metadata"]["name"])) for one in answer.manifests)
        return all(self._objects.get(address) is not None for address in named)


def _without_replicas(manifest: Manifest) -> Manifest:
    predictor = {name: value for name, value in manifest["spec"]["predictor"].items() if name != "minReplicas"}
    return {**manifest, "spec": {**manifest["spec"], "predictor": predictor}}


def _foreign(manifest: Manifest, pool: str) -> str:
    return (
        f"{manifest['kind']} {manifest['metadata']['name']} exists already and was not made by this tuning for pool "
        f'"{pool}"; choose another output.deployment.name, or set output.deployment.adopt to take it over'
    )


def _owns_replicas(deployment: Manifest) -> bool:
    """Whether the operator ended between creating the Deployment and handing its `replicas` over."""
    ours = (
        entry["fieldsV1"]
        for entry in deployment["metadata"].get("managedFields", ())
        if entry["manager"] == FIELD_MANAGER and entry["operation"] == "Apply"
    )
    return any("f:replicas" in fields.get("f:spec", {}) for fields in ours)
