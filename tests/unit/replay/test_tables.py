from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import Configuration, Estimate, FailureReason, Scheme
from haqa_contract.statistics import estimate, geometric_estimate
from haqa_operator.api import Constraint, Objective
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import TableOptions
from haqa_operator.replay.tables.table import Table

TABLES = Path(__file__).parents[2] / "data" / "tables"


def table(folder: Path, text: str, **options: list[str]) -> Table:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return Table.load(path, TableOptions.parse(**options))


def refusal(folder: Path, text: str, **options: list[str]) -> str:
    with pytest.raises(TableError) as caught:
        table(folder, text, **options)
    return str(caught.value)


SMALL = """scheme,algorithm,max-num-seqs,throughput,perplexity
BF16,none,,100,10
W8A8-INT8,rtn,,150,10.1
W8A8-INT8,rtn,64,160,10.1
"""


def test_rows_become_configurations_with_metrics(tmp_path: Path) -> None:
    small = table(tmp_path, SMALL)
    tuned = Configuration.of("W8A8-INT8", "rtn", max_num_seqs=64)
    assert small.baseline == Configuration.of("BF16")
    assert small.space.candidates == (Configuration.of("W8A8-INT8", "rtn"), tuned)
    assert small.rows[tuned].metrics["throughput"] == Estimate(value=160, low=160, high=160, n=1)
    assert small.metrics == ("throughput", "perplexity")


def test_lines_with_the_same_configuration_are_repeats(tmp_path: Path) -> None:
    twice = table(tmp_path, SMALL + "W8A8-INT8,rtn,64,170,10.3\n")
    row = twice.rows[Configuration.of("W8A8-INT8", "rtn", max_num_seqs=64)]
    assert row.samples["throughput"] == (160, 170)
    assert row.metrics["throughput"] == geometric_estimate([160, 170])
    assert row.metrics["perplexity"] == estimate([10.1, 10.3])


def test_an_unknown_scheme_is_a_setting_that_the_search_sees_as_the_scheme(tmp_path: Path) -> None:
    foreign = table(tmp_path, "scheme,throughput\nFP16,100\nW4A4-QuaRot,200\n")
    (candidate,) = foreign.space.candidates
    assert candidate.scheme is Scheme.BF16
    assert candidate.parameters["scheme"] == "W4A4-QuaRot"
    assert foreign.baseline.parameters["scheme"] == "FP16"


def test_settings_keep_their_types(tmp_path: Path) -> None:
    text = 'setting:a,setting:b,setting:c,setting:d,setting:e,throughput\n1,1.5,true,auto,"""8""",7\n,,,,,5\n'
    typed = table(tmp_path, text, baseline=["setting:a="])
    (candidate,) = typed.space.candidates
    assert candidate.settings == {"a": 1, "b": 1.5, "c": True, "d": "auto", "e": "8"}
    assert {name: type(value) for name, value in candidate.settings.items()} == {
        "a": int,
        "b": float,
        "c": bool,
        "d": str,
        "e": str,
    }
    assert typed.baseline == Configuration()


def test_what_all_rows_have_in_common_is_context_and_no_choice(tmp_path: Path) -> None:
    text = "engine,scheme,throughput\nvLLM 0.32,BF16,1\nvLLM 0.32,W4A16,2\n"
    assert table(tmp_path, text).context == {"engine": "vLLM 0.32"}
    assert table(tmp_path, text).space.dimensions() == {"scheme": ("W4A16",), "algorithm": ("none",)}


def test_levels_give_the_figures_over_all_levels(tmp_path: Path) -> None:
    levels = table(
        tmp_path,
        "scheme,throughput@1,throughput@8,ttft.p95@1,ttft.p95@8\nBF16,50,200,30,90\nW4A16,25,,20,\n",
    )
    baseline = levels.rows[levels.baseline].metrics
    assert baseline["throughput"].value == pytest.approx(100)
    assert baseline["ttft.p95"].value == 90
    assert "throughput" not in levels.rows[levels.space.candidates[0]].metrics


@pytest.mark.parametrize("cell", ["OOM", "oom", "EngineOOM", "out of memory"])
def test_out_of_memory_in_a_cell_is_a_failed_trial(tmp_path: Path, cell: str) -> None:
    failed = table(tmp_path, f"scheme,throughput,perplexity\nBF16,1,10\nW4A16,{cell},11\n")
    failure = failed.rows[failed.space.candidates[0]].failure
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_OOM


@pytest.mark.parametrize("cell", ["", "-", "--", "n/a", "nan", "inf"])
def test_a_configuration_without_any_number_has_failed(tmp_path: Path, cell: str) -> None:
    failed = table(tmp_path, f"scheme,throughput\nBF16,1\nW4A16,{cell}\n")
    failure = failed.rows[failed.space.candidates[0]].failure
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED


def test_one_missing_metric_among_others_is_only_that(tmp_path: Path) -> None:
    row = table(tmp_path, "scheme,throughput,perplexity\nBF16,1,10\nW4A16,2,--\n").rows[Configuration.of("W4A16")]
    assert row.failure is None
    assert set(row.metrics) == {"throughput"}


def test_a_repeat_that_worked_outweighs_one_that_did_not(tmp_path: Path) -> None:
    row = table(tmp_path, "scheme,throughput\nBF16,1\nW4A16,OOM\nW4A16,2\n").rows[Configuration.of("W4A16")]
    assert row.failure is None
    assert row.samples == {"throughput": (2.0,)}


def test_a_published_table_needs_options_only() -> None:
    options = TableOptions.parse(
        metric=["Throughput=totalThroughput", "Latency=latency"],
        where=["Input Output Length=1024"],
        baseline=["Framework=vLLM,Batch Size=1"],
    )
    batched = Table.load(TABLES / "batched.csv", options)
    assert len(batched.rows) == 12
    assert batched.baseline.parameters == {
        "scheme": "BF16",
        "algorithm": "none",
        "Batch Size": 1,
        "Framework": "vLLM",
        "Num of Hardware": 1,
    }
    assert batched.context["Model"] == "meta-llama/Meta-Llama-3-8B"
    best = max(batched.rows.values(), key=lambda row: row.metrics["totalThroughput"].value)
    assert best.configuration.settings == {"Batch Size": 64, "Framework": "TensorRT-LLM", "Num of Hardware": 4}


def test_a_long_table_is_turned_into_columns() -> None:
    options = TableOptions.parse(
        metric=["max_throughput_qps=requestRate"],
        where=["gpu=A100"],
        ignore=["serving_mode", "queries_per_dollar"],
    )
    long = Table.load(TABLES / "long.csv", options)
    assert long.metrics == ("latency_s", "requestRate")
    assert [row.configuration.parameters["scheme"] for row in long.rows.values()] == [
        "BF16",
        "W8A8-INT8",
        "W4A16-INT4-g128",
    ]
    assert {name: value.value for name, value in long.rows[long.baseline].metrics.items()} == {
        "latency_s": 1.6,
        "requestRate": 10.5,
    }


def test_a_metric_column_beside_value_goes_with_one_metric_only() -> None:
    options = TableOptions.parse(metric=["queries_per_dollar"], where=["gpu=A100"], ignore=["serving_mode"])
    with pytest.raises(TableError, match="choose with --where metric=latency_s"):
        Table.load(TABLES / "long.csv", options)
    chosen = TableOptions.parse(metric=["queries_per_dollar"], where=["gpu=A100", "metric=latency_s"])
    long = Table.load(TABLES / "long.csv", chosen)
    assert long.rows[long.baseline].metrics["queries_per_dollar"].value == 1263


def test_published_out_of_memory_cells_are_failed_trials() -> None:
    options = TableOptions.parse(
        metric=["max_throughput_tok_s=throughput"],
        where=["gpu=A100 (80G)", "model=Llama-2-70B"],
        baseline=["system_scheme=TRT-LLM-FP16"],
    )
    reasons = {
        row.configuration.settings["system_scheme"]: row.failure.reason if row.failure else None
        for row in Table.load(TABLES / "with_oom.csv", options).rows.values()
    }
    assert reasons == {
        "TRT-LLM-FP16": FailureReason.ENGINE_OOM,
        "TRT-LLM-W4A16": None,
        "TRT-LLM-W8A8": None,
        "Atom-W4A4": FailureReason.ENGINE_LOAD_FAILED,
        "QuaRot-W4A4": FailureReason.ENGINE_LOAD_FAILED,
        "QServe-W4A8KV4": None,
    }


def test_several_values_of_where_keep_the_rows_with_either(tmp_path: Path) -> None:
    text = "gpus,scheme,throughput\n1,BF16,1\n2,W4A16,2\n4,W4A16,3\n"
    assert len(table(tmp_path, text, where=["gpus=1", "gpus=2.0"]).rows) == 2


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("", {}, "empty"),
        ("# only a comment\n", {}, "empty"),
        ("scheme,throughput\n", {}, "no line below the header"),
        ("scheme,throughput\nBF16,1,2\n", {}, "table.csv line 2: 3 cells under a header of 2"),
        ("a,a\n1,2\n", {}, "two columns are called 'a'"),
        ("scheme,speed\nBF16,1\n", {}, "no column is a metric; the columns are scheme, speed"),
        ("scheme,Tok per s\nBF16,1\n", {}, "--metric 'Tok per s'=throughput"),
        ("scheme,throughput\nBF16,fast\n", {}, "line 2, column 'throughput': 'fast' is not a measurement"),
        ("# note\n\nscheme,throughput\nBF16,fast\n", {}, "line 4, column 'throughput'"),
        ("scheme,throughput\nBF16,1\n", {"where": ["shceme=BF16"]}, "did you mean 'scheme'?"),
        ("scheme,throughput\nBF16,1\n", {"where": ["scheme=W4A16"]}, "no line is left; scheme is one of BF16"),
        ("scheme,throughput\nBF16,1\n", {"where": ["scheme"]}, "write it as --where COLUMN=VALUE"),
        ("scheme,throughput\nBF16,1\n", {"metric": ["speed"]}, "--metric 'speed': the table has no such column"),
        ("scheme,throughput\nBF16,1\n", {"ignore": ["speed"]}, "--ignore 'speed'"),
        ("scheme,throughput\nBF16,1\n", {"baseline": ["scheme=W4A16"]}, "no configuration of the selection matches"),
        ("scheme,throughput\nW8A8-INT8,1\n", {}, "name the baseline with --baseline"),
        ("seqs,throughput\n1,1\n2,2\n", {}, "2 configurations match, which differ in seqs (1, 2)"),
        ("scheme,gpus,throughput\nBF16,1,1\nBF16,2,2\n", {}, "which differ in gpus (1, 2)"),
        ("scheme,throughput,Tput\nBF16,1,1\n", {"metric": ["Tput=throughput"]}, "are both throughput"),
        ("scheme,metric:a b%c\nBF16,1\n", {}, "cannot be the name of a metric"),
        ("scheme,metric:x:median\nBF16,1\n", {}, "'median' is not a bound"),
        ("scheme,throughput,trial:failure\nBF16,1,Tired\n", {}, "'Tired' is not a measurement"),
        ("scheme,throughput,trial:failure\nBF16,1,3\n", {}, "'3' is none of Unschedulable"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_the_remedy(
    tmp_path: Path, text: str, options: dict[str, list[str]], problem: str
) -> None:
    assert problem in refusal(tmp_path, text, **options)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nothing\.csv: no such file"):
        Table.load(tmp_path / "nothing.csv")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="CSV in UTF-8"):
        Table.load(tmp_path / "binary.csv")


def test_a_forgotten_metric_is_not_shown_to_the_search_as_a_setting(tmp_path: Path) -> None:
    text = "batch,latency,throughput\n" + "".join(f"{2**i},{i}.5,{i + 1}\n" for i in range(8))
    text += "256,9.25,9\n"
    refused = refusal(tmp_path, text, baseline=["batch=1"])
    assert "'batch' has a different number" in refused
    assert "'latency' has a different number" in refused
    problem = refusal(tmp_path, text, baseline=["batch=1"], setting=["batch"])
    assert "column 'latency' has a different number on nearly every line (0.5, 1.5, 2.5 and 6 more)" in problem
    told = table(tmp_path, text, baseline=["batch=1"], setting=["batch"], metric=["latency"])
    assert set(told.space.dimensions()) == {"scheme", "algorithm", "batch"}


def test_a_table_says_before_the_first_trial_what_it_cannot_answer(tmp_path: Path) -> None:
    small = table(tmp_path, SMALL + "W4A16,rtn,,OOM,\n")
    small.check([Objective(metric="throughput")], [Constraint(metric="perplexity", max_degradation_percent=1)])
    with pytest.raises(TableError) as caught:
        small.check([Objective(metric="ttft")], [Constraint(metric="klDivergence", max=1)])
    assert str(caught.value).splitlines() == [
        "objective ttft: table.csv has no such metric; it has throughput, perplexity",
        "constraint klDivergence: table.csv has no such metric; it has throughput, perplexity",
    ]


def test_a_metric_of_ones_own_needs_a_direction(tmp_path: Path) -> None:
    own = table(tmp_path, "scheme,metric:latency_s\nBF16,1\nW4A16,2\n")
    with pytest.raises(TableError, match=r"objective latency_s: .* give direction"):
        own.check([Objective(metric="latency_s")], [])
    with pytest.raises(TableError, match=r"constraint latency_s: .* give min or max"):
        own.check([], [Constraint(metric="latency_s", max_degradation_percent=3)])
    own.check([Objective(metric="latency_s", direction="minimize")], [Constraint(metric="latency_s", max=3)])
