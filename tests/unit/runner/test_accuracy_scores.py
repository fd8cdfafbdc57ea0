"""Perplexity and KL divergence from log-probabilities, against distributions that are known whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fakes.vllm_server import MODEL, Behaviour, fake_vllm

from haqa_contract import Evaluation, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.accuracy import measure_text_accuracy, summarize
from haqa_runner.measure.divergence import divergence
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.reference import load_reference, save_reference
from haqa_runner.measure.scoring import Scores, ScoringWindows, score, scoring_windows
from haqa_runner.measure.tokens import ModelTokenizer

VOCABULARY = 12
WINDOWS = ScoringWindows(tokens=((1, 2, 3, 4), (5, 6, 7, 8)), context=1)
TOKENIZER = ModelTokenizer(lambda text, special: [0] * special + [3 + ord(c) % 90 for c in text], 1, frozenset(), 93)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Address of some text to score."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"Line {number} of a text that is long enough.\n\n" for number in range(100)))
    return file.as_uri()


def scores_of(distributions: Sequence[Sequence[float]], top: int, actual: int = 0) -> Scores:
    """One window with a position for each distribution over the vocabulary, of which the `top` likeliest are seen."""
    ids, logprobs = [], []
    for probabilities in distributions:
        order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])[:top]
        ids.append([*order, -1])
        logprobs.append([*(math.log(probabilities[token]) for token in order), -math.inf])
    seen = [[math.log(probabilities[actual]) for probabilities in distributions]]
    return Scores(np.array([ids], np.int32), np.array([logprobs], np.float32), np.array(seen, np.float32))


def normalized(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def true_kl(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


distributions = st.lists(st.floats(0.01, 10), min_size=VOCABULARY, max_size=VOCABULARY).map(normalized)


@given(p=distributions, q=distributions)
def test_with_the_whole_vocabulary_the_divergence_is_the_true_one(p: list[float], q: list[float]) -> None:
    found = divergence(scores_of([p], VOCABULARY), scores_of([q], VOCABULARY))
    assert found.kl[0] == pytest.approx(true_kl(p, q), abs=1e-4)


@given(p=distributions, q=distributions, top=st.integers(1, VOCABULARY))
@example(
    # What q's list leaves is 0.0008, known to four digits only: a bound that takes it as exact lies above the truth.
    p=normalized([1.0] * 10 + [2.0, 1.0]),
    q=normalized([1.0] * 8 + [1.5, 3.5, 0.015625, 7.0]),
    top=11,
)
def test_with_fewer_tokens_it_is_a_lower_bound_and_never_below_zero(p: list[float], q: list[float], top: int) -> None:
    found = divergence(scores_of([p], top), scores_of([q], top))
    assert -1e-5 <= found.kl[0] <= true_kl(p, q) + 1e-5
    assert 0 < found.rest[0] <= 1


@given(p=distributions, top=st.integers(1, VOCABULARY))
def test_a_model_does_not_diverge_from_itself(p: list[float], top: int) -> None:
    found = divergence(scores_of([p], top), scores_of([p], top))
    assert found.kl[0] == pytest.approx(0, abs=1e-6)
    assert found.agreement[0] == 1


def test_lists_with_nothing_in_common_are_far_apart_and_not_infinitely() -> None:
    p, q = [0.90, 0.06, 0.04], [0.04, 0.06, 0.90]
    found = divergence(scores_of([p], 1), scores_of([q], 1))
    # Of the likeliest token is known that it has at most what the other list leaves: 0.1 instead of 0.9.
    assert found.kl[0] == pytest.approx(0.9 * math.log(0.9 / 0.1) + 0.1 * math.log(0.1 / 0.9), abs=1e-5)
    assert found.agreement[0] == 0


def test_a_token_that_ours_does_not_list_has_at_most_the_probability_of_our_last_one() -> None:
    p = [0.01, 0.01, 0.48, 0.5]
    q = [0.40, 0.35, 0.15, 0.1]
    found = divergence(scores_of([p], 2), scores_of([q], 2))
    assert 0.5 < found.kl[0] <= true_kl(p, q)


def test_agreement_is_the_share_of_positions_with_the_same_first_choice() -> None:
    p, q = [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]
    found = divergence(scores_of([p, p, p, q], 2), scores_of([p, q, p, q], 2))
    assert found.agreement[0] == 0.75


def test_scores_of_other_windows_do_not_compare() -> None:
    one = scores_of([[0.5, 0.5]], 1)
    with pytest.raises(ValueError, match="do not compare"):
        divergence(one, scores_of([[0.5, 0.5]] * 2, 1))


def flat(nll: Sequence[float]) -> Scores:
    """Windows of three positions, each with this mean negative log-likelihood."""
    actual = np.array([[-value] * 3 for value in nll], np.float32)
    ids = np.zeros((len(nll), 3, 2), np.int32)
    return Scores(ids, np.log(np.full(ids.shape, 0.5)).astype(np.float32), actual)


def test_perplexity_is_the_exponential_of_the_mean_with_the_interval_on_the_log_scale() -> None:
    (perplexity,) = summarize(WINDOWS, flat([1.0, 2.0, 3.0]), None).report.metrics.values()
    assert perplexity.value == pytest.approx(math.exp(2))
    assert perplexity.low * perplexity.high == pytest.approx(math.exp(4))
    assert perplexity.n == 3


def test_the_ratio_to_the_baseline_is_far_better_known_than_either_perplexity() -> None:
    texts = [1.0, 2.0, 3.0, 1.5]
    metrics = summarize(WINDOWS, flat([nll + 0.01 for nll in texts]), flat(texts)).report.metrics
    ratio, perplexity = metrics["perplexityRatio"], metrics["perplexity"]
    assert ratio.value == pytest.approx(math.exp(0.01), abs=1e-6)
    assert (ratio.high - ratio.low) / ratio.value < 0.001 < 0.5 < (perplexity.high - perplexity.low) / perplexity.value


def test_a_missing_baseline_is_said() -> None:
    accuracy = summarize(WINDOWS, flat([1.0]), None, expected_reference="/store/reference.npz")
    assert "klDivergence" not in accuracy.report.metrics
    assert "measure the baseline first" in accuracy.warnings[0]


def test_a_reference_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    where, scores = str(tmp_path / "deep" / "reference.npz"), scores_of([[0.5, 0.3, 0.2]], 2)
    assert load_reference(where, "d") is None
    save_reference(where, scores, "d")
    loaded = load_reference(where, "d")
    assert loaded is not None
    assert (loaded.ids == scores.ids).all()
    assert (loaded.logprobs == scores.logprobs).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["reference.npz"]


def test_a_reference_of_other_windows_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "reference.npz")
    save_reference(where, scores_of([[0.5, 0.5]], 1), "these windows")
    with pytest.raises(TrialFailure, match="made from other text"):
        load_reference(where, "those windows")


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04"])
def test_a_damaged_reference_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(TrialFailure, match=r"cannot be read: .*reference\.npz: "):
        load_reference(str(tmp_path / "reference.npz"), "d")


def test_windows_begin_with_what_the_model_wants_and_score_everything_else(text: str) -> None:
    windows = scoring_windows(Evaluation(samples=3, sequence_length=16, dataset=text), TOKENIZER, None)
    assert [len(window) for window in windows.tokens] == [17] * 3
    assert {window[0] for window in windows.tokens} == {0}
    assert (windows.context, windows.positions) == (1, 16)
    plain = ModelTokenizer(lambda text, special: TOKENIZER.encode(text, False), 1, frozenset(), 93)
    bare = scoring_windows(Evaluation(samples=3, sequence_length=16, dataset=text), plain, None)
    assert (bare.context, bare.positions) == (1, 15)
    assert bare.digest != windows.digest


def test_windows_are_the_same_every_time_and_others_with_another_seed(text: str) -> None:
    digests = [
        scoring_windows(Evaluation(samples=2, sequence_length=8, seed=s), TOKENIZER, None).digest for s in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_window_that_the_engine_cannot_take_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TrialFailure, match=r"sequenceLength 64 does not fit .* max-model-len 64; set it to at most 62"):
        scoring_windows(Evaluation(samples=2, sequence_length=64), TOKENIZER, 64)


def test_scores_come_from_the_engine_s_prompt_logprobs() -> None:
    with fake_vllm(Behaviour(logprob=-1.25)) as server:
        scores = score(Endpoint(server.base_url, MODEL), WINDOWS, top=2)
        assert all(request["prompt_logprobs"] == 2 for request in server.state.requests)
    assert scores.actual.shape == (2, 3)
    assert scores.window_nll.tolist() == [1.25, 1.25]
    assert set(scores.ids[..., 0].flatten().tolist()) == {3}, "the likeliest token comes first"


@pytest.mark.parametrize(
    ("behaviour", "says", "reason"),
    [
        (Behaviour(logprob=math.nan), "not a number in 2 of 2 windows", FailureReason.ACCURACY_GATE),
        (Behaviour(logprob=-math.inf), "not a number in 2 of 2 windows", FailureReason.ACCURACY_GATE),
        (
            Behaviour(refuse=lambda n: (400, "Requested prompt logprobs of 20, which is greater than max allowed: 5")),
            "check that max-logprobs is at least 2",
            FailureReason.METRICS_MISSING,
        ),
    ],
)
def test_scores_that_are_none_are_a_sentence(behaviour: Behaviour, says: str, reason: FailureReason) -> None:
    with fake_vllm(behaviour) as server, pytest.raises(TrialFailure) as caught:
        score(Endpoint(server.base_url, MODEL), WINDOWS, top=2)
    assert says in caught.value.message
    assert caught.value.reason is reason


def test_the_baseline_leaves_what_the_next_trial_is_compared_with(tmp_path: Path, text: str) -> None:
    reference = str(tmp_path / "reference.npz")
    evaluation = Evaluation(samples=2, sequence_length=8, top_logprobs=2, dataset=text)
    with fake_vllm() as server:
        endpoint = Endpoint(server.base_url, MODEL, 1024)
        first = measure_text_accuracy(endpoint, evaluation, TOKENIZER, reference=reference, baseline=True)
        server.behaviour.logprob = -2.0
        later = measure_text_accuracy(endpoint, evaluation, TOKENIZER, reference=reference, baseline=False)
    assert first.report.metrics["klDivergence"].value == pytest.approx(0, abs=1e-6)
    assert first.report.metrics["perplexityRatio"].value == 1
    assert later.report.metrics["perplexityRatio"].value == pytest.approx(math.exp(0.5))
    assert later.report.metrics["topTokenAgreement"].value == 1
    assert later.report.tokens == 16


@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_the_interval_of_perplexity_covers_the_truth(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    covered = 0
    for _ in range(100):
        perplexity = summarize(WINDOWS, flat(numbers.normal(2.0, 0.3, 12).tolist()), None).report.metrics["perplexity"]
        covered += perplexity.low <= math.exp(2.0) <= perplexity.high
    assert covered / 100 > 0.85


def test_a_text_that_is_short_is_taken_whole_where_nobody_has_named_samples(text: str) -> None:
    asked = Evaluation(samples=10_000, sequence_length=16, dataset=text)
    with pytest.raises(TrialFailure, match="10000 are asked for"):
        scoring_windows(asked, TOKENIZER, None)
    assert 16 <= len(scoring_windows(asked, TOKENIZER, None, by_default=True).tokens) < 10_000
