"""What was found, as Markdown to paste into an issue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from haqa_contract import Estimate
from haqa_operator.api import TrialStatus

_HEADINGS = (
    "configuration",
    "result",
    "quantize s",
    "start s",
    "tokens/s",
    "ITL ms",
    "perplexity",
    "KL",
    "what was said",
)
_SENTENCE_LIMIT = 600


@dataclass(frozen=True)
class Outcome:
    """A configuration and what came of it.

    Attributes:
        status: None where it was not run; `why` says why.
    """

    configuration: str
    status: TrialStatus | None = None
    why: str = ""

    @property
    def result(self) -> str:
        if self.status is None:
            return "not run"
        return "ok" if self.status.failure is None else f"failed: {self.status.failure.reason}"

    @property
    def failed(self) -> bool:
        return self.status is not None and self.status.failure is not None


def report(facts: Mapping[str, str], outcomes: Sequence[Outcome], kernels: Sequence[str], seconds: float) -> str:
    """The whole text.

    Args:
        facts: Device, driver and versions.
        kernels: Names of Triton's kernels that were compiled while quantizing.
        seconds: That all of it took.
    """
    ran = [outcome for outcome in outcomes if outcome.status is not None]
    failed = sum(outcome.failed for outcome in ran)
    everywhere = _said_everywhere(ran)
    lines = [
        f"### HAQA GPU check: {len(ran) - failed} of {len(ran)} configurations ok, {seconds:.0f} s",
        "",
        *(f"- {name}: {_cell(value)}" for name, value in facts.items()),
        f"- Triton kernels compiled while quantizing: {', '.join(f'`{name}`' for name in kernels) or 'none'}",
        *(f"- in every row: {_cell(text)}" for text in everywhere),
        "",
        _line(_HEADINGS),
        _line(["---"] * len(_HEADINGS)),
        *(_line(_cells(outcome, everywhere)) for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


def _said_everywhere(ran: Sequence[Outcome]) -> list[str]:
    """Warnings of all that came to an end, in their order."""
    ended = [outcome.status.warnings for outcome in ran if outcome.status is not None and not outcome.failed]
    return [text for text in ended[0] if all(text in warnings for warnings in ended)] if len(ended) > 1 else []


def _cells(outcome: Outcome, everywhere: Sequence[str]) -> list[str]:
    status = outcome.status
    if status is None:
        return [outcome.configuration, outcome.result, *[""] * 6, _cell(outcome.why)]
    seconds, metrics = status.phase_seconds, status.metrics
    said = [status.failure.message] if status.failure else []
    said += [text for text in status.warnings if text not in everywhere]
    return [
        outcome.configuration,
        outcome.result,
        _seconds(seconds, "quantize"),
        _seconds(seconds, "load"),
        _figure(metrics.get("throughput")),
        _figure(metrics.get("itl")),
        _figure(metrics.get("perplexity")),
        _figure(metrics.get("klDivergence")),
        _cell(" ".join(said)),
    ]


def _seconds(phases: Mapping[str, float], name: str) -> str:
    return f"{phases[name]:.0f}" if name in phases else ""


def _figure(estimate: Estimate | None) -> str:
    """The mean of the windows, and the half of its interval where there were several."""
    if estimate is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.value:.4g}" + (f" ± {half:.2g}" if half else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """On one line, and no cell of its own."""
    words = " ".join(text.split()).replace("|", "\\|")
    return words if len(words) <= _SENTENCE_LIMIT else f"{words[:_SENTENCE_LIMIT]}…"
