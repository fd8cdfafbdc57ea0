"""The answer for one pool in words and a handful of numbers: what to run, what it gains, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from haqa_contract import Algorithm, Estimate
from haqa_operator.api.builtin_text import builtin_text_warning
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import LATENCIES, RATES, MetricKey
from haqa_operator.api.pools import NodePool
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.bindings import Binding, bindings
from haqa_operator.decision.constraints import measured
from haqa_operator.decision.evidence import Evidence, Judged
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.report import wording
from haqa_operator.report.model import TuningReport


class Tone(StrEnum):
    GOOD = "good"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True)
class Tile:
    """One number of the answer.

    Attributes:
        details: Lines below it: interval, comparison, limit.
        term: Key of the glossary's word for it.
    """

    label: str
    value: str
    details: tuple[str, ...] = ()
    tone: Tone = Tone.PLAIN
    term: str = ""


@dataclass(frozen=True)
class Answer:
    """What the top of a pool's section says.

    Attributes:
        badge: The verdict in two or three words.
        headline: What to do, in one line.
        sentences: Why, each one complete in itself.
    """

    verdict: Verdict
    badge: str
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    preliminary: bool = False


@dataclass(frozen=True)
class _Case:
    spec: TuningSpec
    pool: NodePool | None
    result: PoolResult
    evidence: Evidence
    winner: Judged | None = field(default=None)

    @property
    def objective(self) -> Objective:
        return self.spec.objectives[0]

    @property
    def baseline(self) -> Judged | None:
        return self.evidence.baseline

    def against(self, key: MetricKey, trial: Trial) -> str:
        """`baseline 12.3`, or `trial 1 12.3` where the baseline was not served; empty for that one itself."""
        other = self.evidence.against(key)
        if other is None or other is trial:
            return ""
        return f"{other.called.removeprefix('the ')} {wording.value_text(key, measured(other, key))}"


def build_answer(report: TuningReport, result: PoolResult) -> Answer:
    """The answer for one pool of the report."""
    evidence = report.evidence(result)
    winner = next((item for item in evidence.judged if item.trial.name == result.decision.winner), None)
    case = _Case(report.spec_of(result), report.pool_spec(result), result, evidence, winner)
    badge, headline, sentences, tiles = _PARTS[result.decision.verdict](case)
    return Answer(
        result.decision.verdict,
        badge,
        headline,
        tuple(filter(None, (*sentences, _text_sentence(case)))),
        (*tiles, *_search_tiles(case)),
        preliminary=not result.stopped,
    )


def _text_sentence(case: _Case) -> str | None:
    warning = builtin_text_warning(case.spec)
    return f"{warning[0].upper()}{warning[1:]}." if warning else None


_Parts = tuple[str, str, list[str], list[Tile]]


def _winner_parts(case: _Case) -> _Parts:
    winner = case.winner
    if winner is None:
        return "Winner", "The winning trial is not in this report", [case.result.decision.reason], []
    sentences = [_gain_sentence(case), *_accuracy_sentences(case, winner.trial), _limits_sentence(case, winner)]
    sentences += [_published_sentence(case), _length_sentence(winner.trial)]
    best = case.evidence.best([item for item in case.evidence.feasible if not item.trial.is_baseline] or [winner])
    if best is not winner:
        sentences.append(
            f"Trial {best.trial.number} measured better still, but not by more than the noise; "
            "of such a tie the simpler configuration is chosen."
        )
    if case.result.decision.binding:
        sentences.append(f"Something faster was measured, but it breaks a limit: {case.result.decision.binding}.")
    tiles = [_speedup_tile(case), _objective_tile(case, winner.trial), *_accuracy_tiles(case, winner.trial)]
    tiles += [*_latency_tiles(case, winner.trial), *_serving_cost_tiles(case, winner.trial)]
    return "Winner", f"Serve {winner.trial.configuration.describe()}", sentences, tiles


def _baseline_parts(case: _Case) -> _Parts:
    tiles = [] if case.winner is None else [_objective_tile(case, case.winner.trial)]
    others = [item for item in case.evidence.feasible if not item.trial.is_baseline]
    if others and case.baseline is not None and case.baseline.score is not None:
        best = case.evidence.best(others)
        ratio = case.evidence.compare(best, case.baseline).ratio
        details = (wording.ratio_interval_text(ratio), best.trial.configuration.describe())
        tiles.append(Tile("Best other configuration", wording.ratio_text(ratio), _lines(*details), term="interval"))
    tiles.append(_kept_tile(case))
    percent = case.spec.search.min_improvement_percent
    sentences = [case.result.decision.reason]
    if others:
        sentences.append(f"A gain counts when it is larger than the measured noise and than {percent:g} %.")
    sentences.append(_published_sentence(case))
    if case.winner is not None:
        sentences.append(_length_sentence(case.winner.trial))
    return "Baseline is best", f"Keep {_reference(case)}", sentences, tiles


def _nothing_feasible_parts(case: _Case) -> _Parts:
    tiles = [_kept_tile(case)]
    ranked = bindings(case.evidence)
    for binding in ranked[:2]:
        if binding.closest is not None:
            judged, finding = binding.closest
            limit = f"the closest; the limit is {wording.limit_text(binding.constraint)}"
            details = (limit, judged.trial.configuration.describe())
            title = wording.metric_title(binding.constraint.key, short=True)
            tiles.append(Tile(title, finding.achieved, details, Tone.BAD, term="constraint"))
    sentences = [_binding_sentence(case, binding) for binding in ranked[:2]] or [case.result.decision.reason]
    if case.baseline is not None and case.baseline.broken:
        sentences.append("The baseline breaks a limit itself.")
    helpful = next((binding for binding in ranked if binding.admits is not None), None)
    if helpful is not None:
        sentences.append(
            f"Without one limit there would be something to choose ({wording.constraint_text(helpful.constraint)}). "
            "Loosen it, or give the search more schemes, settings or trials."
        )
    elif ranked:
        sentences.append("No single limit is to blame: every trial breaks at least two, or has no result to choose by.")
    return "Nothing fits", "No configuration keeps the limits", sentences, tiles


def _no_measurement_parts(case: _Case) -> _Parts:
    failures = Counter(t.status.failure.reason.value for t in case.result.trials if t.status.failure)
    tiles = [Tile(reason, wording.count_text(n, "trial"), tone=Tone.BAD) for reason, n in failures.most_common(3)]
    return "No result", "Nothing could be measured", [case.result.decision.reason], tiles


_PARTS = {
    Verdict.WINNER: _winner_parts,
    Verdict.BASELINE_BEST: _baseline_parts,
    Verdict.NOTHING_FEASIBLE: _nothing_feasible_parts,
    Verdict.NO_MEASUREMENT: _no_measurement_parts,
}


# Sentences


def _binding_sentence(case: _Case, binding: Binding) -> str:
    measured_trials = sum(1 for item in case.evidence.judged if item.findings)
    limit = wording.constraint_text(binding.constraint)
    text = f"{binding.excluded} of {measured_trials} measured configurations break a limit ({limit})"
    if binding.closest is None:
        return f"{text}: {binding.sentence}."
    judged, finding = binding.closest
    return f"{text}; the closest, trial {judged.trial.number}, has {finding.achieved}."


def _gain_sentence(case: _Case) -> str:
    ratio, objective = case.result.decision.speedup, case.objective
    if ratio is None and case.baseline is not None and case.baseline.trial.is_reference:
        first = "this is the first configuration that could be, so that there is no speed-up to give"
        return f"{_not_served(case.baseline.trial)}; {first}."
    if ratio is None:
        return "There is no baseline to compare it with, so no speed-up can be given."
    title = wording.metric_title(objective.key).lower()
    if objective.maximize:
        gain = f"It reaches {wording.ratio_text(ratio)} the {title} of {_reference(case)}"
    elif objective.metric in LATENCIES:
        gain = f"Its {title} is {wording.ratio_text(ratio)} shorter than that of {_reference(case)}"
    else:
        gain = f"Its {title} is better than that of {_reference(case)} by a factor of {ratio.value:.2f}"
    interval = wording.ratio_interval_text(ratio)
    sentence = f"{gain}{f' ({interval})' if interval else ''}{_how_measured(case)}."
    if case.baseline is not None and case.baseline.trial.is_reference:
        return f"{sentence} {_not_served(case.baseline.trial)}; accuracy is compared with it all the same."
    return sentence


def _not_served(baseline: Trial) -> str:
    return f"The unquantized model cannot be served here ({baseline.proposal.note})"


def _how_measured(case: _Case) -> str:
    confirmation = case.result.confirmation
    if confirmation is None or confirmation.winner != case.result.decision.winner:
        return ""
    rounds = len(confirmation.winner_values)
    return (
        f", measured alternately with it over {wording.count_text(rounds, 'round')}"
        if rounds
        else ", measured alternately"
    )


def _accuracy_sentences(case: _Case, trial: Trial) -> Iterator[str]:
    change = _perplexity_ratio(trial, case.baseline)
    if change is None:
        return
    interval = wording.change_interval_text(change)
    amount = wording.change_text(abs(change.value - 1)).removeprefix("+")
    direction = "higher" if change.value > 1 else "lower"
    differs = f"{amount} {direction} than the baseline's{f' ({interval})' if interval else ''}; lower is better"
    yield f"Perplexity on text that it has never seen is {differs if change.value != 1 else 'the same'}."


def _reference(case: _Case) -> str:
    """What speed is compared with."""
    reference = case.evidence.reference
    if reference is not None and not reference.trial.is_baseline:
        what = reference.trial.configuration.describe()
        return f"{what}, the first that could be served (trial {reference.trial.number})"
    published = case.baseline is not None and case.baseline.trial.configuration.algorithm is Algorithm.PUBLISHED
    return f"the {'published' if published else 'unquantized'} model with vLLM's own settings"


def _published_sentence(case: _Case) -> str:
    """What HAQA made against what somebody else has published; empty where one of them kept no limit or is missing."""
    made = [item for item in case.evidence.feasible if item.trial.configuration.made]
    published = [item for item in case.evidence.feasible if item.trial.configuration.variant]
    if not made or not published:
        return ""
    own, other = case.evidence.best(made), case.evidence.best(published)
    comparison = case.evidence.compare(own, other)
    verdict = "is better than" if comparison.better else "is as good as"
    if case.evidence.compare(other, own).better:
        verdict = "loses to"
    numbers = _lines(wording.ratio_text(comparison.ratio), wording.ratio_interval_text(comparison.ratio))
    return (
        f"The best that HAQA made, {own.trial.configuration.describe()}, {verdict} the best published checkpoint, "
        f"{other.trial.configuration.describe()} ({', '.join(numbers)})."
    )


def _length_sentence(trial: Trial) -> str:
    """Empty where the trial does not say."""
    length = trial.status.max_model_len
    return f"It serves requests of up to {length:,} tokens, prompt and answer together." if length else ""


def _limits_sentence(case: _Case, winner: Judged) -> str:
    limits = len(case.spec.constraints)
    if not limits:
        return "The tuning sets no limits, so speed alone decided."
    which = {1: "the limit that was set", 2: "both limits"}.get(limits, f"all {limits} limits")
    kept = f"It keeps {which}"
    close = [wording.constraint_text(finding.constraint) for finding in winner.findings if finding.marginal]
    if close:
        return f"{kept}, though a repetition might not ({'; '.join(close)})."
    return f"{kept}."


# Tiles


def _speedup_tile(case: _Case) -> Tile:
    ratio = case.result.decision.speedup
    how = _how_measured(case).removeprefix(", ")
    label = "Speed-up" if case.objective.metric in (*RATES, *LATENCIES) else "Improvement"
    details = _lines(wording.ratio_interval_text(ratio), how)
    return Tile(label, wording.ratio_text(ratio), details, Tone.GOOD, term="interval")


def _objective_tile(case: _Case, trial: Trial) -> Tile:
    key = case.objective.key
    estimate = trial.status.metrics.get(str(key))
    details = [wording.interval_text(key, estimate)] if estimate else []
    levels = case.spec.workload.concurrency
    if key.concurrency is None and len(levels) > 1 and key.metric in RATES:
        details.append(f"geometric mean over {wording.list_text([str(level) for level in levels])} requests in flight")
    details.append(case.against(key, trial))
    term = key.metric if key.metric in LATENCIES else "throughput"
    return Tile(wording.metric_title(key), wording.value_text(key, measured(trial, key)), _lines(*details), term=term)


def _accuracy_tiles(case: _Case, trial: Trial) -> Iterator[Tile]:
    baseline = case.baseline.trial if case.baseline else None
    change = _perplexity_ratio(trial, case.baseline)
    if change is not None and baseline is not None:
        key = MetricKey("perplexity")
        against = f"{wording.value_text(key, measured(trial, key))}, baseline {_plain(baseline, key)}"
        details = _lines(wording.change_interval_text(change), against, _limit(case.spec.constraints, key))
        yield Tile("Perplexity", wording.change_text(change.value - 1), details, term="perplexity")
    else:
        key = MetricKey("klDivergence")
        divergence = trial.status.metrics.get(str(key))
        if divergence is not None:
            details = _lines(wording.interval_text(key, divergence), _limit(case.spec.constraints, key))
            yield Tile("KL divergence", wording.value_text(key, divergence.value), details, term="kl")
    for name in [name for name in sorted(trial.status.metrics) if name.startswith("accuracy.")][:2]:
        key = MetricKey.parse(name)
        estimate = trial.status.metrics[name]
        against = f"baseline {_plain(baseline, key)}" if baseline else ""
        details = _lines(wording.interval_text(key, estimate), against, _limit(case.spec.constraints, key))
        yield Tile(wording.metric_title(key), wording.value_text(key, estimate.value), details, term="accuracy")


def _latency_tiles(case: _Case, trial: Trial) -> Iterator[Tile]:
    for metric in ("ttft", "itl"):
        key = MetricKey(metric, 95)
        value = measured(trial, key)
        if value is None or key == case.objective.key:
            continue
        against = case.against(key, trial)
        details = _lines("at the slowest level", against, _limit(case.spec.constraints, key))
        yield Tile(wording.metric_title(key, short=True), wording.value_text(key, value), details, term=metric)


def _serving_cost_tiles(case: _Case, trial: Trial) -> Iterator[Tile]:
    price = case.pool.cost_per_hour if case.pool else None
    own = measured(trial, MetricKey("throughput"))
    if not price or not own:
        return
    other = case.evidence.against(MetricKey("throughput"))
    reference = measured(other, MetricKey("throughput")) if other and other.is_baseline else None
    against = f"baseline {_price_per_million(price, reference):.3g}" if reference else ""
    details = _lines(against, f"in your currency, at {price:g} an hour and this load")
    yield Tile("Price of a million output tokens", f"{_price_per_million(price, own):.3g}", details)


def _search_tiles(case: _Case) -> Iterator[Tile]:
    finished = [trial for trial in case.result.trials if trial.status.phase.finished]
    failed = sum(not trial.succeeded for trial in finished)
    details = [wording.count_text(len(finished), "trial") + (f", {failed} failed" if failed else "")]
    if case.pool is not None and case.pool.cost_per_hour:
        # Machine-hours count every accelerator; the price is that of a whole replica.
        hours = case.result.machine_hours / max(case.pool.gpus_per_replica, 1)
        details.append(f"about {hours * case.pool.cost_per_hour:.3g} in your currency")
    if case.result.agent_tokens:
        details.append(wording.count_text(case.result.agent_tokens, "agent token"))
    value = wording.duration_text(case.result.machine_hours * 3600)
    yield Tile("Cost of finding out", value, ("of machine time", *details))


def _kept_tile(case: _Case) -> Tile:
    judged = [item for item in case.evidence.judged if item.findings or item.score is not None]
    kept = len(case.evidence.feasible)
    tone = Tone.PLAIN if kept else Tone.BAD
    return Tile("Keep every limit", f"{kept} of {len(judged)}", ("measured configurations",), tone, term="constraint")


def _perplexity_ratio(trial: Trial, baseline: Judged | None) -> Estimate | None:
    """Perplexity over the baseline's: as measured text by text, else from the two figures and without an interval."""
    if baseline is None or trial is baseline.trial:
        return None
    paired = trial.status.metrics.get("perplexityRatio")
    if paired is not None:
        return paired
    key = MetricKey("perplexity")
    own, reference = measured(trial, key), measured(baseline.trial, key)
    if own is None or not reference:
        return None
    ratio = own / reference
    return Estimate(value=ratio, low=ratio, high=ratio, n=1)


def _price_per_million(cost_per_hour: float, tokens_per_s: float) -> float:
    return cost_per_hour / (tokens_per_s * 3600) * 1e6


def _limit(constraints: tuple[Constraint, ...], key: MetricKey) -> str:
    found = next((constraint for constraint in constraints if constraint.key == key), None)
    return f"limit: {wording.limit_text(found)}" if found else ""


def _plain(trial: Trial, key: MetricKey) -> str:
    return wording.value_text(key, measured(trial, key))


def _lines(*texts: str) -> tuple[str, ...]:
    return tuple(text for text in texts if text)
