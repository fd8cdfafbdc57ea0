"""In place of the step `reference`, which loads the model: what the unquantized one guesses is known."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.rehearsal.accuracy import perplexity
from tests.cluster.rehearsal.checkpoints import Checkpoint

from haqa_contract import AccuracyReport, Estimate, TrialReport, TrialRequest
from haqa_runner.models import fetch_model
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.quantize.step import as_it_is, link_model

_TOKENS = 100_000


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    with phases.measure("fetch"):
        model = fetch_model(request.model, Path(request.cache), progress)
        link_model(Path(request.directory), model.path)
    value = perplexity(Checkpoint.read(model.path), "auto")
    metrics = {"perplexity": Estimate(value=value, low=value, high=value, n=1)}
    accuracy = AccuracyReport(metrics=metrics, tokens=_TOKENS)
    return TrialReport(trial=request.trial, artifact=as_it_is(model), accuracy=accuracy)
