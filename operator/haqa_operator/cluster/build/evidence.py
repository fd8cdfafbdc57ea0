"""An answer in Markdown: why it won, for a commit and a pull request, and its figures, for a file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from haqa_contract import Estimate
from haqa_operator.api.answer import Answer
from haqa_operator.cluster.observe.revisions import Revision

_HEADLINES = ("throughput", "totalThroughput", "requestRate", "throughputPerCost")


def summary(answer: Answer, instead_of: Revision | None = None) -> str:
    """A few lines, all of them worked out by HAQA: no word of an LLM is in it."""
    lines = [answer.reason, ""]
    if instead_of is not None:
        lines = [
            f"Answer {instead_of.number} was rolled back: {instead_of.message}",
            "",
            f"Before it: {answer.reason}",
            "",
        ]
    if answer.speedup is not None:
        how = "measured alternately with the baseline" if answer.confirmed else "by the trials, not confirmed"
        lines += [f"Speed-up: {_factor(answer.speedup)}, {how}."]
    lines += [
        f"Trial: {answer.trial}. Engine: vLLM {answer.engine_version or 'unknown'}, {answer.surroundings.engine_image}."
    ]
    lines += [f"Hardware: {answer.status.hardware or 'unknown'}. Model: {answer.surroundings.model_digest}."]
    return "\n".join(lines)


def evidence(answer: Answer) -> str:
    """The figures behind it."""
    return "\n".join(_evidence(answer)) + "\n"


def _evidence(answer: Answer) -> Iterator[str]:
    yield f"# {answer.configuration} for {answer.tuning} on {answer.pool}"
    yield ""
    yield answer.reason
    yield ""
    for note in answer.notes:
        yield f"- {note}"
    decided = datetime.fromtimestamp(answer.decided, UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = {
        "Decided": decided,
        "Trial": answer.trial,
        "Speed-up": _factor(answer.speedup) if answer.speedup else "none",
        "Confirmed": "yes, measured alternately with the baseline" if answer.confirmed else "no",
        "Hardware": answer.status.hardware or "unknown",
        "Engine": f"vLLM {answer.engine_version or 'unknown'}, {answer.surroundings.engine_image}",
        "Image as it ran": answer.surroundings.engine_image_id or "not reported",
        "Model": answer.surroundings.model_digest,
        "Artifact": answer.artifact_digest or "the checkpoint as it is",
        "Trials": f"{answer.status.trials.total}, {answer.status.trials.failed} of them failed",
        "Cost of finding out": f"{answer.status.budget_used.gpu_hours:.3g} accelerator-hours",
        "Why the search ended": answer.status.stopped or "",
    }
    yield "| | |"
    yield "|---|---|"
    for name, value in rows.items():
        yield f"| {name} | {_cell(value)} |"
    yield ""
    yield "| Metric | Value | 95 % interval |"
    yield "|---|---|---|"
    for key, measured in sorted(answer.metrics.items(), key=lambda item: (not item[0].startswith(_HEADLINES), item[0])):
        yield f"| {key} | {measured.value:.4g} | {measured.low:.4g} to {measured.high:.4g} |"


def _factor(ratio: Estimate) -> str:
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
