"""Results of tunings as they look in practice, for tests of the report and for looking at it.

Numbers are made up around measured ones (a 2-core CPU machine with its instruction set capped or not, an L40S); the
decisions are the real ones, made from them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from tests.builders import TuningBuilder, make_tuning
from tests.sample_pools import CPU, L40S, STARTED, PoolSample, Sample

from haqa_contract import Configuration, Failure, FailureReason
from haqa_operator.api import Proposer, QuantizationTuning
from haqa_operator.api.trial import Exchange
from haqa_operator.decision.results import Exclusion, PoolResult
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.report.model import TuningReport
from haqa_operator.serving.deployment import Provenance, build_deployment, build_service, deployment_name, render_yaml
from haqa_operator.serving.images import engine_image
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.pod import EnginePod
from haqa_operator.serving.volumes import MODEL_MOUNT, ClaimVolume


def _of(scheme: str, algorithm: str, **engine: Any) -> Configuration:
    return Configuration.of(scheme, algorithm, **engine)


def _tuning(name: str, ttft_ms: float = 1000) -> TuningBuilder:
    return (
        make_tuning(name)
        .model("file:///models/demo")
        .workload(inputTokens=64, outputTokens=128, concurrency=[1, 8, 32])
        .constraint("perplexity", maxDegradationPercent=2)
        .constraint("ttft", percentile=95, concurrency=32, max=ttft_ms)
        .search(
            schemes=["W8A8-INT8", "W4A16", "FP8-DYNAMIC"],
            engine={"VLLM_CPU_OMP_THREADS_BIND": ["auto", "0-1"], "enforce-eager": [True, False]},
        )
    )


FP8_SLOW = Exclusion(
    parameters={"scheme": "NVFP4"},
    reason="NVFP4 needs an accelerator; on CPU vLLM 0.32.0 has no kernel for it",
    configurations=8,
)
W8A16_UNSERVED = Exclusion(
    parameters={"scheme": "W8A16"},
    reason="vLLM 0.32.0 has no CPU kernel for 8-bit weights with 16-bit activations",
    configurations=4,
)
GROUPS = Exclusion(
    parameters={"scheme": "W4A16", "group-size": 128},
    reason="model.layers.*.mlp.down_proj has 704 columns, which 128 does not divide; 64 and 32 do",
    configurations=4,
)

BASELINE = Sample(
    Configuration.of(),
    (52, 203, 215),
    reasoning="The unquantized model with the engine's defaults: what everything else is compared with.",
)

_EXCHANGE = Exchange(
    prompt_hash="9f8a4c" * 10 + "abcd",
    model="openai/gpt-5",
    prompt_tokens=3120,
    completion_tokens=214,
    latency_seconds=4.2,
    reply='{"candidate": 7, "reasoning": "…"}',
)

CPU_SAMPLES = [
    BASELINE,
    Sample(
        _of("W8A8-INT8", "rtn"),
        (84, 324, 318),
        1.0071,
        212,
        Proposer.AGENT,
        "The machine has AVX512 VNNI, so INT8 matrix products run at twice the rate of BF16 ones. Decoding is bound by "
        "memory bandwidth and INT8 halves the weights: expect about 1.6 times the throughput at every level.",
        quantize_s=2.4,
        exchanges=(_EXCHANGE,),
    ),
    Sample(
        _of("W4A16", "gptq"),
        (29, 112, 116),
        1.031,
        128,
        Proposer.AGENT,
        "Quarter-size weights could help the single stream if dequantizing is cheap here. One trial tells.",
        quantize_s=16.5,
        exchanges=(_EXCHANGE,),
        failure=Failure(
            reason=FailureReason.ACCURACY_GATE,
            message="perplexity is 12.64, +3.1 % against the baseline's 12.26, where 2 % worse is allowed; "
            "the load test was left out",
        ),
    ),
    Sample(
        _of("W8A8-INT8", "rtn", VLLM_CPU_OMP_THREADS_BIND="0-1"),
        (72, 370, 515),
        1.0071,
        212,
        Proposer.AGENT,
        "vLLM reserves one of the two cores for its API server. Binding the workers to both gives up a little latency "
        "at one stream and should nearly double the rate at 32.",
        exchanges=(_EXCHANGE,),
    ),
    Sample(
        _of("FP8-DYNAMIC", "rtn"),
        (9, 31, 33),
        1.0102,
        212,
        Proposer.BAYESIAN,
        note="the agent proposed candidate 99, which is not in the list; after one repair round bayesian proposed this",
        quantize_s=2.1,
        exchanges=(
            _EXCHANGE,
            _EXCHANGE.model_copy(update={"error": "candidate 99 does not exist; the list has 0 to 23"}),
        ),
    ),
    Sample(
        _of("W8A8-INT8", "smoothquant-gptq", VLLM_CPU_OMP_THREADS_BIND="0-1"),
        (72.4, 371, 512),
        1.0042,
        212,
        Proposer.AGENT,
        "Same kernels as trial 3, so the same speed; GPTQ and smoothing should halve the loss of accuracy.",
        quantize_s=31,
        exchanges=(_EXCHANGE,),
    ),
    Sample(
        _of("W8A8-INT8", "rtn", VLLM_CPU_OMP_THREADS_BIND="0-1", **{"enforce-eager": False, "max-num-seqs": 512}),
        (),
        1.0071,
        212,
        Proposer.AGENT,
        "Compilation removes Python overhead per step, which matters most for a model this small.",
        failure=Failure(
            reason=FailureReason.ENGINE_OOM,
            message="the engine was killed while compiling: it asked for 25.1 GiB where the machine has 24; lower "
            "VLLM_CPU_KVCACHE_SPACE or leave enforce-eager on",
            log_tail=("INFO compiling graph for size 512", "WARNING memory 98 %", "Killed"),
        ),
        exchanges=(_EXCHANGE,),
    ),
    Sample(
        _of("W8A8-INT8", "rtn", VLLM_CPU_OMP_THREADS_BIND="0-1", **{"enforce-eager": False}),
        (101, 470, 690),
        1.0071,
        212,
        Proposer.AGENT,
        "The failure was about memory for 512 sequences; with vLLM's default number it fits.",
        exchanges=(_EXCHANGE,),
        warnings=("repeat 2 at 8 in flight: engine and load generator disagreed by 12 %; measured again",),
    ),
]


def _report(tuning: QuantizationTuning, pools: Iterable[PoolSample]) -> TuningReport:
    samples = list(pools)
    results = tuple(sample.result() for sample in samples)
    manifests = {
        result.pool: text
        for sample, result in zip(samples, results, strict=True)
        if (text := manifest_of(result, sample.accelerator))
    }
    return TuningReport(
        tuning=tuning,
        pools=results,
        command=f"haqa tune examples/{tuning.metadata.name}.yaml",
        created=STARTED + 4000,
        versions={"haqa": "0.1.0", "vllm": "0.32.0", "llmcompressor": "0.14.0.1", "torch": "2.13.0", "python": "3.11"},
        manifests=manifests,
    )


def manifest_of(result: PoolResult, accelerator: Accelerator) -> str:
    """The winner's manifests; empty without a winner."""
    winner = next((trial for trial in result.trials if trial.name == result.decision.winner), None)
    if winner is None:
        return ""
    launch = engine_launch(winner.configuration, accelerator, model_path=MODEL_MOUNT, served_model_name="demo")
    pod = EnginePod(launch, accelerator, engine_image(accelerator), ClaimVolume("haqa-artifacts", "sha256-3fa1"))
    source, name = Provenance.of(winner), deployment_name(winner.tuning, winner.pool)
    return render_yaml([build_deployment(pod, source, name=name), build_service(pod, source, name=name)])


@cache
def winner() -> TuningReport:
    """A CPU machine on which INT8 with both cores and compilation wins by a lot."""
    tuning = _tuning("demo").on_pool("this-machine", costPerHour=0.12).obj()
    exclusions = (FP8_SLOW, W8A16_UNSERVED, GROUPS)
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=CPU_SAMPLES, exclusions=exclusions)])


@cache
def baseline_best() -> TuningReport:
    """Nothing beats the unquantized model by more than the noise."""
    tuning = _tuning("careful").on_pool("this-machine").obj()
    samples = [
        BASELINE,
        replace(CPU_SAMPLES[1], throughput=(52.4, 206, 214), proposer=Proposer.BAYESIAN, exchanges=(), reasoning=""),
        replace(CPU_SAMPLES[4], exchanges=(), note=None),
        replace(CPU_SAMPLES[2], exchanges=(), proposer=Proposer.BAYESIAN, reasoning=""),
    ]
    note = "no agent is configured (search.agent); bayesian proposes"
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=samples, agent_note=note, candidates=6)])


@cache
def tie() -> TuningReport:
    """Two configurations within the noise of each other; the faster one had to be calibrated."""
    tuning = _tuning("tie").on_pool("this-machine").obj()
    samples = [CPU_SAMPLES[0], CPU_SAMPLES[3], CPU_SAMPLES[5]]
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=samples, candidates=2)])


@cache
def hostile() -> TuningReport:
    """An agent, a failure and a log that try to break out of the page or into the terminal."""
    tuning = _tuning("hostile").on_pool("this-machine").obj()
    text = (
        '<script>alert("agent")</script> \x1b[31m[red]not markup[/red] </blockquote><img id="injected" src=x '
        "onerror=alert(1)> </script><script>alert(1)</script> {{ 7 * 7 }} <!-- \"quoted\" 'single'"
    )
    exclusion = Exclusion(parameters={"scheme": text}, reason=text)
    samples = [
        BASELINE,
        replace(CPU_SAMPLES[1], reasoning=text, note=text, warnings=(text,)),
        replace(CPU_SAMPLES[3], configuration=_of("W8A8-INT8", "rtn", **{"chat-template": text})),
        replace(CPU_SAMPLES[6], failure=Failure(reason=FailureReason.TIMEOUT, message=text, log_tail=(text,))),
    ]
    pool = PoolSample(tuning, "this-machine", samples=samples, exclusions=(exclusion,), stopped=text, agent_note=text)
    report = _report(tuning, [pool])
    return report.model_copy(update={"command": text, "spec_yaml": text, "versions": {text: text}})


@cache
def nothing_feasible() -> TuningReport:
    """Every trial misses the latency limit; the baseline too."""
    tuning = (
        make_tuning("strict")
        .workload(inputTokens=64, outputTokens=128, concurrency=[1, 8, 32])
        .constraint("perplexity", maxDegradationPercent=0.5)
        .constraint("ttft", percentile=95, concurrency=32, max=150)
        .on_pool("this-machine")
        .obj()
    )
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=CPU_SAMPLES[:6], exclusions=(FP8_SLOW,))])


@cache
def no_measurement() -> TuningReport:
    """The model cannot be served at all."""
    tuning = _tuning("broken").on_pool("this-machine").obj()
    failure = Failure(
        reason=FailureReason.ENGINE_LOAD_FAILED,
        message="vLLM 0.32.0 does not know the architecture MambaFormerForCausalLM of this model; "
        "see `vllm serve --help` for supported models, or update the engine image",
        log_tail=("ValueError: Model architectures ['MambaFormerForCausalLM'] are not supported for now.",),
    )
    samples = [replace(BASELINE, failure=failure, throughput=())]
    stopped = f"the baseline cannot be served: {failure.reason}: {failure.message}"
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=samples, stopped=stopped)])


@cache
def two_pools() -> TuningReport:
    """The same model on two node types with two different winners."""
    tuning = (
        _tuning("two-node-types", ttft_ms=9000)
        .on_pool("avx512")
        .on_pool("avx2", env={"ONEDNN_MAX_CPU_ISA": "AVX2"})
        .obj()
    )
    capped = [
        replace(BASELINE, throughput=(20, 21, 18)),
        replace(CPU_SAMPLES[1], throughput=(3.2, 22, 58)),
        Sample(_of("W4A16", "gptq"), (28, 95, 105), 1.012, 128, Proposer.BAYESIAN, quantize_s=16),
        Sample(_of("W4A16", "rtn"), (28, 96, 104), 1.016, 128, Proposer.BAYESIAN, quantize_s=2),
        replace(CPU_SAMPLES[4], throughput=(2.1, 9, 11), exchanges=()),
    ]
    return _report(
        tuning,
        [
            PoolSample(tuning, "avx512", samples=CPU_SAMPLES, exclusions=(FP8_SLOW,)),
            PoolSample(tuning, "avx2", replace(CPU, isa="avx2"), capped, seed=3),
        ],
    )


@cache
def one_of_two_pools() -> TuningReport:
    """One node type has a winner; on the other the engine dies."""
    tuning = _tuning("half").on_pool("avx512").on_pool("avx2").obj()
    failure = Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message="the engine's worker ended by SIGILL")
    broken = [replace(BASELINE, failure=failure, throughput=())]
    return _report(
        tuning,
        [
            PoolSample(tuning, "avx512", samples=CPU_SAMPLES, exclusions=(FP8_SLOW,)),
            PoolSample(tuning, "avx2", samples=broken, stopped="the baseline cannot be served"),
        ],
    )


@cache
def one_trial() -> TuningReport:
    """Only the baseline so far, and the search has not ended."""
    tuning = _tuning("just-begun").on_pool("this-machine").obj()
    return _report(tuning, [PoolSample(tuning, "this-machine", samples=[BASELINE], stopped="")])


@cache
def forty_trials() -> TuningReport:
    """A long search on a GPU, by an agent whose texts are not to be trusted."""
    tuning = (
        make_tuning("llama-3-8b-on-l40s")
        .model("hf://meta-llama/Llama-3.1-8B-Instruct")
        .workload(inputTokens=512, outputTokens=256, concurrency=[1, 16, 64, 256], repeats=3)
        .constraint("perplexity", maxDegradationPercent=1.5)
        .constraint("itl", percentile=95, concurrency=64, max=60)
        .having(evaluation={"tasks": ["arc_easy"]})
        .on_pool("l40s", costPerHour=1.9)
        .obj()
    )
    rng = random.Random(7)
    schemes = {"FP8-DYNAMIC": (1.55, 1.002, 8400), "W8A8-INT8": (1.5, 1.006, 8600), "W4A16": (1.35, 1.012, 5600)}
    samples = [replace(BASELINE, throughput=(46, 640, 1900, 3100), size_mib=15300)]
    for _ in range(39):
        scheme, (gain, loss, size) = rng.choice(sorted(schemes.items()))
        seqs, tokens = rng.choice((64, 128, 256, 512)), rng.choice((2048, 8192))
        settings = {"max-num-seqs": seqs, "max-num-batched-tokens": tokens, "enable-prefix-caching": rng.random() < 0.5}
        factor = gain * (0.75 + 0.25 * min(seqs, 256) / 256) * rng.uniform(0.97, 1.03)
        rates = [r * f for r, f in zip((46, 640, 1900, 3100), (gain * 1.1, factor, factor, factor * 0.9), strict=True)]
        samples.append(
            Sample(
                _of(scheme, rng.choice(("rtn", "gptq")), **settings),
                tuple(rates),
                loss * rng.uniform(0.998, 1.004),
                size,
                Proposer.AGENT,
                '<script>alert("agent")</script> More sequences fill the batch; </pre><img src=x onerror=alert(1)> '
                "the limit on the time between tokens still has 20 % to spare. " * 3,
                failure=_sometimes(rng),
                quantize_s=rng.choice((0, 140, 420)),
                exchanges=(_EXCHANGE,),
            )
        )
    stopped = "budget.maxTrials 39 is used up"
    return _report(
        tuning, [PoolSample(tuning, "l40s", L40S, samples, 0.008, exclusions=(FP8_SLOW, GROUPS), stopped=stopped)]
    )


def _sometimes(rng: random.Random) -> Failure | None:
    if rng.random() > 0.1:
        return None
    return Failure(reason=FailureReason.TIMEOUT, message="the trial took longer than budget.trialTimeout 20m")


SAMPLES: dict[str, Callable[[], TuningReport]] = {
    "winner": winner,
    "baseline-best": baseline_best,
    "tie": tie,
    "hostile": hostile,
    "nothing-feasible": nothing_feasible,
    "no-measurement": no_measurement,
    "two-pools": two_pools,
    "one-of-two-pools": one_of_two_pools,
    "one-trial": one_trial,
    "forty-trials": forty_trials,
}
"""By name."""
