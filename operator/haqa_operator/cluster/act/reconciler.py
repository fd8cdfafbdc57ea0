"""Looks at one tuning, decides, acts: the whole operator but for knowing when to look.

Everything is read from the API server at every look and nothing is remembered that matters, so a restart, a lost event
or the same event twice ends in the same place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from haqa_operator.api import QuantizationTuning, SpecError
from haqa_operator.api.loading import parse_tuning
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import ModelFacts, PoolPhase, TuningStatus
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.pool import PoolReconciler
from haqa_operator.cluster.act.trials import PoolContext
from haqa_operator.cluster.build.pool_manifests import PoolPods
from haqa_operator.cluster.build.statuses import PoolView, TuningView, tuning_status
from haqa_operator.cluster.decide import JOB_ATTEMPTS
from haqa_operator.cluster.edges import telemetry
from haqa_operator.cluster.edges.api_server import JOB, NODE, POD, TRIAL, TUNING
from haqa_operator.cluster.edges.events import INSPECTING_MODEL, events_of
from haqa_operator.cluster.edges.log_context import about
from haqa_operator.cluster.observe.snapshot import (
    TuningSnapshot,
    read_snapshot,
    selector_of,
    tuning_selector,
    work_selector,
)
from haqa_operator.hardware.accelerators import Accelerator, HardwareError
from haqa_operator.hardware.node_labels import pool_accelerator
from haqa_operator.tuning.preflight import metric_problems, model_unread, setting_problems

log = logging.getLogger(__name__)

AGAIN_S = 10.0
"""Between two looks at a tuning that waits for something nobody reports, a node for one."""
RESYNC_S = 300.0


@dataclass(frozen=True)
class Key:
    """Which tuning."""

    namespace: str
    name: str


LookAgain = Callable[[Key], None]


class Reconciler:
    """One call looks at one tuning; calls for different tunings may run at once, for the same one they may not."""

    def __init__(
        self, dependencies: Dependencies, look_again: LookAgain, clock: Callable[[], float] = time.time
    ) -> None:
        self._dependencies = dependencies
        self._objects = dependencies.objects
        self._look_again = look_again
        self._clock = clock

    def reconcile(self, key: Key) -> float | None:
        """Blocks while it talks to the API server; seconds until the next look at the latest, None = it is gone.

        Raises:
            ApiError: somebody should try again in a moment.
        """
        with about(namespace=key.namespace, tuning=key.name), telemetry.timed(telemetry.RECONCILES):
            return self._reconcile(key)

    def _reconcile(self, key: Key) -> float | None:
        manifest = self._objects.get(TUNING, key.name, key.namespace)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            telemetry.tuning_gone(key.namespace, key.name)
            return None
        try:
            tuning = parse_tuning(manifest)
        except SpecError as error:
            self._write(manifest, TuningStatus(), _refused(manifest, error.problems))
            return RESYNC_S
        before = tuning.status or TuningStatus()
        if problems := spec_problems(tuning):
            self._write(manifest, before, _refused(manifest, problems))
            return RESYNC_S
        snapshot = self._read(tuning, manifest)
        view = self._carry_on(key, snapshot)
        self._write(manifest, before, view)
        done = all(pool.phase in (PoolPhase.SUCCEEDED, PoolPhase.FAILED) for pool in view.pools)
        return RESYNC_S if done else AGAIN_S

    def _read(self, tuning: QuantizationTuning, manifest: Manifest) -> TuningSnapshot:
        namespace = manifest["metadata"]["namespace"]
        trials = self._objects.list(TRIAL, namespace, tuning_selector(tuning.metadata.name))
        selector = work_selector(tuning, trials)
        return read_snapshot(
            tuning,
            manifest,
            trials=trials,
            jobs=self._objects.list(JOB, namespace, selector) if selector else [],
            pods=self._objects.list(POD, namespace, selector) if selector else [],
            nodes={pool.name: self._objects.list(NODE, selector=selector_of(pool)) for pool in tuning.spec.node_pools},
        )

    def _carry_on(self, key: Key, snapshot: TuningSnapshot) -> TuningView:
        spec = snapshot.tuning.spec
        hardware = {pool.name: _hardware(snapshot, pool.name) for pool in spec.node_pools}
        found = {name: accelerator for name, accelerator in hardware.items() if isinstance(accelerator, Accelerator)}
        model: ModelFacts | None = snapshot.status.model
        problem, waiting = None, ""
        if model is None:
            model, waiting, problem = self._look_at_model(snapshot, found)
        views = []
        for pool in spec.node_pools:
            accelerator = hardware[pool.name]
            if isinstance(accelerator, str):
                views.append(PoolView(pool.name, PoolPhase.PENDING, f"waiting: {accelerator}"))
            elif model is None:
                views.append(PoolView(pool.name, PoolPhase.PENDING, waiting, accelerator.describe()))
            else:
                look = PoolContext(snapshot, pool, accelerator, model, self._clock())
                views.append(PoolReconciler(self._dependencies, look, lambda: self._look_again(key)).carry_on())
        generation = snapshot.generation
        return TuningView(generation, spec.suspend, tuple(views), model, problem, problem_reason="ModelFetch")

    def _look_at_model(
        self, snapshot: TuningSnapshot, hardware: dict[str, Accelerator]
    ) -> tuple[ModelFacts | None, str, str | None]:
        """What the model is, or what is waited for, or what keeps it from being known."""
        work = snapshot.model_work()
        if work is None:
            if not hardware or snapshot.tuning.spec.suspend:
                return None, "waiting to look at the model", None
            self._start_model_job(snapshot, next(iter(hardware)), hardware, attempt=1)
            return None, INSPECTING_MODEL, None
        seen = observe_with_logs(
            self._objects, snapshot.namespace, work, self._clock(), self._dependencies.installation.limits
        )
        if not seen.phase.finished:
            return None, f"{INSPECTING_MODEL}: {seen.message}", None
        failure = seen.failure
        if failure is not None and failure.reason.transient and work.attempt < JOB_ATTEMPTS and hardware:
            self._start_model_job(snapshot, next(iter(hardware)), hardware, attempt=work.attempt + 1)
            return None, f"{INSPECTING_MODEL} again: {failure.message}", None
        artifact = seen.report.artifact if seen.report else None
        if failure is not None or artifact is None:
            return None, "", model_unread(snapshot.tuning.spec.model.uri, failure)
        facts = ModelFacts(
            digest=artifact.model_digest,
            config=artifact.config,
            weight_bytes=artifact.weight_bytes,
            path=artifact.path,
        )
        return facts, "", None

    def _start_model_job(
        self, snapshot: TuningSnapshot, pool_name: str, hardware: dict[str, Accelerator], attempt: int
    ) -> None:
        tuning = snapshot.tuning
        pool = next(pool for pool in tuning.spec.node_pools if pool.name == pool_name)
        pods = PoolPods(
            snapshot.namespace,
            tuning.metadata.name,
            tuning.spec,
            pool,
            hardware[pool_name],
            self._dependencies.installation,
        )
        self._objects.apply(pods.model_job(attempt, snapshot.owner()))

    def _write(self, manifest: Manifest, before: TuningStatus, view: TuningView) -> None:
        status = tuning_status(view, before, self._clock())
        telemetry.tuning_seen(manifest["metadata"]["namespace"], manifest["metadata"]["name"], status)
        if status == before:
            return
        # Told first: a crash in between tells it again under the same name, which is once.
        for news in events_of(before, status):
            self._dependencies.events.record(manifest, news)
        metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        own = {"apiVersion": TUNING.api_version, "kind": TUNING.kind, "metadata": metadata, "status": body}
        self._objects.apply_status(own)


def spec_problems(tuning: QuantizationTuning) -> list[str]:
    """What the API server cannot check, as sentences."""
    spec = tuning.spec
    problems = [*metric_problems(tuning), *setting_problems(tuning)]
    if spec.model.uri.startswith("file://"):
        problems.append(
            f"spec.model.uri: {spec.model.uri}: a folder of one machine; in a cluster use hf://, s3:// or pvc://"
        )
    if spec.artifacts is None or spec.artifacts.path:
        problems.append("spec.artifacts: name a claim (pvc) or a bucket (s3), where quantized models are kept")
    if spec.output.mode == "Git":
        problems.append("spec.output.mode: Git is not there yet; use Apply or Manifest")
    return problems


def _hardware(snapshot: TuningSnapshot, name: str) -> Accelerator | str:
    pool = next(pool for pool in snapshot.tuning.spec.node_pools if pool.name == name)
    try:
        return pool_accelerator(snapshot.nodes[name], pool.gpus_per_replica, pool.hardware, pool.env)
    except HardwareError as error:
        selector = selector_of(pool) or "any node"
        return f"{error} (nodeSelector {selector})"


def _refused(manifest: Manifest, problems: list[str]) -> TuningView:
    generation = int(manifest["metadata"].get("generation", 1))
    return TuningView(generation, suspended=False, problem="; ".join(problems))
