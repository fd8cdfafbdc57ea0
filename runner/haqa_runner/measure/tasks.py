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
from collections.abc import Iterator, Mapping, Sequence
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
_SCORED_AT_ONCE = 16
"""Texts in one pass of a model that may have to be read from disk for it."""
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
    _check_folder(evaluation)
    # Only now: with transformers and datasets behind it this takes as long as many a load test.
    from haqa_runner.measure.lm_eval_client import WatchfulCompletions

    tasks = _find(evaluation)
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
    metrics = _evaluated(client, evaluation.tasks, evaluation, tasks)
    return TaskAccuracy(metrics, client.cut_prompts.warnings())


def score_tasks(model: Any, evaluation: Evaluation, model_folder: Path) -> TaskAccuracy:
    """The same of a model in transformers that may lie on disk, of those tasks that only score text.

    Writing an answer reads the whole model for every token of it: such tasks are left out, with a warning.

    Raises:
        TrialFailure: as `measure_tasks`.
    """
    _check_folder(evaluation)
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tasks = _find(evaluation)
    writing = [name for name in evaluation.tasks if _writes(name, tasks)]
    scoring = [name for name in evaluation.tasks if name not in writing]
    warnings = tuple(
        f"accuracy.{name} of the baseline is not known: the task has answers written, which takes too long for a model "
        "that is not served; give its constraint a min"
        for name in writing
    )
    if not scoring:
        return TaskAccuracy({}, warnings)
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    client = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=_SCORED_AT_ONCE)
    return TaskAccuracy(_evaluated(client, scoring, evaluation, tasks), warnings)


def _evaluated(client: Any, names: Sequence[str], evaluation: Evaluation, tasks: Any) -> dict[str, Estimate]:
    import lm_eval

    try:
        results = lm_eval.simple_evaluate(
            model=client,
            tasks=list(names),
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
            f"evaluation.tasks {', '.join(names)} could not be evaluated ({cause_of(error)}); a task's "
            "data set is fetched from the hub on first use: check the network and HF_HUB_OFFLINE, or bring it in "
            "HF_HOME",
        ) from error
    return {
        f"accuracy.{name}": accuracy_of(name, results["results"][name], results["n-samples"].get(name, {}))
        for name in names
    }


def _writes(name: str, tasks: Any) -> bool:
    """Whether any part of a task or group of tasks has answers generated."""
    from lm_eval.tasks import get_task_dict

    return any(task.OUTPUT_TYPE == "generate_until" for task in _flat(get_task_dict([name], tasks)))


def _flat(found: Mapping[Any, Any]) -> Iterator[Any]:
    for task in found.values():
        if isinstance(task, Mapping):
            yield from _flat(task)
        else:
            yield task


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


def _check_folder(evaluation: Evaluation) -> None:
    if evaluation.task_path is not None and not Path(evaluation.task_path).is_dir():
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"evaluation.taskPath {evaluation.task_path} is no folder; name the one that holds your task YAML files",
        )


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
