"""On a machine with accelerators: what a run is measured with is said, and read from what it has left."""

from __future__ import annotations

from pathlib import Path

from tests.builders import make_baseline, make_tuning

from haqa_contract import Configuration, EngineLaunch, ModelSource, TrialRequest, Workload
from haqa_operator.local.journal import Journal
from haqa_operator.local.measured_with import recorded_in, recorded_with
from haqa_operator.local.unfinished import unfinished_results
from haqa_operator.local.workspace import Workspace

LEVELS = Workload(concurrency=(1, 8, 64))


def run_of(workspace: Workspace, fingerprint: str, workload: Workload) -> Path:
    """A run with a baseline that was measured so."""
    journal = Journal(workspace.journal("here", fingerprint))
    journal.started(1.0)
    journal.finished(make_baseline().throughput(10).obj())
    journal.close()
    folder = workspace.trial("here", fingerprint, "demo-here-000")
    folder.mkdir(parents=True)
    request = TrialRequest(
        tuning="demo",
        trial="demo-here-000",
        pool="here",
        model=ModelSource(uri="file:///model"),
        configuration=Configuration(),
        workload=workload,
        engine=EngineLaunch(args=(), served_model_name="demo", port=8000),
        store="/store",
        directory=str(folder),
        cache="/cache",
    )
    (folder / "request.json").write_text(request.model_dump_json())
    return workspace.run("here", fingerprint)


def test_what_a_run_was_measured_with_is_in_its_requests(tmp_path: Path) -> None:
    workspace = Workspace.of(tmp_path, "demo")
    run = run_of(workspace, "a", LEVELS)
    found = recorded_in(run)
    assert found is not None
    assert found.workload == LEVELS
    assert [one.workload for one in recorded_with(workspace, "here")] == [LEVELS]


def test_a_request_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    workspace = Workspace.of(tmp_path, "demo")
    run = run_of(workspace, "a", LEVELS)
    (run / "trials" / "demo-here-000" / "request.json").write_text("{}")
    assert recorded_in(run) is None
    assert list(recorded_with(workspace, "here")) == []


def test_a_report_of_an_unfinished_run_has_its_levels(tmp_path: Path) -> None:
    workspace = Workspace.of(tmp_path, "demo")
    run_of(workspace, "a", LEVELS)
    (found,) = unfinished_results(make_tuning().on_pool("here").obj(), workspace, since=0)
    assert found.measured_with is not None
    assert found.measured_with.workload.concurrency == (1, 8, 64)
