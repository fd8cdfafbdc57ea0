"""What an expert does who measures little: a rule of thumb, written down, as a rival.

1. The number format that is native to the hardware and halves the weights: FP8 where the space has it, else INT8 for
   weights and activations, else 4-bit weights. (Formats that the space names and HAQA does not make count by their
   bits: 8 before 4 before 16.) Where the accelerator is a choice, the newest first.
2. Everything else as most of the space has it, the engine with the best name first: TensorRT-LLM on NVIDIA, vLLM
   elsewhere; the fewest accelerators that are offered.
3. The first trial has the baseline's load. Then the next larger load that is offered if the limit was kept (two steps
   if the latency was less than half of it), the next smaller one if it was broken (two steps if by more than twice).
4. When that proposes nothing new, the next format, engine or number of accelerators, at the load that was best so far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from haqa_contract import Configuration
from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import LATENCIES
from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy, untried

_FAR = 2.0
"""Times that a latency is off its limit, from which on two steps of the load are taken at once."""

_FORMATS = ("FP8-DYNAMIC", "FP8-BLOCK", "W8A8-INT8", "W4A16", "W4A16-ASYM", "W8A16", "BF16")
_ENGINES = ("tensorrt-llm", "trt-llm", "vllm", "qserve", "deepspeed-mii", "deepspeed", "llama.cpp")
_GPUS = ("B200", "H200", "H100", "A100", "L40S", "A6000")


class ExpertRule(Strategy):
    """The rule above. Without state: the place in the rule follows from what has been tried.

    Args:
        constraints: The limits of the search; only those on latencies are reckoned with.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self._limits = [c for c in constraints if c.metric in LATENCIES and c.max is not None]

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        left = untried(space, observations)
        if not left:
            return ALL_TRIED
        groups = _groups(space)
        order = sorted(groups, key=lambda key: _preference(groups[key][0], space))
        for key in order:
            pick = self._in_group(groups[key], space, observations)
            if pick is not None and pick in left:
                why = "Rule of thumb: native 8-bit format, usual engine, the largest load that the slack allows."
                return Proposal(configuration=pick, proposer=Proposer.USER, reasoning=why)
        return Proposal(configuration=left[0], proposer=Proposer.USER, reasoning="Nothing is left of the rule.")

    def _in_group(
        self, group: Sequence[Configuration], space: SearchSpace, observations: Sequence[Observation]
    ) -> Configuration | None:
        """The load to try next among configurations that are otherwise alike; None when the rule is done with them."""
        by_load = sorted(group, key=lambda c: _load(c, space))
        seen = {o.trial.configuration: o for o in observations}
        mine = [o for o in observations if o.trial.configuration in by_load and not o.trial.is_baseline]
        if not mine:
            kept = [o for o in observations if o.score is not None and not o.violation]
            start = _load(max(kept, key=_score).trial.configuration if kept else space.baseline, space)
            return min((c for c in by_load if c not in seen), key=lambda c: abs(_load(c, space) - start), default=None)
        latest = mine[-1]
        place = by_load.index(latest.trial.configuration) + self._steps(latest)
        pick = by_load[min(max(place, 0), len(by_load) - 1)]
        return pick if pick not in seen else None

    def _steps(self, seen: Observation) -> int:
        slack = self._slack(seen) if seen.score is not None else 0.0
        steps = 2 if max(slack, 1 / slack if slack else math.inf) > _FAR else 1
        return steps if slack >= 1 else -steps

    def _slack(self, seen: Observation) -> float:
        """How many times the measured latency fits into the tightest limit."""
        metrics = seen.trial.status.metrics
        slacks = [
            c.max / metrics[str(c.key)].value for c in self._limits if str(c.key) in metrics and c.max is not None
        ]
        return min(slacks, default=math.inf)


def _score(seen: Observation) -> float:
    return seen.score if seen.score is not None else -math.inf


def _groups(space: SearchSpace) -> dict[tuple[tuple[str, str], ...], list[Configuration]]:
    """Candidates and baseline that differ in load alone."""
    groups: dict[tuple[tuple[str, str], ...], list[Configuration]] = {}
    for configuration in (space.baseline, *space.candidates):
        others = ((n, repr(v)) for n, v in configuration.parameters.items() if n not in space.load_parameters)
        groups.setdefault(tuple(sorted(others)), []).append(configuration)
    return groups


def _preference(configuration: Configuration, space: SearchSpace) -> tuple[float, ...]:
    """Small for what the rule takes first."""
    parameters = configuration.parameters
    words = " ".join(str(v).lower() for n, v in parameters.items() if n not in ("scheme", "algorithm"))
    engine = next((i for i, name in enumerate(_ENGINES) if name in words), len(_ENGINES))
    gpu = next((i for i, name in enumerate(_GPUS) if name.lower() in words), len(_GPUS))
    accelerators = sum(_number(parameters.get(name)) for name in space.accelerator_parameters)
    settings = sum(1 for name in parameters if name not in space.baseline.parameters)
    return (_format_rank(str(parameters["scheme"])), gpu, engine, accelerators, settings)


def _format_rank(scheme: str) -> float:
    if scheme in _FORMATS:
        return _FORMATS.index(scheme)
    bits = re.search(r"W(\d+)|(?:int|fp|bf)(\d+)", scheme, re.IGNORECASE)
    number = int(bits[1] or bits[2]) if bits else 16
    return {8: 2.5, 4: 3.5}.get(number, 6.5)


def _load(configuration: Configuration, space: SearchSpace) -> float:
    return math.prod(_number(configuration.parameters.get(name)) for name in space.load_parameters)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 1.0
