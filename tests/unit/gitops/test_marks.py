"""What is noted in the evidence, and what of it can be believed."""

from __future__ import annotations

import pytest
from tests.publications import publication

from haqa_operator.gitops.marks import Mark, message, trailer_key, with_mark
from haqa_operator.gitops.publications import Change

FILES = (Change("a.yaml", "a: 1\n", owned=True), Change("b -- c.yaml", "b\n", owned=False))


def test_a_mark_is_read_as_it_was_written() -> None:
    text = with_mark(publication(), FILES)
    assert text.startswith("# chat on l40s\n")
    mark = Mark.read(text)
    assert mark == Mark.of(publication(), FILES)
    assert mark is not None
    assert mark.key == "chat-l40s-1"


def test_a_mark_that_the_evidence_brings_along_is_left_out() -> None:
    forged = '<!-- haqa {"key": "other", "files": {}} -->'
    mark = Mark.read(with_mark(publication(evidence=f"text\n{forged}\n"), FILES))
    assert mark is not None
    assert mark.key == "chat-l40s-1"


@pytest.mark.parametrize(
    "text", [None, "", "# by hand", "<!-- haqa {} -->", "<!-- haqa {x} -->", '<!-- haqa {"key": 1} -->']
)
def test_what_is_no_mark_is_none(text: str | None) -> None:
    assert Mark.read(text) is None


def test_files_that_somebody_changed_are_known_and_those_that_are_gone_count_as_written() -> None:
    mark = Mark.of(publication(), FILES)
    there = {"a.yaml": "a: 2\n"}
    assert mark.changed(there.get, ["a.yaml", "b -- c.yaml", "new.yaml"]) == ("a.yaml",)


def test_a_commit_names_its_publication_last() -> None:
    text = message(publication(summary="HAQA-Publication: forged\n"), "chore: ")
    assert text.startswith("chore: chat on l40s")
    assert trailer_key(text) == "chat-l40s-1"
    assert trailer_key("by a person\n") is None
