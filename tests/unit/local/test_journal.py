"""What was recorded survives whatever ends the process; what was not recorded whole is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import Configuration
from haqa_operator.api import Proposal, Proposer, Trial, TrialPhase, TrialStatus
from haqa_operator.local.journal import Journal, JournalBusyError, read_journal


def trial(number: int, phase: TrialPhase = TrialPhase.PENDING) -> Trial:
    return Trial(
        name=f"t-{number}",
        tuning="t",
        pool="p",
        number=number,
        proposal=Proposal(configuration=Configuration.of("W4A16", "rtn"), proposer=Proposer.GRID),
        status=TrialStatus(phase=phase),
    )


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.started(12.5)
    journal.proposed(trial(0))
    journal.finished(trial(0, TrialPhase.SUCCEEDED))
    journal.proposed(trial(1))
    state = journal.read()
    assert state.started == 12.5
    assert [t.status.phase for t in state.trials] == [TrialPhase.SUCCEEDED, TrialPhase.PENDING]


@pytest.mark.parametrize("kept", range(0, 1200, 37))
def test_a_journal_cut_at_any_byte_is_a_shorter_journal(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.proposed(trial(number))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    complete = whole[:kept].count(b"\n")
    assert len(read_journal(path).trials) == min(3, complete)
    reopened = Journal(path)
    reopened.proposed(trial(7))
    assert read_journal(path).trials[-1].number == 7
    assert len(read_journal(path).trials) == min(3, complete) + 1


def test_a_damaged_line_is_left_out_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.proposed(trial(number))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"W4A16", b"W4A17")
    path.write_bytes(b"".join(lines))
    assert [t.number for t in read_journal(path).trials] == [0, 2]


def test_two_processes_cannot_write_the_same_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(JournalBusyError, match="another `haqa tune` is working there"):
        Journal(tmp_path / "journal.jsonl")
    first.close()
    Journal(tmp_path / "journal.jsonl").close()
