import re

from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from haqa_operator.api.base import DNS_LABEL
from haqa_operator.serving.names import dns_label, label_value

NAMES = st.from_regex(DNS_LABEL, fullmatch=True)


def test_names_that_fit_stay_as_they_are() -> None:
    assert dns_label("llama", "l40s") == "llama-l40s"


def test_service_names_start_with_a_letter() -> None:
    assert dns_label("8b-chat", "cpu") == "haqa-8b-chat-cpu"


def test_long_names_are_cut_and_told_apart_by_a_hash() -> None:
    first, second = dns_label("a" * 70, "one"), dns_label("a" * 70, "two")
    assert first != second
    assert len(first) == len(second) == 63


@run(deadline=None)
@given(st.lists(st.one_of(NAMES, st.text()), min_size=1, max_size=3))
def test_any_name_becomes_a_dns_label_of_at_most_63_characters(parts: list[str]) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", dns_label(*parts))


@run(deadline=None)
@given(st.text())
def test_any_text_becomes_a_label_value(text: str) -> None:
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", label_value(text))
