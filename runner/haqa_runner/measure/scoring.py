"""How likely the served model finds held-out text: one pass that perplexity and KL divergence share.

Every window goes to /v1/completions as token ids with `prompt_logprobs`, so that what is judged is the engine with its
kernels, KV-cache type and settings, not the checkpoint under another framework.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from haqa_contract import Evaluation, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.datasets import FEWEST_WINDOWS, load_texts, token_windows
from haqa_runner.measure.endpoint import Endpoint, EngineRefused
from haqa_runner.measure.tokens import ModelTokenizer
from haqa_runner.progress import ProgressSink, no_progress

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]

_IN_FLIGHT = 8
"""Windows sent at once: enough to keep an engine busy, few enough for a small one's memory."""
_TIMEOUT_S = 600.0
_NO_TOKEN = -1


@dataclass(frozen=True)
class ScoringWindows:
    """Held-out text as token ids, every window equally long; the first `context` tokens are given, not scored."""

    tokens: tuple[tuple[int, ...], ...]
    context: int

    @property
    def digest(self) -> str:
        """Two trials may be compared token by token only if this is equal."""
        return hashlib.sha256(json.dumps([self.context, self.tokens]).encode()).hexdigest()

    @property
    def positions(self) -> int:
        """Scored tokens of one window."""
        return len(self.tokens[0]) - self.context


@dataclass(frozen=True)
class Scores:
    """What a model thought of every scored position.

    Attributes:
        ids: [window, position, entry] the most likely tokens, most likely first, and the one that stood there; -1
            where an entry is not used.
        logprobs: [window, position, entry] their log-probabilities.
        actual: [window, position] log-probability of the token that stood there.
    """

    ids: Ids
    logprobs: Floats
    actual: Floats

    @property
    def window_nll(self) -> NDArray[np.float64]:
        """Mean negative log-likelihood of each window's tokens, in nats."""
        means: NDArray[np.float64] = -self.actual.astype(np.float64).mean(axis=1)
        return means


def scoring_windows(
    evaluation: Evaluation, tokenizer: ModelTokenizer, max_model_len: int | None, *, by_default: bool = False
) -> ScoringWindows:
    """The windows that `evaluation` asks for; the same for every trial of one model.

    Args:
        by_default: Nobody has named their number, so that fewer will do.

    Raises:
        TrialFailure: there is not enough text, or a window is longer than the engine takes.
    """
    prefix = tokenizer.prefix
    needed = len(prefix) + evaluation.sequence_length + 1
    if max_model_len is not None and needed > max_model_len:
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"evaluation.sequenceLength {evaluation.sequence_length} does not fit the engine's max-model-len "
            f"{max_model_len}; set it to at most {max_model_len - 1 - len(prefix)}, or raise serving.maxModelLen",
        )
    texts = load_texts(evaluation.dataset, seed=evaluation.seed, reason=FailureReason.METRICS_MISSING)
    cut = token_windows(
        texts,
        tokenizer,
        evaluation.sequence_length,
        evaluation.samples,
        evaluation.seed,
        at_least=FEWEST_WINDOWS if by_default else None,
        name=f'evaluation.dataset "{evaluation.dataset}"',
        reason=FailureReason.METRICS_MISSING,
    )
    return ScoringWindows(tuple((*prefix, *window) for window in cut), context=max(1, len(prefix)))


def score(endpoint: Endpoint, windows: ScoringWindows, top: int, progress: ProgressSink = no_progress) -> Scores:
    """Scores every window; `top` most likely tokens of each position are kept (0: only the one that stood there).

    Raises:
        TrialFailure: the engine refuses, stops answering or computes something that is no number.
    """
    count = len(windows.tokens)
    ids = np.full((count, windows.positions, top + 1), _NO_TOKEN, dtype=np.int32)
    logprobs = np.full(ids.shape, -np.inf, dtype=np.float32)
    actual = np.empty((count, windows.positions), dtype=np.float32)
    for done, (index, entries) in enumerate(_answers(endpoint, windows, top), start=1):
        _fill(ids[index], logprobs[index], actual[index], entries, windows.tokens[index][windows.context :])
        progress("accuracy", done / count, f"{done} of {count} windows")
    if not np.isfinite(actual).all():
        broken = int((~np.isfinite(actual)).any(axis=1).sum())
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"the model gives held-out text a probability that is not a number in {broken} of {count} windows; the "
            "weights or a kernel are broken for this scheme on this device",
        )
    return Scores(ids, logprobs, actual)


def _answers(endpoint: Endpoint, windows: ScoringWindows, top: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(window, the scored positions' entries) in the windows' order, a few requests ahead."""
    with endpoint.client(_TIMEOUT_S) as client, ThreadPoolExecutor(_IN_FLIGHT, "haqa-score") as pool:
        tasks = [pool.submit(_score_one, endpoint, client, window, top) for window in windows.tokens]
        try:
            for index, task in enumerate(tasks):
                yield index, task.result()[windows.context :]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _score_one(endpoint: Endpoint, client: httpx.Client, window: Sequence[int], top: int) -> list[dict[str, Any]]:
    try:
        # max_tokens 1: this vLLM refuses 0 without `echo`, and one token costs nothing next to the prompt.
        body = endpoint.complete(
            client, prompt=list(window), max_tokens=1, temperature=0, prompt_logprobs=top, detokenize=False
        )
        entries: list[dict[str, Any]] = body["choices"][0]["prompt_logprobs"]
    except (EngineRefused, KeyError, TypeError) as error:
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"the engine gives no log-probabilities of a prompt ({error}); check that max-logprobs is at least "
            f"{top} and that no setting switches prompt_logprobs off",
        ) from error
    return entries


def _fill(ids: Ids, logprobs: Floats, actual: Floats, entries: Sequence[dict[str, Any]], tokens: Sequence[int]) -> None:
    for position, (entry, token) in enumerate(zip(entries, tokens, strict=True)):
        best_first = sorted(entry.items(), key=lambda item: item[1]["rank"])[: ids.shape[-1]]
        for place, (name, value) in enumerate(best_first):
            ids[position, place] = int(name)
            logprobs[position, place] = value["logprob"]
        actual[position] = entry[str(token)]["logprob"]
