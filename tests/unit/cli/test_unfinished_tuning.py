"""`haqa report` and `haqa show` while a tuning runs or after it was interrupted: what is recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from tests.builders import TrialBuilder, make_baseline, make_trial, make_tuning
from typer.testing import CliRunner

from haqa_operator.api import TrialPhase
from haqa_operator.cli import app
from haqa_operator.local.journal import Journal

TUNING = make_tuning().on_pool("here", hardware={"vendor": "cpu"})


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tuning.yaml"
    file.write_text(yaml.safe_dump(TUNING.document()))
    return file


def record(out: Path, *trials: TrialBuilder, run: str = "0123456789ab", pool: str = "here") -> Path:
    """A journal as a tuning leaves it that was killed."""
    journal = Journal(out / "demo" / pool / run / "journal.jsonl")
    journal.started(100.0)
    for builder in trials:
        trial = builder.obj()
        journal.proposed(trial)
        if trial.status.phase.finished:
            journal.finished(trial)
    journal.close()
    return journal.path


BASELINE = make_baseline().throughput(100, margin=1)
FASTER = make_trial(1).tried("W8A8-INT8").throughput(150, margin=1)
RUNNING = make_trial(2).tried("FP8-DYNAMIC").pending()


def test_a_tuning_without_an_end_shows_its_trials_and_how_to_go_on(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record(out, BASELINE, FASTER, RUNNING)
    code, output = run("report", file, "--out", out)
    assert code == 0, output
    assert "so far; the search has not ended" in output
    assert "W8A8-INT8" in output
    assert "not finished" in output
    assert "pool here: still running or interrupted: 3 trials recorded, 2 of them finished; " in output
    assert f"go on with `haqa tune {file}`" in output


def test_its_page_is_written_and_no_manifest_that_nothing_has_settled(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record(out, BASELINE, FASTER)
    run("report", file, "--out", out)
    page = (out / "demo" / "report.html").read_text()
    assert "so far: the search has not ended" in page
    assert "configurations could have been tried" not in page
    assert sorted(path.name for path in (out / "demo").iterdir()) == ["here", "report.html"]


@pytest.mark.parametrize(("trial", "says"), [("1", "W8A8-INT8"), ("demo-here-002", "not finished")])
def test_one_of_its_trials_is_shown_as_far_as_it_is(file: Path, tmp_path: Path, trial: str, says: str) -> None:
    out = tmp_path / "out"
    record(out, BASELINE, FASTER, RUNNING)
    code, output = run("show", file, trial, "--out", out)
    assert code == 0, output
    assert says in output
    assert "still running or interrupted" in output


def test_before_the_first_trial_there_is_only_a_start(file: Path, tmp_path: Path) -> None:
    record(tmp_path / "out")
    code, output = run("report", file, "--out", tmp_path / "out")
    assert code == 0, output
    assert "pool here: still running or interrupted: no trial recorded; go on with" in output


def test_the_json_has_the_trials_and_no_reason_to_have_stopped(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record(out, BASELINE, RUNNING)
    code, output = run("report", file, "--out", out, "--json")
    assert code == 0, output
    (pool,) = json.loads(output)["report"]["pools"]
    assert pool.get("stopped", "") == ""
    assert [trial["status"]["phase"] for trial in pool["trials"]] == [TrialPhase.SUCCEEDED, TrialPhase.PENDING]


def test_of_several_runs_the_last_counts(file: Path, tmp_path: Path) -> None:
    """A run whose results cannot be compared, of another workload for one, lies beside it."""
    out = tmp_path / "out"
    earlier = record(out, BASELINE, FASTER, run="aaaaaaaaaaaa")
    os.utime(earlier, (1000, 1000))
    record(out, BASELINE, run="bbbbbbbbbbbb")
    _, output = run("report", file, "--out", out)
    assert "1 trial recorded, 1 of them finished" in output


def test_a_pool_that_has_ended_keeps_its_answer_beside_one_that_has_not(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(TUNING.on_pool("there", hardware={"vendor": "cpu"}).document()))
    record(out, BASELINE, FASTER)
    code, output = run("report", file, "--out", out, "--json")
    assert code == 0, output
    report = json.loads(output)["report"]
    report["pools"][0]["stopped"] = "the budget of 2 trials is spent"
    (out / "demo" / "report.json").write_text(json.dumps(report))
    there = record(out, BASELINE, RUNNING, pool="there")
    os.utime(there, (report["created"] + 5, report["created"] + 5))
    code, output = run("report", file, "--out", out)
    assert code == 0, output
    assert "pool here: still running" not in output
    assert "pool there: still running or interrupted: 2 trials recorded, 1 of them finished" in output
    assert json.loads((out / "demo" / "report.json").read_text()) == report


def test_a_tuning_that_has_ended_does_not_say_that_it_has_not(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record(out, BASELINE, FASTER)
    _, output = run("report", file, "--out", out, "--json")
    report = json.loads(output)["report"]
    report["pools"][0]["stopped"] = "the budget of 2 trials is spent"
    (out / "demo" / "report.json").write_text(json.dumps(report))
    code, output = run("report", file, "--out", out)
    assert code == 0, output
    assert "interrupted" not in output
    assert "not ended" not in output
