"""Task accuracy through lm-eval, against the served engine.

Any task that lm-eval knows can be named in `evaluation.tasks`, tasks of one's own through `evaluation.taskPath`, and
those in `task_definitions/`, which need no download:

- `stdlib_cloze`: which of four lines comes next in a Python source file; 25 % is guessing.

lm-eval reaches the engine as `local-completions`, so what is judged is what would be served. A prompt may be as long
as the engine takes; what lm-eval has to cut is said.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haqa_contract import Estimate, Evaluation, FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_contract.statistics import student_t
from haqa_runner.measure.endpoint import Endpoint

DEFINITIONS = Path(__file__).with_name("task_definitions")
PREFERRED = ("acc_norm", "acc", "exact_match", "mc2", "mc1", "f1", "pass@1")
"""Which of a task's metrics stands for it: the first of these that it has, else its first one."""
_IN_FLIGHT = 8
_RETRIES = 2
_DEFAULT_LENGTH = 2048
"""For an engine that does not say how long a request it takes; lm-eval's own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskAccuracy:
    metrics: dict[str, Estimate]
    warnings: tuple[str, ...] = ()


def measure_tasks(endpoint: Endpoint, evaluation: Evaluation, model_folder: Path) -> TaskAccuracy:
    """`accuracy.<task>` of every task in `evaluation.tasks`, with a 95 % interval from lm-eval's standard error.

    Raises:
        TrialFailure: no such task (AccuracyGate: trying again is no use), or its data cannot be fetched or the engine
            does not answer it (MetricsMissing).
    """
    if evaluation.task_path is not None and not Path(evaluation.task_path).is_dir():
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"evaluation.taskPath {evaluation.task_path} is no folder; name the one that holds your task YAML files",
        )
    # Only now: with transformers and datasets behind it this takes as long as many a load test.
    import lm_eval

    from haqa_runner.measure.lm_eval_client import WatchfulCompletions

    tasks = _find(evaluation)
    try:
        client = WatchfulCompletions(
            model=endpoint.model,
            base_url=f"{endpoint.base_url}/v1/completions",
            tokenizer=str(model_folder),
            tokenizer_backend="huggingface",
            num_concurrent=_IN_FLIGHT,
            max_retries=_RETRIES,
            # One token is generated beside the prompt, and lm-eval takes one off for that as well.
            max_length=endpoint.max_model_len or _DEFAULT_LENGTH,
        )
        results = lm_eval.simple_evaluate(
            model=client,
            tasks=list(evaluation.tasks),
            task_manager=tasks,
            limit=evaluation.task_limit,
            log_samples=False,
            random_seed=evaluation.seed,
            numpy_random_seed=evaluation.seed,
            torch_random_seed=evaluation.seed,
            fewshot_random_seed=evaluation.seed,
        )
    except Exception as error:
        log.exception("lm-eval failed")
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"evaluation.tasks {', '.join(evaluation.tasks)} could not be evaluated ({cause_of(error)}); a task's "
            "data set is fetched from the hub on first use: check the network and HF_HUB_OFFLINE, or bring it in "
            "HF_HOME",
        ) from error
    metrics = {
        f"accuracy.{name}": accuracy_of(name, results["results"][name], results["n-samples"].get(name, {}))
        for name in evaluation.tasks
    }
    return TaskAccuracy(metrics, client.cut_prompts.warnings())


def accuracy_of(task: str, result: Mapping[str, Any], samples: Mapping[str, Any]) -> Estimate:
    """The metric that stands for a task, from lm-eval's `{"acc,none": 0.3, "acc_stderr,none": 0.05, ...}`.

    Raises:
        TrialFailure: the task reports no number.
    """
    values = {key.partition(",")[0]: value for key, value in result.items() if isinstance(value, int | float)}
    measured = [name for name in values if not name.endswith("_stderr") and name not in ("sample_len", "sample_count")]
    chosen = next((name for name in PREFERRED if name in measured), next(iter(measured), None))
    if chosen is None:
        raise TrialFailure(FailureReason.METRICS_MISSING, f"the task {task} reports no number: {dict(result)!r:.300}")
    count = max(1, int(samples.get("effective") or samples.get("original") or result.get("sample_len") or 1))
    value, error = float(values[chosen]), float(values.get(f"{chosen}_stderr", 0.0))
    margin = student_t(count - 1) * error if count > 1 and math.isfinite(error) else 0.0
    most = max(value, 1.0)  # a share, unless the metric is on another scale
    return Estimate(value=value, low=max(0.0, value - margin), high=min(most, value + margin), n=count)


def _find(evaluation: Evaluation) -> Any:
    """lm-eval's index of tasks. The thousands of its own are read only if one of them is asked for: that takes long."""
    from lm_eval.tasks import TaskManager

    own = [str(DEFINITIONS), *([evaluation.task_path] if evaluation.task_path is not None else [])]
    tasks = TaskManager(include_path=own, include_defaults=False)
    if set(evaluation.tasks) <= set(tasks.all_tasks):
        return tasks
    tasks = TaskManager(include_path=own)
    unknown = [name for name in evaluation.tasks if name not in tasks.all_tasks]
    if unknown:
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"evaluation.tasks names {unknown[0]!r}, which lm-eval does not know; `lm-eval ls tasks` lists its own, "
            "and those in evaluation.taskPath count too",
        )
    return tasks
