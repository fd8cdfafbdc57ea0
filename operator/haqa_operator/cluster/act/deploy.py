"""What follows from a pool's answer: its Deployment and Service, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from haqa_operator.api.labels import APPROVAL_ANNOTATION, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import ModelFacts, PoolPhase
from haqa_operator.cluster.build.pool_manifests import PoolPods
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import DEPLOYMENT, POD, Objects
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.deployments import serves, waits_for
from haqa_operator.cluster.observe.snapshot import TuningSnapshot, label_selector
from haqa_operator.decision.results import Decision, Verdict


@dataclass(frozen=True)
class Conclusion:
    """Carries out a pool's answer.

    Attributes:
        model: What was found out about the unquantized model.
    """

    objects: Objects
    snapshot: TuningSnapshot
    pods: PoolPods
    model: ModelFacts

    def carry_out(self, view: PoolView, decision: Decision, why: str) -> PoolView:
        view = replace(view, decision=decision, why=why, message=decision.reason)
        if decision.verdict not in (Verdict.WINNER, Verdict.BASELINE_BEST) or decision.winner is None:
            return replace(view, phase=PoolPhase.FAILED, problem=decision.reason)
        output = self.snapshot.tuning.spec.output
        if output.mode == "Manifest" or view.state is None:
            return replace(view, phase=PoolPhase.SUCCEEDED)
        if output.approval == "Manual" and decision.winner not in self._approved():
            message = (
                f"{decision.reason} To put it out: kubectl annotate --overwrite quantizationtuning "
                f"{self.snapshot.tuning.metadata.name} {APPROVAL_ANNOTATION}={decision.winner}"
            )
            return replace(view, phase=PoolPhase.AWAITING_APPROVAL, message=message)
        winner = next(trial for trial in view.state.trials if trial.name == decision.winner)
        try:
            deployment, service = self.pods.winner(winner, self.model)
        except ValueError as error:
            return replace(view, phase=PoolPhase.FAILED, problem=str(error))
        return self._put_out(view, deployment, service)

    def _approved(self) -> set[str]:
        annotations = self.snapshot.manifest["metadata"].get("annotations") or {}
        return {name.strip() for name in str(annotations.get(APPROVAL_ANNOTATION, "")).split(",")}

    def _put_out(self, view: PoolView, deployment: Manifest, service: Manifest) -> PoolView:
        name = deployment["metadata"]["name"]
        existing = self.objects.get(DEPLOYMENT, name, self.snapshot.namespace)
        adopt = self.snapshot.tuning.spec.output.deployment.adopt
        if existing is not None and not adopt and not self._ours(existing):
            return replace(
                view,
                phase=PoolPhase.FAILED,
                problem=f"Deployment {name} is there already and not of this tuning; set output.deployment.adopt, or "
                "another output.deployment.name",
            )
        if existing is None:
            self.objects.create(deployment)
        lasting = {**deployment, "spec": {k: v for k, v in deployment["spec"].items() if k != "replicas"}}
        served = self.objects.apply(lasting)
        self.objects.apply(service)
        if serves(served):
            return replace(view, phase=PoolPhase.SUCCEEDED, deployment=name)
        message = f"{view.message} Deployment {name}: {waits_for(served, self._pods_of(served))}"
        return replace(view, phase=PoolPhase.DEPLOYING, deployment=name, message=message)

    def _pods_of(self, deployment: Manifest) -> list[Manifest]:
        selector = label_selector(deployment["spec"]["selector"]["matchLabels"])
        return self.objects.list(POD, self.snapshot.namespace, selector)

    def _ours(self, existing: Manifest) -> bool:
        labels = existing["metadata"].get("labels", {})
        wanted = {
            "app.kubernetes.io/managed-by": "haqa",
            TUNING_LABEL: label(self.snapshot.tuning.metadata.name),
        }
        return all(labels.get(name) == value for name, value in wanted.items())
