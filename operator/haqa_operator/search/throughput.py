"""What vLLM reaches of a roofline: output tokens a second of a closed loop."""

from __future__ import annotations

from haqa_operator.search.cases import Case
from haqa_operator.search.roofline import Roofline

_BANDWIDTH_REACHED = 0.9
_PEAK_REACHED = 0.5
_LAYER_S = 1e-4
"""Shares of the peak rates that are reached, and time a layer takes in any case: fitted to the single-stream latencies
of Red Hat's model cards (R1-Distill 8B and 32B in three schemes on A6000, A100 and H100, vLLM 0.7.2)."""


def output_tokens_per_s(roofline: Roofline, case: Case, running: float) -> float:
    """A closed loop: every sequence takes its prompt and its steps in turn.

    Args:
        case: Its model and its workload.
        running: Sequences at once.
    """
    layers = case.model.facts.layers if case.model else 0
    step_s = roofline.usual_step_s(running) / _BANDWIDTH_REACHED + layers * _LAYER_S
    steps_s = case.workload.output_tokens * step_s
    prompts_s = running * roofline.prompt_s(case.workload.input_tokens) / _PEAK_REACHED
    return running * case.workload.output_tokens / (steps_s + prompts_s)
