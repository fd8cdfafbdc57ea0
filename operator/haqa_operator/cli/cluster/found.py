"""A tuning as a person asks for it: its resources read, or a sentence why not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from haqa_operator.api import NodePool, QuantizationTuning
from haqa_operator.api.labels import ROLLBACK_ANNOTATION
from haqa_operator.api.loading import parse_status, parse_tuning
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.status import PoolStatus, TuningStatus
from haqa_operator.cli.cluster.connection import CommandError, Connection
from haqa_operator.cluster.build.report import build_report, build_result, comparable
from haqa_operator.cluster.edges.api_server import CONTROLLER_REVISION, TRIAL, TUNING
from haqa_operator.cluster.observe.revisions import History, read_histories
from haqa_operator.cluster.observe.snapshot import owned_by, tuning_selector
from haqa_operator.report.model import TuningReport


@dataclass(frozen=True)
class FoundTuning:
    """A tuning and its answers.

    Attributes:
        histories: Pool -> its answers.
    """

    manifest: Manifest
    histories: Mapping[str, History] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def status(self) -> TuningStatus:
        return parse_status(self.manifest)

    @property
    def pool_names(self) -> tuple[str, ...]:
        return tuple(str(pool["name"]) for pool in self.manifest["spec"]["nodePools"])

    @property
    def rejected(self) -> tuple[str, ...]:
        """Names of records that somebody does not want to be served."""
        text = str((self.manifest["metadata"].get("annotations") or {}).get(ROLLBACK_ANNOTATION, ""))
        return tuple(name for part in text.split(",") if (name := part.strip()))

    def spec(self) -> QuantizationTuning:
        """Raises SpecError: this program and the cluster do not agree on what a tuning is."""
        return parse_tuning(self.manifest)

    def pool_status(self, pool: str) -> PoolStatus:
        return next((one for one in self.status.pools if one.name == pool), PoolStatus(name=pool))

    def chosen(self, pool: str | None) -> tuple[str, ...]:
        """The pool that is meant, or all of them."""
        if pool is None:
            return self.pool_names
        if pool not in self.pool_names:
            raise CommandError(f"{self.name} has no pool {pool!r}; {_nearest(pool, self.pool_names, 'it has')}")
        return (pool,)

    def one(self, pool: str | None) -> str:
        """The pool that is meant; without a name, the only one."""
        names = self.chosen(pool)
        if len(names) > 1:
            raise CommandError(f"{self.name} has {len(names)} pools: name one with --pool {' | '.join(names)}")
        return names[0]


def find_tuning(at: Connection, name: str, *, answers: bool = True) -> FoundTuning:
    """Args:
        answers: Those on record too, which takes the right to read them.

    Raises:
        CommandError: there is none; the message has the nearest names.
    """
    manifest = at.api.get(TUNING, name, at.namespace)
    if manifest is None:
        there = [str(one["metadata"]["name"]) for one in at.api.list(TUNING, at.namespace)]
        raise CommandError(_missing("tuning", name, there, at.namespace))
    found = FoundTuning(manifest)
    if not answers:
        return found
    records = at.api.list(CONTROLLER_REVISION, at.namespace, tuning_selector(name))
    own = [record for record in records if owned_by(record, manifest)]
    return FoundTuning(manifest, read_histories(own, found.rejected))


def find_trial(at: Connection, name: str) -> QuantizationTrial:
    """Raises CommandError: there is none; the message has the nearest names."""
    manifest = at.api.get(TRIAL, name, at.namespace)
    if manifest is None:
        there = [str(one["metadata"]["name"]) for one in at.api.list(TRIAL, at.namespace)]
        raise CommandError(_missing("trial", name, there, at.namespace))
    return _read(manifest)


def trials_of(at: Connection, found: FoundTuning) -> tuple[QuantizationTrial, ...]:
    """All of the tuning's trials, those of earlier searches among them."""
    manifests = at.api.list(TRIAL, found.namespace, tuning_selector(found.name))
    return tuple(_read(one) for one in manifests if owned_by(one, found.manifest))


def report_of(
    found: FoundTuning, trials: Iterable[QuantizationTrial], now: float, like: QuantizationTrial | None = None
) -> TuningReport:
    """The report, from what is in the cluster.

    Args:
        like: Shows the pool of this trial as the search saw it that the trial is of; None: all pools as they are now.
    """
    tuning, all_trials = found.spec(), tuple(trials)
    pools = [pool for pool in tuning.spec.node_pools if like is None or pool.name == like.spec.pool]
    results = [
        build_result(tuning, pool, found.pool_status(pool.name), comparable(own, _anchor(found, pool, like)))
        for pool in pools
        if (own := [trial for trial in all_trials if trial.spec.pool == pool.name])
    ]
    latest = {pool: one.answer for pool, history in found.histories.items() if (one := history.wanted) is not None}
    return build_report(tuning, results, latest, now)


def _anchor(found: FoundTuning, pool: NodePool, like: QuantizationTrial | None) -> str | None:
    """A trial of the search that is meant."""
    if like is not None:
        return like.metadata.name
    status = found.pool_status(pool.name)
    return status.baseline or (status.best.trial if status.best else None)


def _read(manifest: Manifest) -> QuantizationTrial:
    try:
        return QuantizationTrial.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        name = manifest["metadata"]["name"]
        raise CommandError(
            f"QuantizationTrial {name}: {where}: {first['msg']}; if a newer operator has written it, upgrade this "
            "program"
        ) from None


def _missing(what: str, name: str, there: list[str], namespace: str) -> str:
    if not there:
        return f"no {what} {name!r} in namespace {namespace}, where there is none at all; is -n right?"
    return f"no {what} {name!r} in namespace {namespace}; {_nearest(name, there, 'there are')}"


def _nearest(name: str, there: Iterable[str], else_: str) -> str:
    known = sorted(there)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:10])
    return f"{else_} {shown}{f' and {len(known) - 10} more' if len(known) > 10 else ''}"
