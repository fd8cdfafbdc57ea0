"""The step `reference`: how good the unquantized model is, found out without serving it.

What it leaves is what a served baseline leaves of accuracy: perplexity, the distributions that others' klDivergence is
measured against, and tasks, as far as those only score text. Nothing is said of its speed.
"""

from __future__ import annotations

from pathlib import Path

from haqa_contract import AccuracyReport, FailureReason, TrialReport, TrialRequest
from haqa_contract.engine_log.lines import setting
from haqa_runner.measure.accuracy import summarize
from haqa_runner.measure.reference import save_reference
from haqa_runner.measure.scoring import scoring_windows
from haqa_runner.measure.tasks import score_tasks
from haqa_runner.measure.tokens import load_tokenizer
from haqa_runner.models import fetch_model
from haqa_runner.models.facts import model_facts
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.quantize.device import cpu_instead
from haqa_runner.quantize.step import as_it_is, link_model

NOT_SERVED = "the baseline was scored in transformers, its layers one after the other, and not served"


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """Fetches the model and scores the evaluation's text with it.

    Raises:
        TrialFailure: the model cannot be had or loaded, torch cannot use the accelerators that are here, there is no
            text, or the store cannot be written.
    """
    source, evaluation = request.model, request.evaluation
    with phases.measure("fetch"):
        model = fetch_model(source, Path(request.cache), progress)
        link_model(Path(request.directory), model.path)
    facts = model_facts(model.path, source.uri, trust_remote_code=source.trust_remote_code)
    windows = scoring_windows(
        evaluation,
        load_tokenizer(model.path),
        _longest(request) or facts.max_positions,
        by_default="evaluation" in request.samples_by_default,
    )
    beside = cpu_instead(request.accelerator, FailureReason.ENGINE_LOAD_FAILED)
    progress("load", 0.0, "loading what fits, the rest stays on disk")
    with phases.measure("load"):
        from haqa_runner.reference import offloaded
    with (
        offloaded.loaded(model.path, Path(request.directory), trust_remote_code=source.trust_remote_code) as loaded,
        phases.measure("accuracy"),
    ):
        scores = offloaded.score(loaded, windows, evaluation.top_logprobs, progress)
        if request.reference is not None:
            save_reference(request.reference, scores, windows.digest)
        text = summarize(windows, scores, scores)
        metrics, warnings = dict(text.report.metrics), (NOT_SERVED, *beside, *text.warnings)
        if evaluation.tasks:
            progress("accuracy", 1.0, f"tasks: {', '.join(evaluation.tasks)}")
            tasks = score_tasks(loaded, evaluation, model.path)
            metrics |= tasks.metrics
            warnings += tasks.warnings
    return TrialReport(
        trial=request.trial,
        artifact=as_it_is(model),
        accuracy=AccuracyReport(metrics=metrics, tokens=text.report.tokens),
        warnings=warnings,
    )


def _longest(request: TrialRequest) -> int | None:
    """What the pool's engines take, where that is a number."""
    named = setting(request.engine.args, "max-model-len")
    return int(named) if named is not None and named.isdigit() else None
