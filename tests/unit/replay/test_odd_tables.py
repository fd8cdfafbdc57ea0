"""Tables of other people's making: read where what they say is certain, refused with the reason where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import Configuration, FailureReason
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import TableOptions
from haqa_operator.replay.tables.table import Table

PLAIN = "gpus,batch,throughput\n1,8,100.5\n2,8,180.5\n2,16,1234.5\n"


def load(folder: Path, text: str | bytes, **options: list[str]) -> Table:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Table.load(path, TableOptions.parse(**{"baseline": ["gpus=1"], **options}))


def results(table: Table) -> dict[tuple[object, ...], float | FailureReason | None]:
    found: dict[tuple[object, ...], float | FailureReason | None] = {}
    for configuration, row in table.rows.items():
        settings = tuple(value for _, value in configuration.engine)
        measured = row.metrics.get("throughput")
        found[settings] = row.failure.reason if row.failure else measured.value if measured else None
    return found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PLAIN.replace(",", ";"), id="semicolons"),
        pytest.param(PLAIN.replace(",", "\t"), id="tabs"),
        pytest.param(PLAIN.replace(",", "|"), id="bars"),
        pytest.param(PLAIN.replace(",", ";").replace(".", ","), id="semicolons and decimal commas"),
        pytest.param(PLAIN.replace(",", ";").replace(".", ",").replace("1234", "1.234"), id="German thousands"),
        pytest.param(PLAIN.replace("1234.5", '"1,234.5"'), id="English thousands"),
        pytest.param(PLAIN.replace(",", "\t").replace("1234.5", "1,234.5"), id="English thousands between tabs"),
        pytest.param(PLAIN.replace("1234.5", "1 234.5"), id="thousands with a space"),
        pytest.param(PLAIN.replace("1234.5", "1\u202f234.5"), id="thousands with a narrow space"),
        pytest.param(PLAIN.replace("1234.5", "1'234.5"), id="Swiss thousands"),
        pytest.param("\ufeff" + PLAIN, id="byte order mark"),
        pytest.param(("\ufeff" + PLAIN).encode("utf-16-le"), id="UTF-16, as Excel's Unicode text"),
        pytest.param(PLAIN.replace("\n", "\r\n"), id="lines of Windows"),
        pytest.param(PLAIN.replace("\n", "\r"), id="lines of an old Mac"),
        pytest.param(PLAIN.replace("gpus,batch,throughput", '"gpus", "batch", "throughput"'), id="quoted names"),
        pytest.param(PLAIN.replace("\n", ",\n"), id="a separator at each line's end"),
        pytest.param(",gpus,batch,throughput\n0,1,8,100.5\n1,2,8,180.5\n2,2,16,1234.5\n", id="pandas's line numbers"),
        pytest.param(PLAIN.replace("2,16", "gpus,batch,throughput\n2,16"), id="the header once more"),
        pytest.param(PLAIN + "\n# mean 505\n", id="a remark at the end"),
        pytest.param("# made by hand\n\n" + PLAIN + ",,\n", id="an empty line of a spreadsheet"),
    ],
)
def test_what_is_certain_is_read(tmp_path: Path, text: str | bytes) -> None:
    assert results(load(tmp_path, text)) == {(8, 1): 100.5, (8, 2): 180.5, (16, 2): 1234.5}


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("FAILED", FailureReason.ENGINE_LOAD_FAILED),
        ("error", FailureReason.ENGINE_LOAD_FAILED),
        ("timed out", FailureReason.TIMEOUT),
        ("CUDA OOM", FailureReason.ENGINE_OOM),
        ("#N/A", FailureReason.ENGINE_LOAD_FAILED),
        ("NaN", FailureReason.ENGINE_LOAD_FAILED),
    ],
)
def test_a_cell_may_say_how_it_failed(tmp_path: Path, cell: str, reason: FailureReason) -> None:
    assert results(load(tmp_path, PLAIN.replace("180.5", cell)))[(8, 2)] is reason


def test_percent_signs_are_hundredths_where_all_have_one(tmp_path: Path) -> None:
    text = "gpus,gpu-memory-utilization,accuracy.mmlu,throughput\n1,90%,68.25%,10\n2,95 %,67%,20\n"
    table = load(tmp_path, text)
    assert [row.metrics["accuracy.mmlu"].value for row in table.rows.values()] == [0.6825, 0.67]
    assert {c.settings["gpu-memory-utilization"] for c in table.rows} == {0.9, 0.95}


def test_versions_and_lists_are_not_taken_for_numbers(tmp_path: Path) -> None:
    text = 'gpus;engine;sizes;throughput\n1;0.7.2;"1,2,4";100,5\n2;0.8;"1,2";180,5\n'
    settings = [dict(c.engine) for c in load(tmp_path, text).rows]
    assert [(s["engine"], s["sizes"]) for s in settings] == [("0.7.2", "1,2,4"), (0.8, "1,2")]


R19 = "memory,blocks,elapsed_time,num_requests,total_num_tokens,requests_per_second,status,throughput\n" + "".join(
    f"0.{i},{2**i},{100 + i}.125,1000,400000,{i}.{i}25,OK,{i}00\n" for i in range(4, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "gpus,batch,throughput\n,,tok/s\n1,8,100\n2,8,180\n", ["line 2", "line of units"], id="units line"
        ),
        pytest.param(
            ",,latency,\ngpus,batch,p50,p99\n1,8,10,12\n2,8,9,11\n", ["line 2", "second header"], id="two header lines"
        ),
        pytest.param("gpus;batch;throughput\nint;int;float\n1;8;100\n2;8;180\n", ["line 2", "second"], id="types line"),
        pytest.param(PLAIN + "Average,,505\n", ["line 5", "'Average' looks like a summary"], id="averages at the end"),
        pytest.param(PLAIN + ",Total:,1515\n", ["line 5", "'Total:' looks like a summary"], id="a sum at the end"),
        pytest.param(PLAIN + "measured on Monday\n", ["line 5", "looks like a remark"], id="a remark without #"),
        pytest.param("Results of May\n" + PLAIN, ["line 1", "looks like a title"], id="a title"),
        pytest.param("1,8,100\n2,8,180\n2,16,300\n", ["line 1", "numbers (1, 8, 100)", "header"], id="no header"),
        pytest.param("# " + PLAIN, ["numbers", "take the # from the line"], id="the header behind a #"),
        pytest.param(PLAIN.replace("batch", ""), ["column 2 (8, 8, 16) has no name"], id="a column without a name"),
        pytest.param(PLAIN.replace("batch", "gpus"), ["two columns are called 'gpus'"], id="a name twice"),
        pytest.param(
            "gpus;throughput\n1;1,234\n2;2,345\n", ["'1,234' may have a decimal comma or thousands"], id="either comma"
        ),
        pytest.param(
            "gpus,accuracy.mmlu,throughput\n1,68%,1\n2,0.67,2\n",
            ["'68%' has a percent sign and '0.67' has none"],
            id="%",
        ),
        pytest.param(PLAIN.replace("180.5", "180 tok/s"), ["'180 tok/s' is not a measurement"], id="unit in a cell"),
        pytest.param(PLAIN.replace("180.5", "180 ± 4"), ["'180 ± 4' is not a measurement"], id="spread in a cell"),
        pytest.param(
            "gpus,run,throughput\n" + "".join(f"{i % 2 + 1},r-{i},{i}\n" for i in range(12)),
            ["column 'run' has a different text on nearly every line"],
            id="names of runs",
        ),
        pytest.param(
            "gpus,mean_ttft,throughput\n1,1.125,1\n2,2.25,2\n1,1.125,1\n2,2.25,2\n", ["'mean_ttft'"], id="name"
        ),
        pytest.param(
            "gpus,power,throughput\n1,200,1\n2,FAILED,2\n4,250,1\n", ["'power' holds results and f"], id="both"
        ),
        pytest.param(b"PK\x03\x04rest", ["a spreadsheet or another zip"], id="Excel"),
        pytest.param('[{"gpus": 1}]', ["is JSON"], id="JSON"),
        pytest.param("| gpus | t |\n|---|---|\n| 1 | 2 |\n", ["a Markdown table"], id="Markdown"),
        pytest.param("version https://git-lfs.github.com/spec/v1\n", ["git LFS"], id="a pointer"),
        pytest.param(b"gpus,t\n\xe9,1\n", ["CSV in UTF-8"], id="Latin-1"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_reason(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    with pytest.raises(TableError) as caught:
        load(tmp_path, text)
    for words in said:
        assert words in str(caught.value)


def test_results_beside_failed_rows_are_refused_and_named(tmp_path: Path) -> None:
    """R19: empty cells turned the guard off, and results became settings."""
    with pytest.raises(TableError) as caught:
        load(tmp_path, R19 + "0.5,256,,,,,FAILED,\n", baseline=["memory=0.4"])
    said = str(caught.value)
    assert "'elapsed_time' has a different number on nearly every line" in said
    assert "'requests_per_second' has a different number on nearly every line" in said
    assert "'status' says how trials ended (FAILED, OK), which trial:failure is for" in said


def test_rows_that_failed_are_failures_once_their_status_is_left_out(tmp_path: Path) -> None:
    """R19, as its refusal says to go on."""
    table = load(
        tmp_path,
        R19 + "0.5,256,,,,,FAILED,\n",
        baseline=["memory=0.4"],
        ignore=["elapsed_time", "status"],
        metric=["requests_per_second=requestRate"],
    )
    failed = table.rows[Configuration.of(blocks=256, memory=0.5)]
    assert failed.failure is not None
    assert failed.failure.reason is FailureReason.ENGINE_LOAD_FAILED
