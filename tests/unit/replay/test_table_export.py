from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import TrialBuilder, make_baseline, make_trial, make_tuning

from haqa_contract import Algorithm, Configuration, Estimate, FailureReason, Scalar, Scheme
from haqa_operator.api import Objective, Trial
from haqa_operator.api.metrics import MetricKey
from haqa_operator.decision.results import Decision, PoolResult, Verdict
from haqa_operator.metrics.intervals import interval
from haqa_operator.replay.tables.cells import TableError, read_scalar, write_scalar
from haqa_operator.replay.tables.export import export_table, notes_of
from haqa_operator.replay.tables.notes import TableNotes, read_notes, write_notes
from haqa_operator.replay.tables.table import Table


def repeated(builder: TrialBuilder, key: str, *samples: float) -> TrialBuilder:
    """A metric as a summary has it: the interval that follows from the repeats."""
    trial = builder.metric(key, samples[0], samples=samples)
    metrics = {**trial.status.metrics, key: interval(MetricKey.parse(key), samples)}
    return trial._with(metrics=metrics)


def loaded(folder: Path, trials: list[Trial]) -> Table:
    path = folder / "export.csv"
    path.write_text(export_table(trials), encoding="utf-8")
    return Table.load(path)


BASELINE = repeated(repeated(make_baseline(), "throughput", 100, 104, 99), "ttft.p95", 50, 55, 52).metric(
    "perplexity", 10, margin=0.4
)
CANDIDATE = repeated(make_trial(1).tried("W4A16", "gptq", 64, max_num_seqs=64), "throughput", 130, 131, 128)
GATED = make_trial(2).tried("NVFP4").metric("perplexity", 14).failed("AccuracyGate", "perplexity 14,\nabove 11")
DEAD = make_trial(3).tried("W8A8-INT8", VLLM_CPU_OMP_THREADS_BIND="0-1", enforce_eager=True).failed("EngineOOM")


def test_a_finished_tuning_reads_back_without_options(tmp_path: Path) -> None:
    trials = [t.obj() for t in (BASELINE.machine_hours(0.25), CANDIDATE, GATED, DEAD)]
    table = loaded(tmp_path, [*trials, make_trial(4).pending().obj()])
    assert table.baseline == trials[0].configuration
    assert list(table.rows) == [trial.configuration for trial in trials]
    for trial in trials:
        row = table.rows[trial.configuration]
        assert dict(row.metrics) == trial.status.metrics
        assert {name: row.samples[name] for name in trial.status.samples} == trial.status.samples
    assert table.rows[table.baseline].machine_hours == 0.25


def test_what_was_expected_is_expected_again(tmp_path: Path) -> None:
    trials, path = [BASELINE.obj(), CANDIDATE.obj(), DEAD.obj()], tmp_path / "export.csv"
    path.write_text(export_table(trials, expected={trials[1].name: 1.5, trials[2].name: 0.25}), encoding="utf-8")
    space = Table.load(path).space
    assert dict(space.speeds) == {trials[1].configuration: 1.5, trials[2].configuration: 0.25}
    path.write_text(path.read_text().replace(",1.5\n", ",-1.5\n"))
    with pytest.raises(TableError, match=r"column 'trial:expected'.*must be above 0"):
        Table.load(path)


def test_rough_figures_of_a_trial_that_ended_early_are_left_out(tmp_path: Path) -> None:
    rough = CANDIDATE.obj()
    early = rough.model_copy(update={"status": rough.status.model_copy(update={"ended_early": "too slow"})})
    assert list(loaded(tmp_path, [BASELINE.obj(), early]).rows) == [BASELINE.obj().configuration]


def test_failures_read_back_with_reason_and_sentence(tmp_path: Path) -> None:
    table = loaded(tmp_path, [t.obj() for t in (BASELINE, GATED, DEAD)])
    gated = table.rows[GATED.configuration].failure
    assert gated is not None
    assert (gated.reason, gated.message) == (FailureReason.ACCURACY_GATE, "perplexity 14, above 11")
    dead = table.rows[DEAD.configuration].failure
    assert dead is not None
    assert dead.reason is FailureReason.ENGINE_OOM


def test_a_setting_that_every_trial_has_stays_a_setting(tmp_path: Path) -> None:
    fixed = [BASELINE.tried("BF16", block_size=32).obj(), make_trial(1).tried("W4A16", block_size=32).obj()]
    table = loaded(tmp_path, fixed)
    assert [c.settings for c in table.rows] == [{"block-size": 32}, {"block-size": 32}]


def test_an_interval_that_does_not_follow_from_the_repeats_is_kept(tmp_path: Path) -> None:
    odd = make_baseline().metric("throughput", 100, margin=7, samples=(99.0, 101.0)).obj()
    assert loaded(tmp_path, [odd]).rows[Configuration()].metrics["throughput"] == Estimate(
        value=100, low=93, high=107, n=3
    )


def test_a_scheme_that_came_from_a_table_goes_into_the_next_one(tmp_path: Path) -> None:
    foreign = Configuration(engine=(("scheme", "W4A4-QuaRot"),))
    table = loaded(tmp_path, [BASELINE.obj(), make_trial(1).of(foreign).throughput(5).obj()])
    assert table.space.candidates == (foreign,)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
    st.sampled_from(["1", "true", "", " x ", '"8"', "1e5", "nan", "007", "OOM", "0-1"]),
)


@given(scalars)
def test_every_setting_reads_back_as_it_was(value: Scalar) -> None:
    back = read_scalar(write_scalar(value))
    assert back == value
    assert type(back) is type(value)


@given(st.dictionaries(st.sampled_from(["a-b", "VLLM_X", "throughput", "scheme", "metric"]), scalars, max_size=4))
def test_every_configuration_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Scalar]
) -> None:
    configuration = Configuration(engine=tuple(sorted(settings.items())))
    trials = [make_baseline().throughput(1).obj(), make_trial(1).of(configuration).throughput(2).obj()]
    table = loaded(tmp_path_factory.mktemp("export"), trials)
    assert configuration in table.rows


def test_the_table_says_what_was_measured_and_where(tmp_path: Path) -> None:
    spec = {"inputTokens": 32, "outputTokens": 16, "durationSeconds": 2, "repeats": 3}
    tuning = make_tuning().workload(**spec).objective("throughput").obj()
    status = CANDIDATE.between(1795900000, 1795990000).obj().status
    machine = {"kernel": "6.1", "cpu": "Xeon"}
    known = status.model_copy(update={"engine_version": "0.32.0", "machine": machine})
    trials = (BASELINE.obj(), CANDIDATE.obj().model_copy(update={"status": known}))
    decision = Decision(verdict=Verdict.NO_MEASUREMENT, reason="")
    result = PoolResult(pool="here", hardware="Xeon, 2 cores", trials=trials, decision=decision)
    path = tmp_path / "table.csv"
    path.write_text(export_table(trials, notes_of(tuning, result, "haqa tune a.yaml")))
    assert "# objective: {metric: throughput}\n" in path.read_text()
    table = Table.load(path)
    assert table.notes == TableNotes(
        source="haqa tune a.yaml, pool here, 2026-11-29",
        engine="vLLM 0.32.0",
        model="demo",
        accelerator="Xeon, 2 cores, Linux 6.1",
        objective=Objective(metric="throughput"),
        notes=(
            "Prompts of 32 and answers of 16 tokens; each line is one of 3 windows of 2 s at each level of requests in "
            "flight (@1 = one).",
        ),
    )
    assert list(table.rows) == [trial.configuration for trial in trials]


SENTENCE = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=60)
WORDS = SENTENCE.map(lambda text: " ".join(text.split())).filter(lambda text: text and text[0] not in "-[")


@given(
    source=st.none() | WORDS,
    model=st.none() | WORDS,
    notes=st.lists(WORDS, max_size=3),
    hours=st.none() | st.floats(0.001, 1000),
    metrics=st.dictionaries(WORDS, st.sampled_from(["throughput", "e2e"]), max_size=2),
    baseline=st.none() | st.just("typical") | st.fixed_dictionaries({"scheme": st.sampled_from(["FP16", "8", "no"])}),
)
def test_notes_read_back_as_they_were(**given: Any) -> None:
    notes = TableNotes(
        source=given["source"],
        model=given["model"],
        notes=tuple(given["notes"]),
        machine_hours=given["hours"],
        metrics=given["metrics"],
        baseline=given["baseline"],
    )
    assert read_notes(write_notes(notes).splitlines(), "t.csv") == notes


def test_the_empty_cell_is_no_value() -> None:
    assert read_scalar("") is None
    assert write_scalar(None) == ""


def test_published_checkpoints_of_one_format_stay_apart(tmp_path: Path) -> None:
    def of(number: int, variant: str, throughput: float) -> Trial:
        theirs = Configuration(scheme=Scheme.NVFP4, algorithm=Algorithm.PUBLISHED, variant=variant)
        return repeated(make_trial(number).of(theirs), "throughput", throughput, throughput + 1, throughput + 2).obj()

    table = loaded(tmp_path, [BASELINE.obj(), of(1, "nvidia@abc", 150), of(2, "redhat@def", 300)])
    means = {row.variant: found.metrics["throughput"].value for row, found in table.rows.items()}
    assert means == pytest.approx({None: 101, "nvidia@abc": 151, "redhat@def": 301}, rel=1e-3)
    assert table.space.variants == {"nvidia@abc", "redhat@def"}
