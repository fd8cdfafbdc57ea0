"""Reconciles one tuning: reads it, decides, acts. The whole operator but for knowing when to do it.

Everything is read from the API server each time and nothing that matters is remembered, so a restart, a lost event or
the same event twice ends in the same place. Trouble with one pool becomes a condition, and the other pools go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from haqa_operator.api import NodePool, QuantizationTuning, SpecError
from haqa_operator.api.builtin_text import builtin_text_warning
from haqa_operator.api.labels import ROLLBACK_ANNOTATION
from haqa_operator.api.loading import parse_status, parse_tuning
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import PoolPhase, TuningStatus
from haqa_operator.cluster.act.answering import Question
from haqa_operator.cluster.act.answers import AnswerKeeper
from haqa_operator.cluster.act.context import PoolContext
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.model import ModelInspection, ModelInspector
from haqa_operator.cluster.act.pace import next_look_s
from haqa_operator.cluster.act.pool import PoolReconciler
from haqa_operator.cluster.build.statuses import PoolView, TuningView, tuning_status
from haqa_operator.cluster.edges import telemetry
from haqa_operator.cluster.edges.api_server import (
    APPROVAL,
    CONTROLLER_REVISION,
    JOB,
    POD,
    TRIAL,
    TUNING,
    ApiError,
    ApiRefused,
    ApiUnavailable,
)
from haqa_operator.cluster.edges.events import events_of
from haqa_operator.cluster.edges.log_context import about
from haqa_operator.cluster.edges.secret_labels import secret_problems
from haqa_operator.cluster.observe.approvals import Approval, approved
from haqa_operator.cluster.observe.pods import unix
from haqa_operator.cluster.observe.revisions import read_histories
from haqa_operator.cluster.observe.snapshot import (
    TuningSnapshot,
    owned_by,
    read_snapshot,
    selector_of,
    tuning_selector,
    work_selector,
)
from haqa_operator.cluster.policy import policy_problems
from haqa_operator.hardware.accelerators import Accelerator, HardwareError
from haqa_operator.hardware.node_labels import pool_accelerator
from haqa_operator.serving.images import EngineVersion, OldEngineError, pool_engine
from haqa_operator.tuning.preflight import metric_problems, setting_problems

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """Which tuning."""

    namespace: str
    name: str


Requeue = Callable[[Key], None]
"""Has a tuning reconciled again soon."""


@dataclass
class _Trouble:
    """What went wrong during one reconciliation and did not end it."""

    refusals: int = 0
    api_errors: list[ApiError] = field(default_factory=list)
    bugs: list[Exception] = field(default_factory=list)

    def raise_unhandled(self) -> None:
        """Bugs come out with their tracebacks; an API server that was away is tried again, each time later."""
        if self.bugs:
            raise self.bugs[0] if len(self.bugs) == 1 else ExceptionGroup("several pools failed", self.bugs)
        if self.api_errors:
            raise self.api_errors[0]


class Reconciler:
    """Calls for different tunings may run at once, for the same one they may not."""

    def __init__(self, dependencies: Dependencies, requeue: Requeue, clock: Callable[[], float] = time.time) -> None:
        self._dependencies = dependencies
        self._api = dependencies.api
        self._nodes = dependencies.nodes
        self._requeue = requeue
        self._selectors: dict[Key, tuple[Mapping[str, str], ...]] = {}
        self._clock = clock

    def reconcile(self, key: Key) -> float | None:
        """Blocks while it talks to the API server; seconds until the next call at the latest, None = it is gone.

        Raises:
            ApiError: somebody should try again in a moment.
            Exception: a bug. What could be done for other pools is done, and status is written.
        """
        with about(namespace=key.namespace, tuning=key.name), telemetry.timed(telemetry.RECONCILES):
            return self._reconcile(key)

    def _reconcile(self, key: Key) -> float | None:
        manifest = self._api.get(TUNING, key.name, key.namespace)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            telemetry.tuning_gone(key.namespace, key.name)
            self._selectors.pop(key, None)
            return None
        before = parse_status(manifest)
        keeper = self._keeper(manifest)
        policy = self._dependencies.installation.policy
        try:
            tuning = parse_tuning(manifest)
            problems = [*spec_problems(tuning), *policy_problems(tuning, policy)]
            problems = problems or secret_problems(self._api, tuning, policy, key.namespace)
        except SpecError as error:
            problems = error.problems
        if problems:
            view = _refused(manifest, before, problems, keeper)
            self._write(manifest, before, view)
            return next_look_s(view.pools, self._dependencies.installation.limits)
        self._watch_nodes(key, tuning)
        trouble = _Trouble()
        view = self._reconcile_pools(key, self._read(tuning, manifest), keeper, trouble)
        try:
            self._write(manifest, before, view)
        except ApiError as error:  # it must not hide the bugs that come out below
            trouble.api_errors.append(error)
        trouble.raise_unhandled()
        limits = self._dependencies.installation.limits
        return next_look_s(view.pools, limits, refused=bool(trouble.refusals))

    def nodes_changed(self, labels: Mapping[str, str]) -> None:
        """Has the tunings looked at of which such a node may be one of a pool's. From any thread."""
        for key, selectors in tuple(self._selectors.items()):
            if any(selector.items() <= labels.items() for selector in selectors):
                self._requeue(key)

    def _watch_nodes(self, key: Key, tuning: QuantizationTuning) -> None:
        self._selectors[key] = tuple(pool.node_selector for pool in tuning.spec.node_pools)

    def _keeper(self, manifest: Manifest) -> AnswerKeeper:
        metadata = manifest["metadata"]
        annotations = metadata.get("annotations") or {}
        records = self._api.list(CONTROLLER_REVISION, metadata["namespace"], tuning_selector(metadata["name"]))
        own = [record for record in records if owned_by(record, manifest)]
        rejected = [name.strip() for name in str(annotations.get(ROLLBACK_ANNOTATION, "")).split(",")]
        created = unix(metadata.get("creationTimestamp")) or 0.0

        def by(trial: str, decided: float) -> Approval | None:
            # What is older was said of another answer, which a trial of the same name had won.
            approvals = self._api.list(APPROVAL, metadata["namespace"])
            return approved(approvals, metadata["name"], trial, self._clock(), max(created, decided))

        return AnswerKeeper(
            self._dependencies,
            manifest,
            read_histories(own, rejected),
            by,
            self._clock(),
            lambda: self._requeue(Key(metadata["namespace"], metadata["name"])),
        )

    def _read(self, tuning: QuantizationTuning, manifest: Manifest) -> TuningSnapshot:
        namespace = manifest["metadata"]["namespace"]
        trials = self._api.list(TRIAL, namespace, tuning_selector(tuning.metadata.name))
        selector = work_selector(tuning, trials)
        nodes, unreadable = self._nodes_of(tuning)
        return read_snapshot(
            tuning,
            manifest,
            trials=trials,
            jobs=self._api.list(JOB, namespace, selector) if selector else [],
            pods=self._api.list(POD, namespace, selector) if selector else [],
            nodes=nodes,
            unreadable_nodes=unreadable,
            parse=self._dependencies.trials.read,
        )

    def _nodes_of(self, tuning: QuantizationTuning) -> tuple[dict[str, list[Manifest]], dict[str, str]]:
        """Each pool's nodes, and why those of a pool cannot be listed: a nodeSelector that is no label selector."""
        nodes, unreadable = {}, {}
        for pool in tuning.spec.node_pools:
            try:
                nodes[pool.name] = self._nodes.matching(pool.node_selector)
            except ApiRefused as error:
                nodes[pool.name], unreadable[pool.name] = [], str(error)
        return nodes, unreadable

    def _reconcile_pools(
        self, key: Key, snapshot: TuningSnapshot, keeper: AnswerKeeper, trouble: _Trouble
    ) -> TuningView:
        spec = snapshot.tuning.spec
        hardware = {pool.name: _hardware_or_bug(snapshot, pool) for pool in spec.node_pools}
        engines = {pool.name: self._engine(pool) for pool in spec.node_pools}
        served = {name: one for name, one in hardware.items() if isinstance(engines[name], EngineVersion)}
        questions = [
            Question(
                snapshot,
                pool,
                hardware[pool.name],
                engines[pool.name],
                self._dependencies.installation,
                keeper.history(pool.name).readable,
            )
            for pool in spec.node_pools
        ]
        answered = all(question.answered for question in questions)
        known = snapshot.model is not None or not answered
        inspection = self._inspect(snapshot, served, trouble, again=answered) if known else ModelInspection(None)
        views = tuple(
            self._keep(question, keeper, trouble)
            if question.answered
            else self._reconcile_pool(key, question, inspection, keeper, trouble)
            for question in questions
        )
        return TuningView(
            snapshot.generation,
            spec.suspend,
            views,
            inspection.facts,
            inspection.problem,
            problem_reason="ModelFetch",
            builtin_text=builtin_text_warning(spec),
        )

    def _keep(self, question: Question, keeper: AnswerKeeper, trouble: _Trouble) -> PoolView:
        """A pool whose answer is on record: it is applied, and nothing is searched."""
        snapshot, pool, latest = question.snapshot, question.pool.name, question.latest
        assert latest is not None
        view = PoolView(pool, PoolPhase.SUCCEEDED, unchanged=latest.answer.status)
        try:
            view = keeper.keep(view, snapshot.tuning.spec.output)
        except ApiUnavailable as error:
            trouble.api_errors.append(error)
            return PoolView.as_before(pool, snapshot.status, message=f"waiting for the API server: {error}")
        except Exception as error:  # whatever it is, the other pools go on; it is raised once they have
            return _failed_by(error, pool, snapshot, trouble)
        trouble.refusals += view.refused
        if view.answer is None:
            return view
        return replace(view, answer=view.answer.model_copy(update={"stale": question.stale}))

    def _inspect(
        self,
        snapshot: TuningSnapshot,
        hardware: Mapping[str, Accelerator | str | Exception],
        trouble: _Trouble,
        *,
        again: bool,
    ) -> ModelInspection:
        """Args:
        again: Whether it may be looked at again: nothing is being measured that would begin anew.
        """
        found = {name: one for name, one in hardware.items() if isinstance(one, Accelerator)}
        inspector = ModelInspector(self._api, self._dependencies.installation, snapshot, self._clock())
        try:
            if snapshot.model is None:
                return inspector.inspect(found)
            return ModelInspection(inspector.look_again(snapshot.model, found) if again else snapshot.model)
        except ApiUnavailable as error:
            trouble.api_errors.append(error)
            if snapshot.model is not None:
                return ModelInspection(snapshot.model)
            return ModelInspection(message=f"waiting for the API server: {error}")

    def _engine(self, pool: NodePool) -> EngineVersion | str:
        """Or why it is refused, before anything is started on the pool's nodes."""
        try:
            return pool_engine(pool, self._dependencies.installation.engine_image)
        except OldEngineError as error:
            return str(error)

    def _reconcile_pool(
        self,
        key: Key,
        question: Question,
        inspection: ModelInspection,
        keeper: AnswerKeeper,
        trouble: _Trouble,
    ) -> PoolView:
        snapshot, pool, hardware, engine = question.snapshot, question.pool, question.hardware, question.engine
        if (unread := keeper.history(pool.name).unreadable) is not None:
            return PoolView.as_before(pool.name, snapshot.status, problem=unread)
        if isinstance(hardware, Exception):
            return _failed_by(hardware, pool.name, snapshot, trouble)
        if isinstance(engine, str):
            described = hardware.describe() if isinstance(hardware, Accelerator) else ""
            return PoolView(pool.name, PoolPhase.FAILED, hardware=described, problem=engine)
        if (unread := snapshot.unreadable_trials.get(pool.name)) is not None:
            return PoolView.as_before(pool.name, snapshot.status, problem=unread)
        if isinstance(hardware, str):
            try:
                keeper.go_on_serving(pool.name)
            except ApiError as error:
                trouble.api_errors.append(error)
            return PoolView(pool.name, PoolPhase.PENDING, f"waiting: {hardware}", idle=True)
        if inspection.facts is None:
            problem = inspection.message if inspection.refused else None
            return PoolView(
                pool.name,
                PoolPhase.PENDING,
                inspection.message,
                hardware.describe(),
                problem=problem,
                refused=inspection.refused,
            )
        again, check = question.again, question.check
        context = PoolContext(snapshot, pool, hardware, inspection.facts, engine, self._clock(), again, check)
        reconciler = PoolReconciler(self._dependencies, context, keeper, lambda: self._requeue(key))
        try:
            view = reconciler.reconcile()
        except ApiUnavailable as error:
            trouble.api_errors.append(error)
            return PoolView.as_before(pool.name, snapshot.status, message=f"waiting for the API server: {error}")
        except Exception as error:  # whatever it is, the other pools go on; it is raised once they have
            return _failed_by(error, pool.name, snapshot, trouble)
        trouble.refusals += view.refused
        return view

    def _write(self, manifest: Manifest, before: TuningStatus, view: TuningView) -> None:
        status = tuning_status(view, before, self._clock())
        telemetry.tuning_seen(manifest["metadata"]["namespace"], manifest["metadata"]["name"], status)
        if status == before:
            return
        # Events first: a crash in between writes them again under the same names, which is once.
        for event in events_of(before, status):
            self._dependencies.events.record(manifest, event)
        metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        own = {"apiVersion": TUNING.api_version, "kind": TUNING.kind, "metadata": metadata, "status": body}
        self._api.apply_status(own)


def spec_problems(tuning: QuantizationTuning) -> list[str]:
    """What the API server cannot check, as sentences."""
    spec = tuning.spec
    problems = [*metric_problems(tuning), *setting_problems(tuning)]
    problems += [
        f"{field}: {uri}: a folder of one machine; in a cluster use hf://, s3:// or pvc://"
        for field, uri in spec.model.uris.items()
        if uri.startswith("file://")
    ]
    if spec.artifacts is None or spec.artifacts.path:
        problems.append("spec.artifacts: name a claim (pvc) or a bucket (s3), where quantized models are kept")
    name, pools = spec.output.deployment.name, len(spec.node_pools)
    if name is not None and pools > 1 and spec.output.mode == "Apply":
        problems.append(
            f"spec.output.deployment.name: {name}: one Deployment for {pools} node pools; leave it out, so that each "
            "gets its own, or write a tuning for each pool"
        )
    return problems


def _failed_by(bug: Exception, pool: str, snapshot: TuningSnapshot, trouble: _Trouble) -> PoolView:
    trouble.bugs.append(bug)
    problem = f"internal error: {bug!r}; the operator's log has the traceback, please report it"
    return PoolView.as_before(pool, snapshot.status, problem=problem)


def _hardware_or_bug(snapshot: TuningSnapshot, pool: NodePool) -> Accelerator | str | Exception:
    """A bug in reading one pool's nodes is raised once the other pools have gone on."""
    try:
        return _hardware(snapshot, pool)
    except Exception as error:
        return error


def _hardware(snapshot: TuningSnapshot, pool: NodePool) -> Accelerator | str:
    """What the pool's nodes have, or why that is not known."""
    if pool.name in snapshot.unreadable_nodes:
        return f"spec.nodePools: {pool.name}: nodeSelector: {snapshot.unreadable_nodes[pool.name]}"
    affinity = pool.pod_template.affinity
    nodes = [n for n in snapshot.nodes[pool.name] if affinity is None or affinity.admits(n.labels, n.name)]
    try:
        return pool_accelerator(
            nodes,
            pool.gpus_per_replica,
            pool.hardware,
            pool.env,
            resource=pool.device_resource,
            claim=pool.resource_claim_template,
        )
    except HardwareError as error:
        selector = selector_of(pool) or "any node"
        return f"{error} (nodeSelector {selector}{', podTemplate.affinity' if affinity else ''})"


def _refused(manifest: Manifest, before: TuningStatus, problems: list[str], keeper: AnswerKeeper) -> TuningView:
    """The spec cannot be carried out. What was found for an earlier one stays, in status and in service."""
    generation = int(manifest["metadata"].get("generation", 1))
    pools = tuple(_kept_as_before(pool.name, before, keeper) for pool in before.pools)
    return TuningView(generation, suspended=False, pools=pools, model=before.model, problem="; ".join(problems))


def _kept_as_before(pool: str, before: TuningStatus, keeper: AnswerKeeper) -> PoolView:
    view = PoolView.as_before(pool, before)
    try:
        if view.phase in (PoolPhase.DEPLOYING, PoolPhase.VERIFYING, PoolPhase.SUCCEEDED):
            return keeper.keep(view, None)
        keeper.go_on_serving(pool)
    except ApiError as error:
        log.warning("pool %s: what serves could not be looked at: %s", pool, error)
    return view
