"""Rules that the API server checks itself, in CEL, each with the sentence that a person reads when it is broken.

They repeat the checks of the models as far as CEL can see the fields: it is blind to values that may be number, text
or boolean (`search.engine`, `fixedEngine`), which the operator checks and reports as a condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from haqa_contract import Workload
from haqa_operator.api.approval import QuantizationApproval
from haqa_operator.api.git_output import (
    BRANCH,
    NO_BRANCH,
    NO_PATH,
    PATH,
    REPOSITORY,
    VALUE,
    GitOutput,
    GitPullRequest,
    GitValues,
)
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.pod_template import (
    OWN_ANNOTATION_PREFIXES,
    OWN_ANNOTATIONS,
    OWN_LABEL_PREFIXES,
    OWN_LABELS,
    PodTemplate,
)
from haqa_operator.api.pools import NodePool
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.search_spec import ENDPOINT, AgentSpec
from haqa_operator.api.tuning import Artifacts, Budget, Output, QuantizationTuning, TuningSpec


@dataclass(frozen=True)
class Rule:
    """Attributes:
    expression: CEL, true for a valid object; `self` is the object, `oldSelf` the stored one.
    message: What to do about it.
    field: The field that an error points at, relative to the object.
    """

    expression: str
    message: str
    field: str | None = None


_STARTED = "has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase != 'Pending'"
_LEVELS = "(has(self.workload) && has(self.workload.concurrency) ? self.workload.concurrency : [1, 8])"
_SERVED = "has(self.serving) && has(self.serving.maxModelLen)"
_REQUEST = (
    "(has(self.workload) && has(self.workload.inputTokens) ? self.workload.inputTokens : 256)"
    " + (has(self.workload) && has(self.workload.outputTokens) ? self.workload.outputTokens : 128)"
)
_WINDOW = "(has(self.evaluation) && has(self.evaluation.sequenceLength) ? self.evaluation.sequenceLength : 256)"
_PERCENTILES = (
    Rule(
        "!has(self.percentile) || self.percentile in [50, 90, 95, 99]",
        "percentile is one of 50, 90, 95 and 99; leave it out for the mean",
        ".percentile",
    ),
    Rule(
        "!has(self.percentile) || (has(self.metric) && self.metric in ['ttft', 'itl', 'tpot', 'e2e'])",
        "only the latencies ttft, itl, tpot and e2e have a percentile; leave it out for other metrics",
        ".percentile",
    ),
)


def _positive(field: str) -> Rule:
    return Rule(
        f"!has(self.{field}) || duration(self.{field}) > duration('0s')",
        f"{field} leaves no time for a trial; give a positive duration such as 90m or 2h",
        f".{field}",
    )


def _fixed(field: str, why: str, same: str = "") -> Rule:
    """Args:
    same: CEL, true where it is the same as before; by default all of it is compared.
    """
    return Rule(
        f"!({_STARTED}) || {same or f'self.spec.{field} == oldSelf.spec.{field}'}",
        f"{field} cannot change once the tuning has started, since {why}; create a tuning with another name",
        f".spec.{field}",
    )


def _same_pools() -> str:
    """All but the price, which makes no measured number another."""
    fields = (str(field.alias or name) for name, field in NodePool.model_fields.items() if name != "cost_per_hour")
    same = (f"(has(p.{name}) ? has(q.{name}) && p.{name} == q.{name} : !has(q.{name}))" for name in fields)
    one = f"oldSelf.spec.nodePools.exists(q, {' && '.join(same)})"
    return f"(size(self.spec.nodePools) == size(oldSelf.spec.nodePools) && self.spec.nodePools.all(p, {one}))"


def _foreign(field: str, own: tuple[str, ...], prefixes: tuple[str, ...]) -> str:
    begins = "".join(f" && !k.startsWith('{prefix}')" for prefix in prefixes)
    return f"!has(self.{field}) || self.{field}.all(k, !(k in {list(own)}){begins})"


_VALUES = tuple(str(field.alias) for field in GitValues.model_fields.values())
_GIT_MODE = "has(self.mode) && self.mode == 'Git'"
_HELM = "has(self.format) && self.format == 'HelmValues'"

RULES: Final[dict[type[BaseModel], tuple[Rule, ...]]] = {
    QuantizationTuning: (
        Rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
            "metadata.name becomes part of the names of Deployments and Services: use at most 63 lower-case letters, "
            "digits and dashes, and no dot",
        ),
        _fixed("model", "its trials measured that model"),
        _fixed("nodePools", "its trials were measured on those nodes", _same_pools()),
    ),
    TuningSpec: (
        Rule(
            "self.nodePools.all(p, self.nodePools.exists_one(q, q.name == p.name))",
            "two node pools have the same name; give each a name of its own",
            ".nodePools",
        ),
        Rule(
            "!((has(self.objective) && has(self.objective.metric) && self.objective.metric == 'throughputPerCost')"
            " || (has(self.paretoObjectives) && self.paretoObjectives.exists(o, has(o.metric)"
            " && o.metric == 'throughputPerCost'))) || self.nodePools.all(p, has(p.costPerHour))",
            "objective throughputPerCost needs costPerHour on every node pool; add it, or choose throughput",
            ".nodePools",
        ),
        Rule(
            f"!({_SERVED}) || self.serving.maxModelLen >= {_REQUEST}",
            "serving.maxModelLen is less than one request of the workload, inputTokens (default 256) + outputTokens "
            "(default 128); raise it, or shorten the workload",
            ".serving",
        ),
        Rule(
            f"!({_SERVED}) || self.serving.maxModelLen > {_WINDOW}",
            "serving.maxModelLen has no room for evaluation.sequenceLength (default 256) and one token more; raise it, "
            "or shorten the evaluation's windows",
            ".serving",
        ),
        Rule(
            f"!has(self.constraints) || self.constraints.all(c, !has(c.concurrency) || c.concurrency in {_LEVELS})",
            "a constraint names a concurrency that is not measured; add it to workload.concurrency (default [1, 8])",
            ".constraints",
        ),
        Rule(
            f"!has(self.objective) || !has(self.objective.concurrency) || self.objective.concurrency in {_LEVELS}",
            "the objective names a concurrency that is not measured; add it to workload.concurrency (default [1, 8])",
            ".objective",
        ),
        Rule(
            f"!has(self.paretoObjectives) || self.paretoObjectives.all(o, !has(o.concurrency)"
            f" || o.concurrency in {_LEVELS})",
            "an objective names a concurrency that is not measured; add it to workload.concurrency (default [1, 8])",
            ".paretoObjectives",
        ),
        Rule(
            "!has(self.constraints) || self.constraints.all(c, !c.metric.startsWith('accuracy.')"
            " || (has(self.evaluation) && has(self.evaluation.tasks)"
            " && self.evaluation.tasks.exists(t, c.metric == 'accuracy.' + t)))",
            "a constraint is on the accuracy of a task that is not evaluated; add the task to evaluation.tasks",
            ".constraints",
        ),
        Rule(
            "!has(self.output) || !has(self.output.git) || !has(self.output.git.format)"
            " || self.output.git.format != 'HelmValues' || self.output.git.path.contains('{pool}')"
            " || size(self.nodePools) == 1",
            "output.git.path is one values file for several node pools; write {pool} in it, as values-{pool}.yaml",
            ".output",
        ),
    ),
    NodePool: (
        Rule(
            "!has(self.deviceResource) || !has(self.resourceClaimTemplate)",
            "devices come by deviceResource or by resourceClaimTemplate; give one of them",
        ),
    ),
    PodTemplate: (
        Rule(
            _foreign("labels", OWN_LABELS, OWN_LABEL_PREFIXES),
            "a label is HAQA's or Kubernetes' own (haqa.dev/…, batch.kubernetes.io/…, app.kubernetes.io/name, "
            "instance, component, managed-by and version, kueue.x-k8s.io/queue-name); leave it out",
            ".labels",
        ),
        Rule(
            _foreign("annotations", OWN_ANNOTATIONS, OWN_ANNOTATION_PREFIXES),
            "an annotation is HAQA's own (haqa.dev/…, prometheus.io/scrape, port and path) or changes a container's "
            "security; leave it out",
            ".annotations",
        ),
    ),
    Objective: _PERCENTILES,
    Constraint: (
        *_PERCENTILES,
        Rule(
            "has(self.maxDegradationPercent) || has(self.min) || has(self.max)",
            "the constraint has no limit; give min, max or maxDegradationPercent",
        ),
        Rule(
            "!has(self.maxDegradationPercent) || !(has(self.min) || has(self.max))",
            "maxDegradationPercent excludes min and max; write two constraints",
        ),
        Rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min is above max, and nothing can meet both; swap or widen them",
        ),
    ),
    AgentSpec: (
        Rule(
            f"!has(self.apiBase) || self.apiBase.matches(r'{ENDPOINT}')",
            "apiBase is not an endpoint; give http:// or https://, a host and at most a path, without a user's name, "
            "? and #",
            ".apiBase",
        ),
    ),
    Artifacts: (
        Rule(
            "(has(self.pvc) ? 1 : 0) + (has(self.s3) ? 1 : 0) + (has(self.path) ? 1 : 0) == 1",
            "artifacts are kept in one place; give exactly one of pvc, s3 and path",
        ),
    ),
    Output: (
        Rule(
            f"!({_GIT_MODE}) || has(self.git)",
            "git is missing; mode Git needs it, with url, path and secretRef",
        ),
        Rule(
            f"!has(self.git) || ({_GIT_MODE})",
            "git is for mode Git; write mode: Git, or leave git out",
            ".git",
        ),
    ),
    GitOutput: (
        Rule(
            f"self.url.matches(r'{REPOSITORY}')",
            "url is not the address of a repository; give https://host/owner/name.git or "
            "ssh://git@host/owner/name.git, and credentials in secretRef",
            ".url",
        ),
        Rule(
            f"!has(self.branch) || (self.branch.matches(r'{BRANCH}') && !self.branch.matches(r'{NO_BRANCH}'))",
            "branch is not the name of a branch; give one like main or env/production",
            ".branch",
        ),
        Rule(
            f"self.path.matches(r'{PATH}') && !self.path.matches(r'{NO_PATH}')",
            "path is not a path inside the repository; give one like apps/chat, relative to its root and without ..",
            ".path",
        ),
        Rule(
            f"!({_HELM}) || has(self.values)",
            "values is missing; format HelmValues needs it, for example values: {args: engine.args}",
        ),
        Rule(
            f"!has(self.values) || ({_HELM})",
            "values is for format HelmValues; write format: HelmValues, or leave values out",
            ".values",
        ),
        Rule(
            f"!({_HELM}) || self.path.endsWith('.yaml') || self.path.endsWith('.yml')",
            "path is not a values file; format HelmValues needs one, such as values.yaml",
            ".path",
        ),
    ),
    GitValues: (
        Rule(
            " || ".join(f"has(self.{field})" for field in _VALUES),
            "values names no value; give at least one, for example args: engine.args",
        ),
        *(
            Rule(
                f"!has(self.{field}) || self.{field}.matches(r'{VALUE}')",
                "a value is not a path into a values file; write one like engine.args or models[0].env",
                f".{field}",
            )
            for field in _VALUES
        ),
    ),
    GitPullRequest: (
        Rule(
            f"!has(self.apiBase) || self.apiBase.matches(r'{ENDPOINT}')",
            "apiBase is not an endpoint of a forge; give http:// or https://, a host and at most a path, without a "
            "user's name, ? and #",
            ".apiBase",
        ),
        Rule(
            f"!has(self.branchPrefix) || ((self.branchPrefix + 'x').matches(r'{BRANCH}')"
            f" && !(self.branchPrefix + 'x').matches(r'{NO_BRANCH}'))",
            "branchPrefix begins no name of a branch; give one like haqa/ or bots/haqa-",
            ".branchPrefix",
        ),
    ),
    Workload: (
        Rule(
            "!has(self.requestsPerLevel) || !has(self.durationSeconds)",
            "a window ends by requestsPerLevel or by durationSeconds; give one of them",
        ),
        Rule(
            "!has(self.concurrency) || self.concurrency.all(c, self.concurrency.exists_one(d, d == c))",
            "concurrency lists a level twice; leave it in once and raise repeats instead",
            ".concurrency",
        ),
    ),
    Budget: (_positive("maxDuration"), _positive("trialTimeout")),
    QuantizationApproval: (
        Rule(
            "self.spec == oldSelf.spec",
            "the spec of an approval is somebody's word and cannot change; delete the approval, and create another one",
            ".spec",
        ),
    ),
    QuantizationTrial: (
        Rule(
            "self.spec == oldSelf.spec",
            "the spec of a trial says what was measured and cannot change; delete the trial to have it measured again",
            ".spec",
        ),
        Rule(
            "!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Succeeded', 'Failed'])"
            " || self.status == oldSelf.status",
            "the status of a finished trial is a record and cannot change; delete the trial to have it measured again",
            ".status",
        ),
    ),
}
