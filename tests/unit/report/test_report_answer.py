"""The top of the page: what to run, what it gains, what it costs."""

import pytest
from tests import sample_results
from tests.builders import make_baseline, make_trial, make_tuning

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_operator.api import Proposer
from haqa_operator.api.goals import Objective
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.report.answer import Answer, Tile, Tone, build_answer
from haqa_operator.report.model import TuningReport


def answer_of(report: TuningReport, pool: int = 0) -> Answer:
    return build_answer(report, report.pools[pool])


def tile(answer: Answer, label: str) -> Tile:
    (found,) = [tile for tile in answer.tiles if tile.label == label]
    return found


def test_winner_is_named_with_its_gain_its_interval_and_how_it_was_measured() -> None:
    answer = answer_of(sample_results.winner())
    assert answer.headline == "Serve W8A8-INT8/rtn, VLLM_CPU_OMP_THREADS_BIND=0-1, enforce-eager=False"
    assert answer.sentences[0] == (
        "It reaches 2.44× the throughput of the unquantized model with vLLM's own settings "
        "(95 % interval 2.40× to 2.49×), measured alternately with it over 5 rounds."
    )
    speedup = tile(answer, "Speed-up")
    assert (speedup.value, speedup.tone) == ("2.44×", Tone.GOOD)


def test_loss_of_accuracy_is_given_with_the_interval_of_the_paired_measurement() -> None:
    answer = answer_of(sample_results.winner())
    assert answer.sentences[1] == (
        "Perplexity on text that it has never seen is 0.71 % higher than the baseline's "
        "(95 % interval +0.57 % to +0.85 %); lower is better."
    )
    assert tile(answer, "Perplexity").details == (
        "95 % interval +0.57 % to +0.85 %",
        "12.35, baseline 12.26",
        "limit: at most 2 % worse than the baseline",
    )


def test_cost_of_searching_and_of_serving_is_given_where_the_price_is_known() -> None:
    answer = answer_of(sample_results.winner())
    assert tile(answer, "Price of a million output tokens").value == "0.104"
    cost = tile(answer, "Cost of finding out")
    assert cost.value == "9 min 40 s"
    assert cost.details == (
        "of machine time",
        "8 trials, 2 failed",
        "about 0.0193 in your currency",
        "26,672 agent tokens",
    )


def test_no_price_is_made_up() -> None:
    labels = [tile.label for tile in answer_of(sample_results.two_pools()).tiles]
    assert "Price of a million output tokens" not in labels


def test_baseline_best_is_an_answer_and_says_what_came_closest() -> None:
    answer = answer_of(sample_results.baseline_best())
    assert answer.verdict is Verdict.BASELINE_BEST
    assert answer.headline == "Keep the unquantized model with vLLM's own settings"
    assert tile(answer, "Best other configuration").details[-1] == "W8A8-INT8/rtn"
    assert "larger than the measured noise and than 3 %" in answer.sentences[-2]
    assert "built-in text" in answer.sentences[-1], "once, at the end"


def test_nothing_feasible_names_the_limit_that_decided_and_how_close_anything_came() -> None:
    answer = answer_of(sample_results.nothing_feasible())
    assert answer.headline == "No configuration keeps the limits"
    assert answer.sentences[0] == (
        "5 of 6 measured configurations break a limit (Time to first token, 95th percentile, 32 in flight: at most "
        "150 ms); the closest, trial 3, has 295.6 ms."
    )
    assert "The baseline breaks a limit itself." in answer.sentences
    assert tile(answer, "Keep every limit").value == "0 of 6"
    assert tile(answer, "TTFT p95 @32").value == "295.6 ms"


def test_no_measurement_gives_the_failure_and_its_remedy() -> None:
    answer = answer_of(sample_results.no_measurement())
    assert answer.headline == "Nothing could be measured"
    assert "MambaFormerForCausalLM" in answer.sentences[0]
    assert tile(answer, "EngineLoadFailed").value == "1 trial"


def test_a_search_that_goes_on_is_said_to() -> None:
    assert answer_of(sample_results.one_trial()).preliminary
    assert not answer_of(sample_results.winner()).preliminary


def test_a_tie_with_something_faster_is_explained() -> None:
    answer = answer_of(sample_results.tie())
    assert answer.headline == "Serve W8A8-INT8/rtn, VLLM_CPU_OMP_THREADS_BIND=0-1"
    assert any("of such a tie the simpler configuration is chosen" in sentence for sentence in answer.sentences)


def test_latency_as_objective_is_shorter_not_more() -> None:
    report = sample_results.winner()
    spec = report.tuning.spec.model_copy(update={"objective": Objective(metric="ttft", percentile=95)})
    tuning = report.tuning.model_copy(update={"spec": spec})
    answer = answer_of(report.model_copy(update={"tuning": tuning}))
    assert "time to first token, 95th percentile is 2.44× shorter than that of" in answer.sentences[0]


def test_winner_without_a_baseline_claims_no_speedup() -> None:
    report = sample_results.winner()
    decision = report.pools[0].decision.model_copy(update={"speedup": None})
    pool = report.pools[0].model_copy(update={"decision": decision, "confirmation": None})
    answer = answer_of(report.model_copy(update={"pools": (pool,)}))
    assert answer.sentences[0] == "There is no baseline to compare it with, so no speed-up can be given."
    assert tile(answer, "Speed-up").value == "–"


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_every_sample_has_an_answer_in_whole_sentences(name: str) -> None:
    report = sample_results.SAMPLES[name]()
    for result in report.pools:
        answer = build_answer(report, result)
        assert answer.headline
        assert answer.tiles
        assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in answer.sentences)


def _with_published(own: float, published: float) -> Answer:
    """A report whose trials are the baseline, one of HAQA's own and one published checkpoint."""
    theirs = Configuration(scheme=Scheme.NVFP4, algorithm=Algorithm.PUBLISHED, variant="nvidia@abc")
    trials = (
        make_baseline().throughput(100, 1).obj(),
        make_trial(1).tried("W4A16", "gptq").throughput(own, 1).obj(),
        make_trial(2).of(theirs).throughput(published, 1).obj(),
    )
    tuning = make_tuning().obj()
    decision = decide(trials, tuning.spec.objectives, (), 3.0)
    result = PoolResult(pool="here", hardware="a GPU", trials=trials, decision=decision, stopped="the budget is spent")
    return answer_of(TuningReport(tuning=tuning, pools=(result,), command="haqa tune", created=0))


@pytest.mark.parametrize(
    ("own", "published", "verdict", "ratio"),
    [(200, 150, "is better than", "1.33×"), (150, 200, "loses to", "0.75×"), (150, 151, "is as good as", "0.99×")],
)
def test_what_haqa_made_is_compared_with_what_is_published(
    own: float, published: float, verdict: str, ratio: str
) -> None:
    (sentence,) = [one for one in _with_published(own, published).sentences if "published checkpoint" in one]
    start = f"The best that HAQA made, W4A16/gptq, {verdict} the best published checkpoint, NVFP4/published (nvidia) ("
    assert sentence.startswith(start + ratio)


def not_served(*measured: tuple[str, float]) -> Answer:
    """The answer of a pool whose baseline was scored and not served."""
    scored = make_baseline().metric("perplexity", 10.0).obj()
    kept = scored.proposal.model_copy(update={"proposer": Proposer.REFERENCE, "note": "it takes 131 GiB"})
    trials = [scored.model_copy(update={"proposal": kept})]
    for number, (scheme, throughput) in enumerate(measured, start=1):
        trials.append(
            make_trial(number).tried(scheme).metric("throughput", throughput).metric("perplexity", 10.1).obj()
        )
    tuning = make_tuning().obj()
    decision = decide(trials, (Objective(),), (), 0)
    result = PoolResult(pool="here", hardware="an H100", stopped="done", trials=tuple(trials), decision=decision)
    return build_answer(TuningReport(tuning=tuning, pools=(result,), command="haqa tune", created=0), result)


def test_where_the_baseline_was_not_served_it_is_said_what_is_compared_with_what() -> None:
    answer = not_served(("W8A8-INT8", 100.0), ("W4A16", 200.0))
    assert "2.00× the throughput of W8A8-INT8/rtn, the first that could be served (trial 1)" in answer.sentences[0]
    assert "The unquantized model cannot be served here (it takes 131 GiB)" in answer.sentences[0]
    assert "trial 1 100" in " ".join(tile(answer, "Throughput").details)


def test_the_first_that_was_served_has_no_speed_up() -> None:
    answer = not_served(("W8A8-INT8", 100.0))
    assert answer.sentences[0] == (
        "The unquantized model cannot be served here (it takes 131 GiB); this is the first configuration that could "
        "be, so that there is no speed-up to give."
    )
