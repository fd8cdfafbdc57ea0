"""The step `measure`: is it a working model, is it accurate enough, how fast is it. Cheapest question first.

Everything goes through the served HTTP API; the engine is somebody else's process. A model that answers garbage or
misses an accuracy gate never gets the load test.
"""

from __future__ import annotations

import time
from pathlib import Path

from haqa_contract import AccuracyReport, Estimate, TrialReport, TrialRequest
from haqa_contract.engine_log.lines import setting
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.accuracy import check_gates, measure_text_accuracy
from haqa_runner.measure.adapters import measure_adapter
from haqa_runner.measure.endpoint import Endpoint, connect, keep_requests_out_of_the_log
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.machine import describe_machine
from haqa_runner.measure.prompts import PromptSource, prompt_source
from haqa_runner.measure.sanity import check_sanity
from haqa_runner.measure.tokens import ModelTokenizer, load_tokenizer
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.serve.engine import base_url

_SANITY_PROMPTS = 3
_SANITY_TOKENS = 64


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """Measures the engine that `request.engine` describes. What was measured before a failure is in the report.

    Raises:
        TrialFailure: the engine cannot be reached at all, or the request asks for what it cannot do.
    """
    return measured(request, model_folder(request), phases, progress)


def measured(request: TrialRequest, folder: Path, phases: Phases, progress: ProgressSink) -> TrialReport:
    """The same with the tokenizer of a model's folder; raises as `run`."""
    keep_requests_out_of_the_log()
    with phases.measure("overhead"):
        names = [adapter.name for adapter in request.adapters]
        endpoint = connect(base_url(request.engine), request.engine.served_model_name, names)
        tokenizer = load_tokenizer(folder)
        prompts = prompt_source(request.workload, tokenizer, endpoint.max_model_len)
    measuring = _Measuring(request, endpoint, tokenizer, prompts, phases, progress)
    try:
        measuring.sanity()
        if request.accuracy:
            measuring.accuracy()
            check_gates(request.gates, measuring.report.accuracy.metrics if measuring.report.accuracy else {})
        measuring.load()
    except TrialFailure as failure:
        return measuring.report.model_copy(update={"failure": failure.failure})
    return measuring.report


class _Measuring:
    """The parts in order, and the report that grows with them."""

    def __init__(
        self,
        request: TrialRequest,
        endpoint: Endpoint,
        tokenizer: ModelTokenizer,
        prompts: PromptSource,
        phases: Phases,
        progress: ProgressSink,
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._phases = phases
        self._progress = progress
        self.report = TrialReport(trial=request.trial, machine=describe_machine(), max_model_len=endpoint.max_model_len)

    def sanity(self) -> None:
        self._progress("sanity", 0.0, "asking the model something")
        source = iter(self._prompts.window("sanity"))
        with self._phases.measure("sanity"):
            prompts = [next(source)[:_SANITY_TOKENS] for _ in range(_SANITY_PROMPTS)]
            self._warn(check_sanity(self._endpoint, prompts))
            for name in self._endpoint.adapters:
                self._progress("sanity", 0.5, f"asking adapter {name} something")
                self._warn(check_sanity(self._endpoint.through(name), prompts))

    def accuracy(self) -> None:
        evaluation = self._request.evaluation
        with self._phases.measure("accuracy"):
            text = measure_text_accuracy(
                self._endpoint,
                evaluation,
                self._tokenizer,
                reference=self._request.reference,
                baseline=self._request.baseline,
                by_default="evaluation" in self._request.samples_by_default,
                progress=self._progress,
            )
            self._warn(text.warnings)
            self._update(accuracy=text.report)
            for name in self._endpoint.adapters:
                of_adapter = measure_adapter(self._endpoint, name, text, self._request, self._progress)
                self._warn(of_adapter.warnings)
                metrics = {**self._metrics, **of_adapter.report.metrics}
                self._update(accuracy=AccuracyReport(metrics=metrics, tokens=text.report.tokens))
            if evaluation.tasks:
                # lm-eval brings torch along: twenty seconds of imports that a trial without tasks does not need.
                from haqa_runner.measure.tasks import measure_tasks

                self._progress("accuracy", 1.0, f"tasks: {', '.join(evaluation.tasks)}")
                tasks = measure_tasks(self._endpoint, evaluation, model_folder(self._request))
                self._warn(tasks.warnings)
                report = AccuracyReport(metrics={**self._metrics, **tasks.metrics}, tokens=text.report.tokens)
                self._update(accuracy=report)

    @property
    def _metrics(self) -> dict[str, Estimate]:
        """Of accuracy, as far as they are known."""
        return dict(self.report.accuracy.metrics) if self.report.accuracy else {}

    def load(self) -> None:
        test = LoadTest(
            self._endpoint,
            self._request.workload,
            self._prompts,
            self._phases,
            gates=self._request.load_gates,
            expected_tokens_per_s=self._request.expected_tokens_per_s,
        )
        try:
            self._update(load=test.run(self._progress))
        finally:
            self._warn(tuple(test.warnings))
            if test.placement is not None:
                generator = f"{test.placement}, processes {test.processes}"
                self._update(machine={**self.report.machine, "load-generator": generator})
        if self._request.scrape_grace_s > 0:
            with self._phases.measure("overhead"):
                self._progress("overhead", 0.0, "waiting for the last scrape")
                time.sleep(self._request.scrape_grace_s)

    def _update(self, **parts: object) -> None:
        self.report = self.report.model_copy(update=parts)

    def _warn(self, warnings: tuple[str, ...]) -> None:
        self._update(warnings=self.report.warnings + warnings)


def model_folder(request: TrialRequest) -> Path:
    """Where the tokenizer is: the trial's `model` link, or what the engine was told to serve."""
    link = Path(request.directory) / "model"
    named = setting(request.engine.args, "model")
    return link if link.exists() or named is None else Path(named)
