"""The artifacts that a pool's trials serve: which are there, and having the others made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from haqa_operator.api import Trial
from haqa_operator.cluster.act.context import PoolContext
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.ownership import create_owned
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.making import Making, held_hours
from haqa_operator.cluster.observe.snapshot import Work
from haqa_operator.tuning.artifacts import artifact_name
from haqa_operator.tuning.plan import PoolState

Observe = Callable[[Work], TrialObservation]


@dataclass(frozen=True)
class ArtifactMaker:
    """Lives for one reconciliation; every write may be repeated without harm."""

    dependencies: Dependencies
    context: PoolContext
    observe: Observe

    def makings(self, state: PoolState) -> dict[str, Making]:
        """Trial -> its artifact, of the unfinished trials that serve one."""
        served = {
            self._name(trial): trial.status.artifact_digest
            for trial in state.trials
            if trial.succeeded and trial.configuration.made and trial.status.artifact_digest
        }
        unfinished = (trial for trial in state.trials if not trial.status.phase.finished and trial.configuration.made)
        return {trial.name: self._making(self._name(trial), served) for trial in unfinished}

    def start(self, pods: PoolManifests, trial: Trial, attempt: int) -> None:
        """Has it made; raises NameTaken."""
        job = pods.artifact_job(trial, self._name(trial), attempt, self.context.snapshot.owner())
        create_owned(self.dependencies.api, job)

    def _making(self, name: str, served: dict[str, str]) -> Making:
        works = self.context.snapshot.artifact_work(name)
        if not works:
            return Making(name, served.get(name))
        latest = works[-1]
        seen = self.observe(latest)
        artifact = seen.report.artifact if seen.report and seen.failure is None and not seen.logs_wanted else None
        return Making(
            name,
            artifact.digest if artifact else served.get(name),
            seen,
            latest.attempt,
            latest.asked_by,
            held_hours(seen) + sum(held_hours(self.observe(earlier)) for earlier in works[:-1]),
        )

    def _name(self, trial: Trial) -> str:
        spec = self.context.spec
        return artifact_name(
            trial.configuration,
            self.context.model.digest,
            spec.calibration,
            output_head=spec.search.quantize_head,
        )
