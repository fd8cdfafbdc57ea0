"""Writes a pool's trials: the resource, its Job, how it goes and what came of it; with events for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haqa_contract import TrialReport
from haqa_operator.api import Trial, TrialPhase, TrialStatus
from haqa_operator.api.labels import POOL_LABEL, TRIAL_LABEL, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.cluster.act.context import PoolContext
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.ownership import create_owned
from haqa_operator.cluster.build.pool_manifests import HOSTNAME_LABEL, PoolManifests
from haqa_operator.cluster.edges import telemetry
from haqa_operator.cluster.edges.api_server import JOB, TRIAL
from haqa_operator.cluster.edges.events import Event
from haqa_operator.cluster.edges.log_context import about
from haqa_operator.cluster.names import job_name, label
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.making import Making, not_made, with_making
from haqa_operator.cluster.observe.snapshot import owner_reference
from haqa_operator.cluster.retries import attempt_noted, with_earlier_attempts
from haqa_operator.metrics.prometheus_series import ScrapedPod
from haqa_operator.tuning.results import trial_status


class TrialWriter:
    """Lives for one reconciliation; every write may be repeated without harm."""

    def __init__(
        self, dependencies: Dependencies, context: PoolContext, fingerprint: str, requeue: Callable[[], None]
    ) -> None:
        self._api = dependencies.api
        self._events = dependencies.events
        self._readings = dependencies.readings
        self._context = context
        self._snapshot = context.snapshot
        self._tuning = context.snapshot.tuning.metadata.name
        self._fingerprint = fingerprint
        self._requeue = requeue
        self._created: dict[str, Manifest] = {}

    def create(self, trial: Trial) -> None:
        """Raises NameTaken."""
        resource = QuantizationTrial.of(trial, self._snapshot.namespace, self._fingerprint)
        manifest = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
        manifest["metadata"] |= {
            "labels": {
                TUNING_LABEL: label(self._tuning),
                POOL_LABEL: label(self._context.pool.name),
                TRIAL_LABEL: label(trial.name),
            },
            "ownerReferences": [self._snapshot.owner()],
        }
        # Created and not applied: whoever comes second changes nothing, its proposal is lost.
        created = create_owned(self._api, manifest)
        if created is not None:
            self._created[trial.name] = created
            telemetry.proposed(trial.proposal)

    def start(
        self, pods: PoolManifests, earlier: Sequence[Trial], trial: Trial, attempt: int, artifact: str | None
    ) -> None:
        """Raises NameTaken."""
        resource = self._resource_of(trial)
        if resource is None:
            # Somebody else has made it since this began; the next reconciliation knows.
            return
        again = f" (attempt {attempt})" if attempt > 1 else ""
        by = trial.proposal.proposer.value
        what = f"trial {trial.number} on pool {trial.pool}: {trial.configuration.describe()}, chosen by {by}{again}"
        self._record_event(resource, Event("TrialStarted", what))
        hostname = self._hostname(trial, earlier)
        job = pods.trial_job(trial, earlier, attempt, owner_reference(resource), artifact, hostname)
        create_owned(self._api, job)

    def _hostname(self, trial: Trial, earlier: Sequence[Trial]) -> str | None:
        """Windows that are compared with each other run on one node, the winner's, as long as it is there."""
        winner = next((one for one in earlier if one.name == trial.proposal.confirms), None)
        nodes = self._snapshot.nodes[self._context.pool.name]
        node = next((node for node in nodes if winner is not None and node.name == winner.status.node), None)
        return node.labels.get(HOSTNAME_LABEL) if node else None

    def remove_job(self, trial: Trial, attempt: int) -> None:
        self._api.delete(JOB, job_name(trial.name, attempt), self._snapshot.namespace)

    def note_attempt(self, trial: Trial, seen: TrialObservation, number: int) -> None:
        """An attempt failed by no fault of the configuration, and the next one is due."""
        self._write(trial, attempt_noted(trial.status, seen, number, self._context.accelerator.count))

    def show_progress(self, trial: Trial, seen: TrialObservation) -> None:
        begun = {"phase": TrialPhase(seen.phase), "started": seen.scheduled or seen.started}
        self._write(trial, trial.status.model_copy(update=begun))

    def being_read(self, seen: TrialObservation) -> bool:
        """Whether Prometheus is being asked for this trial's figures."""
        return self._readings is not None and seen.pod is not None and self._readings.under_way(self._scraped(seen.pod))

    def record(
        self, trial: Trial, seen: TrialObservation, attempts: int, making: Making | None = None
    ) -> TrialStatus | None:
        """What was written for good; None while Prometheus is being read."""
        report = seen.report or TrialReport(trial=trial.name)
        finished = seen.finished or self._context.now
        read, queries, note = self._from_prometheus(report, seen, finished)
        if read is None:
            return None
        status = trial_status(
            read,
            self._context.spec.workload,
            cost_per_hour=self._context.pool.cost_per_hour,
            accelerators=self._context.accelerator.count,
            started=seen.scheduled or seen.started or finished,
            finished=finished,
            attempts=attempts,
            served=not trial.is_reference,
        )
        status = status.model_copy(update={"node": seen.node})
        if note:
            status = status.model_copy(update={"warnings": (*status.warnings, note)})
        if making is not None and making.digest is None and making.seen is not None:
            status = not_made(status)
        if making is not None:
            status = with_making(status, making, trial.name)
        status = with_earlier_attempts(status, trial.status)
        if resource := self._resource_of(trial):
            self._record_event(resource, _ended(trial, status))
        self._write(trial, status, queries)
        telemetry.trial_ended(status)
        return status

    def _resource_of(self, trial: Trial) -> Manifest | None:
        return self._created.get(trial.name) or self._snapshot.resource_of(trial.name)

    def _record_event(self, trial: Manifest, event: Event) -> None:
        """On the trial and on the tuning, where people read first."""
        with about(pool=self._context.pool.name, trial=trial["metadata"]["name"]):
            self._events.record(self._snapshot.manifest, event)
            self._events.record(trial, event, quiet=True)

    def _from_prometheus(
        self, report: TrialReport, seen: TrialObservation, finished: float
    ) -> tuple[TrialReport | None, tuple[str, ...], str | None]:
        """The report with Prometheus' figures, the queries, and a note; no report while Prometheus is being read."""
        if self._readings is None or report.load is None or seen.pod is None:
            return report, (), None
        reading = self._readings.read(self._scraped(seen.pod), report, finished, self._requeue)
        if reading is None:
            return None, (), None
        return reading.report, reading.queries, reading.note

    def _scraped(self, pod: str) -> ScrapedPod:
        return ScrapedPod(self._snapshot.namespace, pod, model=self._tuning)

    def _write(self, trial: Trial, status: TrialStatus, queries: tuple[str, ...] = ()) -> None:
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        throughput = status.metrics.get("throughput")
        if throughput is not None:
            body["throughput"] = f"{throughput.value:.4g}"
        if queries:
            body["queries"] = dict(zip(("windows", *map(str, range(1, len(queries)))), queries, strict=True))
        metadata = {"name": trial.name, "namespace": self._snapshot.namespace}
        own = {"apiVersion": TRIAL.api_version, "kind": TRIAL.kind, "metadata": metadata, "status": body}
        self._api.apply_status(own)


def _ended(trial: Trial, status: TrialStatus) -> Event:
    what = f"trial {trial.number} on pool {trial.pool} ({trial.configuration.describe()})"
    if (failure := status.failure) is not None:
        return Event("TrialFailed", f"{what}: {failure.reason.value}: {failure.message}", warning=True)
    throughput = status.metrics.get("throughput")
    measured = f"{throughput.value:.4g} output tokens/s" if throughput else "measured"
    early = f"; ended early: {status.ended_early}" if status.ended_early else ""
    return Event("TrialSucceeded", f"{what}: {measured}{early}")
