"""Spaces, trials and observations for the agent's tests, in one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from haqa_contract import Algorithm, Configuration, Estimate, Failure, FailureReason, Scheme, Workload
from haqa_operator.agent.context import AgentContext, PromptModel
from haqa_operator.agent.messages import Completion, LLMError, Message
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Exchange, Proposal, Proposer, Trial, TrialPhase, TrialStatus
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.constraints import References
from haqa_operator.decision.observations import Observation, observation
from haqa_operator.decision.results import Exclusion
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy, untried

CONSTRAINTS = (
    Constraint(metric="perplexity", max_degradation_percent=2),
    Constraint(metric="e2e", percentile=95, concurrency=8, max=700),
)


def make_space(
    schemes: Sequence[tuple[str, str]] = (("W8A8-INT8", "smoothquant-gptq"), ("W4A16", "gptq")),
    max_num_seqs: Sequence[int | None] = (None, 64),
    **more: Sequence[Any],
) -> SearchSpace:
    """All combinations, None leaving a setting out."""
    candidates = [Configuration.of(Scheme(s), Algorithm(a)) for s, a in schemes]
    for name, values in {"max-num-seqs": max_num_seqs, **more}.items():
        candidates = [_with(candidate, name, value) for candidate in candidates for value in values]
    return SearchSpace(
        baseline=Configuration.of(),
        candidates=tuple(candidates),
        exclusions=(
            Exclusion(
                parameters={"scheme": "FP8-DYNAMIC"},
                reason="FP8 needs compute capability 8.9; this is a CPU",
                configurations=2,
            ),
        ),
    )


def _with(configuration: Configuration, name: str, value: Any) -> Configuration:
    if value is None:
        return configuration
    return configuration.model_copy(update={"engine": tuple(sorted({**configuration.settings, name: value}.items()))})


def make_large_space() -> SearchSpace:
    """160 candidates: 2 schemes, the product of three settings, and one corner that exists for W4A16 alone."""
    more: dict[str, Any] = {
        "block-size": (16, 32, 64),
        "enable-chunked-prefill": (True, False),
        "gpu-memory-utilization": (0.8, 0.95),
    }
    space = make_space(max_num_seqs=(None, 32, 64, 128, 256), **more)
    corner = make_space(schemes=(("W4A16", "gptq"),), max_num_seqs=(512,), **{"block-size": tuple(range(1, 41))})
    return SearchSpace(space.baseline, space.candidates + corner.candidates, space.exclusions)


def make_context(**changes: Any) -> AgentContext:
    values: dict[str, Any] = {
        "hardware": "Intel Xeon, 2 cores, instruction set up to avx512_vnni, 24 GiB",
        "model": PromptModel(
            name="acme/llama-200m",
            architecture="LlamaForCausalLM",
            parameters=205_000_000,
            layers=6,
            hidden_size=1536,
            dtype="bfloat16",
            weight_bytes={"BF16": 410_000_000, "W8A8-INT8": 210_000_000},
            kv_bytes_per_token={"auto": 36864},
        ),
        "engine": "vLLM 0.32.0",
        "workload": Workload(input_tokens=64, output_tokens=32, concurrency=(1, 8)),
        "objectives": (Objective(),),
        "constraints": CONSTRAINTS,
        "budget": Budget(max_trials=6, max_failed_trials=3, max_gpu_hours=2, max_agent_tokens=100_000),
        "fixed_settings": (("VLLM_CPU_KVCACHE_SPACE", 1), ("enforce-eager", True)),
        "hidden_settings": ("max-num-seqs is 256 and max-num-batched-tokens 2048 unless a candidate sets them",),
        "bandwidth_gb_s": 40.0,
        "notes": ("INT8 has vector instructions here (VNNI); INT4 weights are unpacked in software",),
    }
    return AgentContext(**{**values, **changes})


def make_trial(
    number: int,
    configuration: Configuration,
    metrics: Mapping[str, float] | None = None,
    *,
    failure: Failure | None = None,
    proposer: Proposer | None = None,
    exchanges: tuple[Exchange, ...] = (),
    expected_percent: float | None = None,
    hours: float = 0.05,
) -> Trial:
    failed = failure is not None or metrics is None
    return Trial(
        name=f"demo-cpu-{number:03d}",
        tuning="demo",
        pool="cpu",
        number=number,
        proposal=Proposal(
            configuration=configuration,
            proposer=proposer or (Proposer.BASELINE if number == 0 else Proposer.AGENT),
            exchanges=exchanges,
            expected_percent=expected_percent,
        ),
        status=TrialStatus(
            phase=TrialPhase.FAILED if failed else TrialPhase.SUCCEEDED,
            started=1000.0 + 200 * number,
            finished=1180.0 + 200 * number,
            metrics={key: Estimate(value=v, low=v, high=v, n=1) for key, v in (metrics or {}).items()},
            failure=failure,
            machine_hours=hours,
        ),
    )


def baseline_trial(space: SearchSpace) -> Trial:
    return make_trial(0, space.baseline, measured(100, 30, 203, perplexity=12.0, e2e=900))


def measured(over_all: float, one: float, eight: float, *, perplexity: float, e2e: float) -> dict[str, float]:
    return {
        "throughput": over_all,
        "throughput@1": one,
        "throughput@8": eight,
        "perplexity": perplexity,
        "e2e.p95@8": e2e,
        "ttft@1": 41.0,
        "ttft@8": 120.0,
        "itl@1": 33.0,
        "itl@8": 39.5,
    }


def engine_failure(message: str) -> Failure:
    return Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message=message)


def observe_all(trials: Sequence[Trial], constraints: Sequence[Constraint] = CONSTRAINTS) -> list[Observation]:
    return [observation(trial, Objective(), constraints, References.among(trials)) for trial in trials]


class FirstUntried(Strategy):
    """A fallback that a reader can predict."""

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        left = untried(space, observations)
        return Proposal(configuration=left[0], proposer=Proposer.BAYESIAN) if left else ALL_TRIED


@dataclass
class ScriptedModel:
    """A `LanguageModel` without a network: each reply is a text, or an error to raise."""

    replies: list[str | LLMError]
    name: str = "scripted/model"
    max_tokens: int = 2048
    truncated: bool = False
    asked: list[tuple[Message, ...]] = field(default_factory=list)
    schemas: list[Mapping[str, Any] | None] = field(default_factory=list)
    limits: list[int | None] = field(default_factory=list)

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        self.asked.append(tuple(messages))
        self.schemas.append(schema)
        self.limits.append(max_tokens)
        reply = self.replies.pop(0)
        if isinstance(reply, LLMError):
            raise reply
        return Completion(reply, 900, 60, 1.5, self.name, self.truncated)
