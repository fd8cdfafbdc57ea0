"""How long the control plane takes for a proposal without an agent, where candidates and trials are many.

python -m benchmarks.proposing --candidates 50000 --trials 1000

The space of an L40S is built from as many engine settings as make that many candidates; trials are answered by a
formula, some of them with failures. A space is built once for a pool. What follows every trial is timed whole,
as the operator does it: what the trials rule out, then the proposal.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence

from tests.builders import make_baseline, make_trial
from tests.unit.search.builders import LLAMA_8B, VLLM, model, nvidia

from haqa_contract import Configuration, FailureReason, Workload
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.api.trial import Proposal, Trial
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.observations import observations_of
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.build import build_space
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.space import SearchSpace

GOALS = Goals(
    Objective(),
    (
        Constraint.model_validate({"metric": "e2e", "max": 400}),
        Constraint.model_validate({"metric": "perplexity", "maxDegradationPercent": 5}),
    ),
)
MOST_SEQUENCES = 400
"""More of them need more memory than BF16 leaves."""


def space_of(candidates: int) -> SearchSpace:
    """Four number formats, two settings that are on or off, and as many values of two batch limits as it takes."""
    values = math.isqrt(candidates // 16)
    search = Search.model_validate(
        {
            "schemes": ["BF16", "FP8-DYNAMIC", "W8A8-INT8", "W4A16"],
            "algorithms": ["rtn"],
            "engine": {
                "max-num-seqs": [64 + 8 * step for step in range(values)],
                "max-num-batched-tokens": [4096 + 512 * step for step in range(values)],
                "async-scheduling": [True, False],
                "kv-cache-dtype": ["auto", "fp8"],
            },
            "engineDefaults": False,
        }
    )
    return build_space(search, nvidia(), model(LLAMA_8B), Workload(), VLLM, objective=GOALS.objective)


def measured(number: int, configuration: Configuration, draw: random.Random) -> Trial:
    """A trial of it, as good as a formula has it, within 3 %."""
    sequences = float(configuration.settings.get("max-num-seqs", 256))
    if number == 0:
        made = make_baseline().of(configuration)
    else:
        made = make_trial(number).of(configuration)
        if sequences > MOST_SEQUENCES and configuration.scheme == "BF16":
            return made.failed(FailureReason.ENGINE_OOM).obj()
    faster = {"BF16": 1.0, "W4A16": 1.4}.get(configuration.scheme, 1.6)
    throughput = 1000 * sequences / (1 + sequences / 128) * faster
    values = {"throughput": throughput, "e2e": 1000 * sequences / throughput, "perplexity": 8.0}
    for name, value in values.items():
        noise = 0.002 if name == "perplexity" else 0.03
        made = made.metric(name, value * draw.gauss(1, noise), margin=noise * value)
    return made.obj()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=50_000)
    parser.add_argument("--trials", type=int, default=1_000, help="on record before the first that is timed")
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    draw = random.Random(0)  # noqa: S311
    started = time.perf_counter()
    space = space_of(asked.candidates)
    print(f"space of {len(space.candidates):,} candidates built in {time.perf_counter() - started:.1f} s", flush=True)
    tried = draw.sample(space.candidates, asked.trials)
    trials = [measured(number, one, draw) for number, one in enumerate((space.baseline, *tried))]
    times = [_timed(space, trials, draw) for _ in range(1 + asked.repeats)]
    first, rest = times[0], times[1:]
    print(f"first proposal {first:.2f} s; the next {asked.repeats}: {_described(rest)}")


def _timed(space: SearchSpace, trials: list[Trial], draw: random.Random) -> float:
    """Seconds that the next proposal takes; its trial joins the others."""
    started = time.perf_counter()
    left = taught(space, trials, GOALS.constraints)
    proposal = Bayesian(GOALS).propose(left, observations_of(trials, [GOALS.objective], GOALS.constraints))
    took = time.perf_counter() - started
    assert isinstance(proposal, Proposal), proposal
    trials.append(measured(len(trials), proposal.configuration, draw))
    return took


def _described(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3f} s (median; {min(seconds):.3f} to {max(seconds):.3f} s)"


if __name__ == "__main__":
    main()
