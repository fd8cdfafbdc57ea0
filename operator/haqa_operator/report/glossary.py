"""The words that a report uses, for readers who know none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One word and what it means.

    Attributes:
        key: Where it is linked from.
        short: One sentence, shown beside the word.
    """

    key: str
    title: str
    short: str


TERMS: tuple[Term, ...] = (
    Term(
        "baseline",
        "Baseline",
        "The model as it was given, with vLLM's own settings, measured first; everything is compared with it.",
    ),
    Term(
        "configuration",
        "Configuration",
        "A number format for the model's weights and activations, how it was found, and the vLLM settings.",
    ),
    Term("trial", "Trial", "One configuration, made, served and measured."),
    Term(
        "throughput",
        "Throughput",
        "Output tokens per second, all requests together. Over several levels: their geometric mean.",
    ),
    Term("concurrency", "Concurrency", "How many requests are in flight at once, kept constant during a measurement."),
    Term("at", "@8", "Measured with 8 requests in flight. Latencies without it are those of the slowest level."),
    Term("ttft", "TTFT", "Time to first token: from sending a request to the first piece of the answer."),
    Term("itl", "ITL", "Inter-token latency: the time between two pieces of an answer; what reading along feels like."),
    Term("tpot", "TPOT", "Time per output token after the first, averaged over each request."),
    Term("e2e", "E2E", "The time of a whole request, first byte to last."),
    Term("percentile", "p95", "95 of 100 requests were at least this fast."),
    Term(
        "perplexity",
        "Perplexity",
        "How surprised the model is by text it has never seen; lower is better. Quantizing usually raises it a little.",
    ),
    Term(
        "kl",
        "KL divergence",
        "How far the predicted next-token probabilities moved from the baseline's; 0 means not at all.",
    ),
    Term(
        "agreement",
        "Same most likely token",
        "How often the most likely next token is the one that the baseline finds most likely.",
    ),
    Term("accuracy", "Accuracy", "Share of a task's questions that were answered correctly."),
    Term(
        "interval",
        "95 % interval",
        "Repeated measurements differ a little; the true mean lies in this range with 95 % confidence.",
    ),
    Term("constraint", "Limit", "A constraint of the tuning: what a configuration has to keep to be chosen."),
    Term(
        "front",
        "Pareto front",
        "The configurations that no other beats in both directions: going faster from there costs accuracy.",
    ),
    Term("W8A8-INT8", "W8A8-INT8", "Weights and activations as 8-bit integers."),
    Term("W4A16", "W4A16", "Weights as 4-bit integers with one scale per group; activations stay 16-bit."),
    Term("W8A16", "W8A16", "Weights as 8-bit integers; activations stay 16-bit."),
    Term("FP8-DYNAMIC", "FP8", "Weights and activations as 8-bit floating point."),
    Term("NVFP4", "NVFP4, MXFP4", "4-bit floating point with one scale per block of 16 or 32 values."),
    Term("BF16", "BF16", "16-bit floating point: the model as it was published."),
    Term("rtn", "rtn", "Plain rounding to the nearest value."),
    Term("gptq", "gptq", "Rounds weight by weight and corrects the rest for the error made, guided by sample text."),
    Term(
        "smoothquant", "smoothquant", "Moves outliers from activations into weights first, so that both round better."
    ),
    Term("awq", "awq", "Scales up the weights that matter most to the activations before rounding."),
    Term("agent", "Agent", "A language model that read all earlier results and proposed the next configuration."),
    Term("bayesian", "Bayesian search", "A statistical model of the results so far proposed the next configuration."),
)

_BY_KEY = {term.key: term for term in TERMS}


def explain(key: str) -> str:
    """The sentence behind a term; empty for a word that is none."""
    term = _BY_KEY.get(key)
    return term.short if term else ""
