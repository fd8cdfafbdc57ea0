"""What a table says of itself above its header."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import Configuration
from haqa_operator.api import TuningSpec
from haqa_operator.replay.context import table_context
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import TableOptions
from haqa_operator.replay.tables.notes import TableNotes, read_notes, unit_in
from haqa_operator.replay.tables.table import Table

NOTES = """# Measured on a Tuesday: by hand.
# source: https://example.org/table: the second one
# licence: BSD-3-Clause
# engine: vLLM 0.11: nightly
# accelerator: L40S
# metrics: {rate: throughput, seconds: e2e}
# units: {seconds: s}
# load: batch
# accelerators: gpus
# per: replica
# baseline: {gpus: 1, batch: 8}
# machineHours: 0.5
# notes:
# - The first sentence: with a colon,
#   which goes on here.
# - The second one.
"""
ROWS = "gpus,batch,rate,seconds\n1,8,100,1.5\n2,8,180,1\n2,16,300,2\n"


def load(folder: Path, text: str, options: TableOptions | None = None) -> Table:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return Table.load(path, options)


def test_notes_are_read_and_remarks_passed_over() -> None:
    notes = read_notes(NOTES.splitlines(), "table.csv")
    assert notes == TableNotes(
        source="https://example.org/table: the second one",
        licence="BSD-3-Clause",
        engine="vLLM 0.11: nightly",
        accelerator="L40S",
        metrics={"rate": "throughput", "seconds": "e2e"},
        units={"seconds": "s"},
        load=("batch",),
        accelerators="gpus",
        per="replica",
        baseline={"gpus": 1, "batch": 8},
        machine_hours=0.5,
        notes=("The first sentence: with a colon, which goes on here.", "The second one."),
    )


def test_a_table_with_notes_needs_no_options(tmp_path: Path) -> None:
    table = load(tmp_path, NOTES + ROWS)
    assert table.baseline == Configuration.of(gpus=1, batch=8)
    pair = table.rows[Configuration.of(gpus=2, batch=16)]
    assert pair.metrics["throughput"].value == 150
    assert pair.metrics["e2e"].value == 2000
    assert pair.machine_hours == 1.0


def test_the_space_knows_load_and_accelerators(tmp_path: Path) -> None:
    space = load(tmp_path, NOTES + ROWS).space
    assert space.load_parameters == {"batch"}
    assert space.accelerator_parameters == {"gpus"}


def test_what_all_rows_have_alike_is_no_parameter(tmp_path: Path) -> None:
    space = load(tmp_path, NOTES.replace("gpus: 1, ", "") + "gpus,batch,rate,seconds\n2,8,180,1\n2,16,300,2\n").space
    assert space.accelerator_parameters == frozenset()


def test_rates_of_one_accelerator_stay_as_they_are(tmp_path: Path) -> None:
    table = load(tmp_path, NOTES.replace("per: replica", "per: accelerator") + ROWS)
    assert table.rows[Configuration.of(gpus=2, batch=16)].metrics["throughput"].value == 300


def test_notes_rename_the_metrics_of_a_long_table(tmp_path: Path) -> None:
    notes = "# metrics: {qps: requestRate, latency_s: e2e}\n# baseline: {gpu: a}\n"
    rows = "gpu,metric,value\na,qps,5\na,latency_s,2\nb,qps,7\nb,latency_s,1\n"
    row = load(tmp_path, notes + rows).rows[Configuration.of(gpu="b")]
    assert {name: measured.value for name, measured in row.metrics.items()} == {"requestRate": 7, "e2e": 1000}


def test_options_count_for_more_than_notes(tmp_path: Path) -> None:
    options = TableOptions.parse(metric=["rate=requestRate"], baseline=["gpus=2,batch=8"], ignore=["seconds"])
    table = load(tmp_path, NOTES + ROWS, options)
    assert table.metrics == ("requestRate",)
    assert table.baseline == Configuration.of(gpus=2, batch=8)


def test_the_agent_is_told_what_the_table_says(tmp_path: Path) -> None:
    spec = TuningSpec.model_validate(
        {
            "model": {"uri": "hf://org/name"},
            "nodePools": [{"name": "a"}],
            "search": {"agent": {"model": "m", "notes": ["Traffic is bursty."]}},
        }
    )
    context = table_context(load(tmp_path, NOTES + ROWS), spec)
    assert context.replayed
    assert context.hardware == "L40S"
    assert context.engine == "vLLM 0.11: nightly"
    assert context.load is not None
    assert context.load.startswith("batch: ")
    assert context.notes[0] == "Traffic is bursty."
    assert "gpus is the number of accelerators of one replica" in context.notes
    assert context.notes[-1] == "The second one."


@pytest.mark.parametrize(
    ("framework", "expected"),
    [
        ("a,1,8 a,1,16 a,1,32 a,2,8 b,1,8", ("a", 1, 16)),
        ("b,2,8 b,2,16 a,1,16 a,1,8", ("a", 1, 8)),
        ("a,4,8 a,4,16 a,4,32 a,4,64 b,1,8", ("a", 4, 16)),
    ],
)
def test_a_typical_baseline_is_common_small_and_in_the_middle(
    tmp_path: Path, framework: str, expected: tuple[str, int, int]
) -> None:
    lines = "".join(f"{row},{i + 1},1\n" for i, row in enumerate(framework.split()))
    notes = NOTES.replace("{gpus: 1, batch: 8}", "typical")
    baseline = load(tmp_path, notes + "framework,gpus,batch,rate,seconds\n" + lines).baseline
    name, gpus, batch = expected
    assert baseline == Configuration.of(framework=name, gpus=gpus, batch=batch)


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("latency_s", "s"),
        ("TTFT (s)", "s"),
        ("ttft [ms]", "ms"),
        ("e2e_seconds", "s"),
        ("itl_us", "us"),
        ("ttft", "ms"),
        ("tokens", "ms"),
        ("latencies", "ms"),
    ],
)
def test_the_unit_of_a_latency_is_in_its_columns_name(column: str, unit: str) -> None:
    assert unit_in(column, TableNotes()) == unit


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("# laod: batch", "line 1: 'laod' is no key; did you mean 'load'?"),
        ("# load: batch\n# load: gpus", "line 2: 'load' is given twice"),
        ("# load: concurrency", "# load: 'concurrency': the table has no such column"),
        ("# metrics: {rate: throughput", "line 1: 'metrics' is not YAML"),
        ("# per: node", "per"),
        ("# units: {seconds: h}", "units"),
    ],
)
def test_a_wrong_note_is_refused_with_the_reason(tmp_path: Path, note: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        load(tmp_path, f"{note}\n{ROWS}", TableOptions.parse(metric=["rate=throughput", "seconds=e2e"]))
    assert said in str(caught.value)


@pytest.mark.parametrize("remark", ["# Note that batch: 8 is odd", "# see also: nothing", "# https://x.org: good", "#"])
def test_other_lines_above_a_header_are_remarks(tmp_path: Path, remark: str) -> None:
    assert read_notes([remark], "t") == TableNotes()


def test_a_replica_without_accelerators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="'' is not a number of accelerators"):
        load(tmp_path, NOTES + ROWS.replace("2,16", ",16"))
