"""Carries out a pool's answer: applies the winner's Deployment and Service, or says why there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from haqa_operator.api.labels import APPROVAL_ANNOTATION, MANAGED_BY, POOL_LABEL, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import PoolPhase
from haqa_operator.cluster.build.pool_manifests import CannotDeploy, PoolManifests
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import FIELD_MANAGER, FIRST_WRITER, POD, ApiRefused, ApiServer, Kind
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.deployments import serves, waits_for
from haqa_operator.cluster.observe.snapshot import TuningSnapshot, label_selector
from haqa_operator.decision.results import Decision, Verdict


@dataclass(frozen=True)
class Deployer:
    """Deploys the winner of one pool, during one reconciliation."""

    api: ApiServer
    snapshot: TuningSnapshot
    manifests: PoolManifests

    def carry_out(self, view: PoolView, decision: Decision, why: str) -> PoolView:
        view = replace(view, decision=decision, why=why, message=decision.reason)
        if decision.verdict not in (Verdict.WINNER, Verdict.BASELINE_BEST) or decision.winner is None:
            return replace(view, phase=PoolPhase.FAILED, problem=decision.reason)
        output = self.snapshot.tuning.spec.output
        if output.mode == "Manifest" or view.state is None:
            return replace(view, phase=PoolPhase.SUCCEEDED)
        if output.approval == "Manual" and decision.winner not in self._approved():
            message = (
                f"{decision.reason} To deploy it: kubectl annotate --overwrite quantizationtuning "
                f"{self.snapshot.tuning.metadata.name} {APPROVAL_ANNOTATION}={decision.winner}"
            )
            return replace(view, phase=PoolPhase.AWAITING_APPROVAL, message=message)
        winner = next(trial for trial in view.state.trials if trial.name == decision.winner)
        try:
            deployment, service = self.manifests.winner(winner)
        except CannotDeploy as error:
            return replace(view, phase=PoolPhase.FAILED, problem=str(error))
        name = deployment["metadata"]["name"]
        try:
            return self._deploy(view, name, deployment, service)
        except ApiRefused as error:
            refused = replace(view, problem=f"the API server refuses: {error}", refused=True)
            if self._served(view.name, name, decision.winner):
                return replace(refused, phase=PoolPhase.SUCCEEDED, deployment=name)
            return replace(refused, phase=PoolPhase.DEPLOYING)

    def _approved(self) -> set[str]:
        annotations = self.snapshot.manifest["metadata"].get("annotations") or {}
        return {name.strip() for name in str(annotations.get(APPROVAL_ANNOTATION, "")).split(",")}

    def _served(self, pool: str, name: str, winner: str) -> bool:
        """Whether this winner was serving before: that it cannot be applied again does not end that."""
        before = next((one for one in self.snapshot.status.pools if one.name == pool), None)
        if before is None or before.best is None or before.phase is not PoolPhase.SUCCEEDED:
            return False
        return (before.deployment, before.best.trial) == (name, winner)

    def _deploy(self, view: PoolView, name: str, deployment: Manifest, service: Manifest) -> PoolView:
        """Writes both or neither: what somebody else has made under one of the names is left alone."""
        existing = {manifest["kind"]: self._existing(manifest) for manifest in (deployment, service)}
        if not self.snapshot.tuning.spec.output.deployment.adopt:
            there = {kind: found for kind, found in existing.items() if found is not None}
            foreign = [kind for kind, found in there.items() if not self._ours(found, view.name)]
            if foreign:
                problem = (
                    f"{foreign[0]} {name} exists already and was not made by this tuning for pool "
                    f'"{view.name}"; choose another output.deployment.name, or set output.deployment.adopt to take it '
                    "over"
                )
                return replace(view, phase=PoolPhase.FAILED, problem=problem)
        served = self._applied(deployment, existing["Deployment"])
        self.api.apply(service, force=existing["Service"] is not None)
        if serves(served):
            return replace(view, phase=PoolPhase.SUCCEEDED, deployment=name)
        message = f"{view.message} Deployment {name}: {waits_for(served, self._pods_of(served))}"
        return replace(view, phase=PoolPhase.DEPLOYING, deployment=name, message=message)

    def _applied(self, deployment: Manifest, existing: Manifest | None) -> Manifest:
        """Sets `replicas` once; from then on the field belongs to whoever scales the Deployment.

        A field that its only owner does not apply any more falls back to the API server's default. So `replicas` gets
        an owner that applies nothing else before it is left out. Whatever else an earlier winner had goes.
        """
        replicas = deployment["spec"]["replicas"]
        lasting = {**deployment, "spec": {name: v for name, v in deployment["spec"].items() if name != "replicas"}}
        if existing is None:
            # Not forced: somebody may have made one of this name since we asked.
            self.api.apply(deployment, force=False)
        elif _owns_replicas(existing):
            replicas = existing["spec"]["replicas"]
        else:
            return self.api.apply(lasting)
        metadata = {name: deployment["metadata"][name] for name in ("name", "namespace")}
        self.api.apply({**deployment, "metadata": metadata, "spec": {"replicas": replicas}}, FIRST_WRITER)
        return self.api.apply(lasting)

    def _existing(self, manifest: Manifest) -> Manifest | None:
        return self.api.get(Kind.of(manifest), manifest["metadata"]["name"], self.snapshot.namespace)

    def _pods_of(self, deployment: Manifest) -> list[Manifest]:
        selector = label_selector(deployment["spec"]["selector"]["matchLabels"])
        return self.api.list(POD, self.snapshot.namespace, selector)

    def _ours(self, existing: Manifest, pool: str) -> bool:
        labels = existing["metadata"].get("labels") or {}
        wanted = {**MANAGED_BY, TUNING_LABEL: label(self.snapshot.tuning.metadata.name), POOL_LABEL: label(pool)}
        return all(labels.get(name) == value for name, value in wanted.items())


def _owns_replicas(deployment: Manifest) -> bool:
    """Whether the operator ended between creating the Deployment and handing its `replicas` over."""
    ours = (
        entry["fieldsV1"]
        for entry in deployment["metadata"].get("managedFields", ())
        if entry["manager"] == FIELD_MANAGER and entry["operation"] == "Apply"
    )
    return any("f:replicas" in fields.get("f:spec", {}) for fields in ours)
