"""What a task's accuracy does not say by itself: that its prompts were shortened."""

from __future__ import annotations

from haqa_runner.measure.cut_prompts import CutPrompts


def words(text: str) -> int:
    return len(text.split())


def test_documents_are_counted_once_and_the_longest_prompt_is_named() -> None:
    cut = CutPrompts(8)
    for document, length in enumerate((3, 9, 20, 7)):
        for choice in range(4):
            cut.asked("cloze", document, "word " * (length + choice), room=7, count=words)
    (sentence,) = cut.warnings()
    assert sentence.startswith("evaluation.tasks cloze: prompts of 3 of 4 documents were cut from the left")
    assert "the longest has 23 tokens and the engine's max-model-len is 8" in sentence


def test_every_task_has_its_own_sentence_and_one_that_fits_has_none() -> None:
    cut = CutPrompts(8)
    for task, length in (("b", 9), ("a", 9), ("short", 2)):
        cut.asked(task, 0, "word " * length, room=7, count=words)
    assert [sentence.split(":")[0] for sentence in cut.warnings()] == ["evaluation.tasks a", "evaluation.tasks b"]


def test_a_prompt_of_exactly_the_room_is_whole() -> None:
    cut = CutPrompts(8)
    cut.asked("a", 0, "word " * 7, room=7, count=words)
    assert cut.warnings() == ()


def test_a_text_that_cannot_be_too_long_is_not_encoded() -> None:
    def never(text: str) -> int:
        raise AssertionError(f"encoded {text!r}")

    CutPrompts(1024).asked("a", 0, "short", room=1000, count=never)
