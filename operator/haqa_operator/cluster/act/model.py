"""Finds out what the model is, by a Job that fetches it and reads its configuration."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from haqa_operator.api.labels import COMPONENT_LABEL
from haqa_operator.api.status import FetchedAdapter, FetchedModel, FetchedVariant
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.ownership import NameTaken, create_owned
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.build.trial_job import spec_in_pods
from haqa_operator.cluster.decide import JOB_ATTEMPTS
from haqa_operator.cluster.edges.api_server import JOB, POD, ApiRefused, ApiServer, ApiUnavailable
from haqa_operator.cluster.edges.events import INSPECTING_MODEL
from haqa_operator.cluster.installation import Installation
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.pods import Job, unix
from haqa_operator.cluster.observe.revisions import stamp
from haqa_operator.cluster.observe.snapshot import TuningSnapshot, Work, latest_work, owned_by, tuning_selector
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.tuning.preflight import model_unread
from haqa_operator.tuning.requests import adapter_sources, model_source, variant_sources

log = logging.getLogger(__name__)

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelInspection:
    """How far it is known what the model is.

    Attributes:
        facts: None until it is.
        message: What is being waited for.
        problem: Why it will not be known before somebody changes the spec.
        refused: The Job cannot be made for any pool, as `message` says; it is tried again.
    """

    facts: FetchedModel | None = None
    message: str = ""
    problem: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class ModelInspector:
    """Lives for one reconciliation."""

    api: ApiServer
    installation: Installation
    snapshot: TuningSnapshot
    now: float

    def inspect(self, hardware: Mapping[str, Accelerator]) -> ModelInspection:
        """`hardware`: by pool, of those pools whose nodes are known; the Job runs on one of them."""
        work = self.snapshot.model_work()
        if work is None:
            if not hardware or self.snapshot.tuning.spec.suspend:
                return ModelInspection(message="waiting to inspect the model")
            return self._started(hardware, 1, INSPECTING_MODEL)
        if self._of_another_model(work):
            self.api.delete(JOB, work.name, self.snapshot.namespace)
            return ModelInspection(message="spec.model has changed: it is inspected anew")
        seen = observe_with_logs(self.api, self.snapshot.namespace, work, self.now, self.installation.limits)
        if not seen.phase.finished:
            return ModelInspection(message=f"{INSPECTING_MODEL}: {seen.message}")
        failure = seen.failure
        if failure is not None and failure.reason.transient and work.attempt < JOB_ATTEMPTS and hardware:
            return self._started(hardware, work.attempt + 1, f"{INSPECTING_MODEL} again: {failure.message}")
        return self._outcome(seen)

    def look_again(self, known: FetchedModel, hardware: Mapping[str, Accelerator]) -> FetchedModel:
        """What the model is by now, once in a while: a hub's branch moves, and files are written over.

        Where that cannot be found out, it is what was known, until the next time.

        Args:
            hardware: As of `inspect`.
        """
        every_s = self.installation.model_check_s
        if not every_s or self._pinned or self.snapshot.tuning.spec.suspend:
            return known
        looked = unix(known.looked)
        if looked is None:
            return known.model_copy(update={"looked": stamp(self.now)})
        if self.now < looked + every_s:
            return known
        try:
            return self._looked_again(known, looked, hardware)
        except ApiRefused as error:
            log.warning("the model cannot be looked at again: %s", error)
            return known

    def _looked_again(self, known: FetchedModel, looked: float, hardware: Mapping[str, Accelerator]) -> FetchedModel:
        work = self._last_look()
        if work is None:
            if hardware:
                self._started(hardware, 1, INSPECTING_MODEL)
            return known
        if (unix(work.job["metadata"].get("creationTimestamp")) or 0.0) <= looked:
            self.api.delete(JOB, work.name, self.snapshot.namespace)
            return known
        seen = observe_with_logs(self.api, self.snapshot.namespace, work, self.now, self.installation.limits)
        if not seen.phase.finished or seen.logs_wanted:
            return known
        outcome = self._outcome(seen)
        if outcome.facts is None:
            log.warning("the model cannot be looked at again: %s", outcome.problem)
            return known.model_copy(update={"looked": stamp(self.now)})
        return outcome.facts

    @property
    def _pinned(self) -> bool:
        model = self.snapshot.tuning.spec.model
        return model.uri.startswith("hf://") and _COMMIT.fullmatch(model.revision or "") is not None

    def _last_look(self) -> Work | None:
        """The Jobs of a tuning whose trials are over are not in the snapshot."""
        namespace = self.snapshot.namespace
        chosen = f"{tuning_selector(self.snapshot.tuning.metadata.name)},{COMPONENT_LABEL}=model"
        jobs = [job for job in self.api.list(JOB, namespace, chosen) if owned_by(job, self.snapshot.manifest)]
        pods = self.api.list(POD, namespace, chosen) if jobs else []
        return latest_work(jobs, pods)

    def _of_another_model(self, work: Work) -> bool:
        request = Job.read(work.job).request
        model = spec_in_pods(self.snapshot.tuning.spec).model
        if request is None:
            return False
        mount = request.model.mount
        wanted = model_source(model, mount), variant_sources(model, mount), adapter_sources(model, mount)
        return (request.model, request.variants, request.adapters) != wanted

    def _outcome(self, seen: TrialObservation) -> ModelInspection:
        artifact = seen.report.artifact if seen.report else None
        if seen.failure is not None or artifact is None:
            return ModelInspection(problem=model_unread(self.snapshot.tuning.spec.model.uri, seen.failure))
        facts = FetchedModel(
            digest=artifact.model_digest,
            facts=artifact.facts.model_dump_json(exclude_defaults=True) if artifact.facts else None,
            path=artifact.path,
            adapters=tuple(
                FetchedAdapter(name=one.name, digest=one.digest, rank=one.rank, targets=one.targets)
                for one in artifact.adapters
            ),
            variants=tuple(FetchedVariant.of(variant) for variant in artifact.variants),
            looked=stamp(self.now),
        )
        return ModelInspection(facts)

    def _started(self, hardware: Mapping[str, Accelerator], attempt: int, message: str) -> ModelInspection:
        """Starts the Job on the first pool for which the API server takes it.

        Raises:
            ApiUnavailable: it could take it for none, and may in a moment.
        """
        refusals = []
        unavailable: ApiUnavailable | None = None
        for pool, accelerator in hardware.items():
            try:
                self._start(pool, accelerator, attempt)
            except (ApiRefused, NameTaken) as error:
                refusals.append(f'on pool "{pool}": {error}')
            except ApiUnavailable as error:
                unavailable = error
            else:
                return ModelInspection(message=message)
        if unavailable is not None:
            raise unavailable
        refused = f"the Job that inspects the model cannot be made: {'; '.join(refusals)}"
        return ModelInspection(message=refused, refused=True)

    def _start(self, pool_name: str, accelerator: Accelerator, attempt: int) -> None:
        tuning = self.snapshot.tuning
        pool = next(pool for pool in tuning.spec.node_pools if pool.name == pool_name)
        manifests = PoolManifests(
            self.snapshot.namespace, tuning.metadata.name, tuning.spec, pool, accelerator, self.installation
        )
        create_owned(self.api, manifests.model_job(attempt, self.snapshot.owner()))
