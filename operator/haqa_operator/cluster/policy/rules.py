"""What a policy checks of a tuning, as data: `problems` reads it, `cel` writes it as the API server's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from haqa_operator.api.tuning import Budget, OutputDeployment, TuningSpec
from haqa_operator.serving.environment import VARIABLE_NAME

TAG: Final = "([:@][^/]*)?"
"""What may be behind an image's repository."""


@dataclass(frozen=True)
class Condition:
    """When a rule counts: a field is there, and is not `false`."""

    path: str


@dataclass(frozen=True)
class Listed:
    """Every value of a field is in one of the policy's lists.

    Attributes:
        value: Name of the list in the chart's values.
        path: The field.
        prefix: Written in front of it, before it is compared.
        ending: Regular expression of what may be behind an entry of the list.
        only: Regular expression of the values that are looked at.
        absent: What an entry without the field stands for; None = nothing.
        when: None = always.
        unless: Name of a value of the chart that, where it is not empty, leaves the check to the operator.
        words: Texts of words and numbers need no entry, alone or as JSON, in which each string may be in the list. A
            path, an address, the name of a model or of Python code has a character that no word here has.
    """

    value: str
    path: str
    prefix: str = ""
    ending: str = ""
    only: str | None = None
    absent: str | None = None
    when: Condition | None = None
    unless: str | None = None
    words: bool = False


@dataclass(frozen=True)
class Switched:
    """A field that is `true` only where the policy's value is."""

    value: str
    path: str


@dataclass(frozen=True)
class AtMost:
    """A number that the policy limits.

    Attributes:
        default: What the tuning means where it does not say; None = it has to say.
    """

    value: str
    path: str
    default: int | None = None
    when: Condition | None = None


Rule = Listed | Switched | AtMost

PLAIN: Final = r'([^"\\./~]|[.][0-9])*'
"""Words and numbers, without strings of JSON."""


def worded(listed: str) -> str:
    """What texts of `Listed.words` match, without anchors.

    Args:
        listed: Regular expression of what the list allows beside words and numbers; never has a quote in it.
    """
    return f'({PLAIN}("({PLAIN}|{listed})")?)*|{listed}'


_REMOTE_CODE: Final = Condition("spec.model.trustRemoteCode")
_AGENT: Final = Condition("spec.search.agent")
_URIS: Final = ("spec.model.uri", "spec.model.variants[].uri", "spec.model.adapters[].uri")
_TEMPLATE: Final = "spec.nodePools[].podTemplate"

RULES: Final[tuple[Rule, ...]] = (
    Listed("images", "spec.nodePools[].image", ending=TAG),
    Listed("env", "spec.nodePools[].env{}"),
    Listed("env", "spec.search.engine{}", only=VARIABLE_NAME),
    Listed("env", "spec.search.fixedEngine{}", only=VARIABLE_NAME),
    Listed("engineTexts", "spec.nodePools[].env{*}", words=True),
    Listed("engineTexts", "spec.search.engine{*}[]", words=True),
    Listed("engineTexts", "spec.search.fixedEngine{*}", words=True),
    *(Listed("models", path) for path in _URIS),
    *(Listed("remoteCode", path, when=_REMOTE_CODE) for path in _URIS),
    Listed("datasets", "spec.calibration.dataset"),
    Listed("datasets", "spec.evaluation.dataset"),
    Listed("datasets", "spec.workload.dataset"),
    Listed("taskPaths", "spec.evaluation.taskPath"),
    Listed("artifacts", "spec.artifacts.pvc", prefix="pvc://"),
    Listed("artifacts", "spec.artifacts.s3"),
    Listed("agentModels", "spec.search.agent.model"),
    Listed("agentEndpoints", "spec.search.agent.apiBase"),
    Listed("secrets", "spec.model.tokenSecretRef.name", unless="secretLabel"),
    Listed("secrets", "spec.search.agent.secretRef.name", unless="secretLabel"),
    Listed("secrets", f"{_TEMPLATE}.imagePullSecrets[].name", unless="secretLabel"),
    Listed("secrets", "spec.output.git.secretRef.name", unless="secretLabel"),
    Listed("gitServers", "spec.output.git.url"),
    Listed("gitServers", "spec.output.git.pullRequest.apiBase"),
    Listed("tolerations", "spec.nodePools[].tolerations[].key", absent="every taint"),
    Listed("deviceResources", "spec.nodePools[].deviceResource"),
    Listed("resourceClaimTemplates", "spec.nodePools[].resourceClaimTemplate"),
    Listed("runtimeClasses", f"{_TEMPLATE}.runtimeClassName"),
    Listed("supplementalGroups", f"{_TEMPLATE}.supplementalGroups[]"),
    Listed("priorityClasses", f"{_TEMPLATE}.priorityClassName"),
    Listed("serviceAccounts", f"{_TEMPLATE}.serviceAccountName"),
    Listed("schedulers", f"{_TEMPLATE}.schedulerName"),
    Listed("podLabels", f"{_TEMPLATE}.labels{{}}"),
    Listed("podAnnotations", f"{_TEMPLATE}.annotations{{}}"),
    Switched("adopt", "spec.output.deployment.adopt"),
    AtMost("maxTrials", "spec.budget.maxTrials", default=Budget.model_fields["max_trials"].default),
    AtMost("maxGpuHours", "spec.budget.maxGpuHours"),
    AtMost("maxAgentTokens", "spec.budget.maxAgentTokens", when=_AGENT),
    AtMost("maxParallelTrials", "spec.parallelTrials", default=TuningSpec.model_fields["parallel_trials"].default),
    AtMost(
        "maxReplicas",
        "spec.output.deployment.replicas",
        default=OutputDeployment.model_fields["replicas"].default,
    ),
)

OPEN: Final = (
    "spec.model.revision",
    "spec.model.tokenSecretRef.key",
    "spec.model.tokenSecretRef.env",
    "spec.model.trustRemoteCode",
    "spec.model.variants[].label",
    "spec.model.variants[].revision",
    "spec.model.adapters[].name",
    "spec.model.adapters[].revision",
    "spec.nodePools[].name",
    "spec.nodePools[].nodeSelector",
    "spec.nodePools[].tolerations[].operator",
    "spec.nodePools[].tolerations[].value",
    "spec.nodePools[].tolerations[].effect",
    "spec.nodePools[].tolerations[].tolerationSeconds",
    "spec.nodePools[].gpusPerReplica",
    "spec.nodePools[].costPerHour",
    "spec.nodePools[].engineVersion",
    "spec.nodePools[].hardware",
    "spec.nodePools[].podTemplate.affinity",
    "spec.nodePools[].podTemplate.resources",
    "spec.serving",
    "spec.workload.inputTokens",
    "spec.workload.outputTokens",
    "spec.workload.concurrency",
    "spec.workload.requestsPerLevel",
    "spec.workload.durationSeconds",
    "spec.workload.warmupRequests",
    "spec.workload.repeats",
    "spec.workload.requestTimeoutSeconds",
    "spec.workload.seed",
    "spec.objective",
    "spec.paretoObjectives",
    "spec.constraints",
    "spec.search.strategy",
    "spec.search.schemes",
    "spec.search.algorithms",
    "spec.search.groupSizes",
    "spec.search.quantizeHead",
    "spec.search.engine",
    "spec.search.engineDefaults",
    "spec.search.fixedEngine",
    "spec.search.agent.secretRef.key",
    "spec.search.agent.secretRef.env",
    "spec.search.agent.temperature",
    "spec.search.agent.maxTokens",
    "spec.search.agent.timeout",
    "spec.search.agent.retries",
    "spec.search.agent.notes",
    "spec.search.seed",
    "spec.search.stopAfterNoImprovement",
    "spec.search.earlyStopping",
    "spec.search.patience",
    "spec.search.minImprovementPercent",
    "spec.calibration.samples",
    "spec.calibration.sequenceLength",
    "spec.calibration.seed",
    "spec.evaluation.samples",
    "spec.evaluation.sequenceLength",
    "spec.evaluation.topLogprobs",
    "spec.evaluation.tasks",
    "spec.evaluation.taskLimit",
    "spec.evaluation.seed",
    "spec.budget.maxFailedTrials",
    "spec.budget.maxDuration",
    "spec.budget.trialTimeout",
    "spec.confirmation",
    "spec.suspend",
    "spec.queueName",
    "spec.artifacts.path",
    "spec.output.mode",
    "spec.output.target",
    "spec.output.approval",
    "spec.output.verify",
    "spec.output.onChange",
    "spec.output.deployment.name",
    "spec.output.git.branch",
    "spec.output.git.path",
    "spec.output.git.format",
    "spec.output.git.values",
    "spec.output.git.pullRequest.provider",
    "spec.output.git.pullRequest.branchPrefix",
    "spec.output.git.pullRequest.titlePrefix",
    "spec.output.git.pullRequest.labels",
    "spec.output.git.pullRequest.draft",
    "spec.output.git.author",
)
"""Fields that no rule is about, with all that is in them: they reach nothing that is not the tuning's own, or are under
the namespace's quotas, or mean nothing in a cluster. Whatever is in neither list has not been decided upon."""
