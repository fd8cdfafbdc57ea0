"""One value changes, and no other byte of the file."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haqa_operator.gitops.formats.yaml_text import Step, YamlPatchError, appended, value_at, with_value

Path = tuple[Step, ...]

CHANGED: tuple[tuple[str, Path, Any, str], ...] = (
    ("a: 1  # one\nb: 2\n", ("a",), 3, "a: 3  # one\nb: 2\n"),
    ("a: 'x'\n", ("a",), "y: z", "a: 'y: z'\n"),
    ("a:\nb: 2\n", ("a",), 3, "a: 3\nb: 2\n"),
    ("a:   # none yet\nb: 2\n", ("a",), ["x"], "a: # none yet\n  - x\nb: 2\n"),
    ("a: [1]  # list\nb: 2\n", ("a",), ["x"], "a: # list\n  - x\nb: 2\n"),
    ("a: {b: [1, 2], c: 3}\n", ("a", "b"), ["x"], 'a: {b: ["x"], c: 3}\n'),
    ("a: {b: 1}\n", ("a", "c"), "x", 'a: {b: 1, "c": "x"}\n'),
    ("a: {}\nb: 2\n", ("a", "c"), "x", "a:\n  c: x\nb: 2\n"),
    (
        "a:\n    args:\n        - --old  # why\n        - --older\n    # of the replicas\n    replicas: 2\n",
        ("a", "args"),
        ["--new=1"],
        "a:\n    args:\n        - --new=1\n    # of the replicas\n    replicas: 2\n",
    ),
    ("a:\n- x\n# tail\n", ("b",), ["z"], "a:\n- x\nb:\n- z\n# tail\n"),
    ("a:\n- x\nb: {}\n", ("b",), ["z"], "a:\n- x\nb:\n- z\n"),
    ("a:\n  - x\nb: 1\n", ("b",), ["z"], "a:\n  - x\nb:\n  - z\n"),
    ("c:\n- 0\nd: 1\n", ("c",), {"a": 0}, "c:\n  a: 0\nd: 1\n"),
    (
        "list:\n  - name: x\n    env: []\n  - name: y\n",
        ("list", 0, "env"),
        [{"k": 1}],
        ("list:\n  - name: x\n    env:\n      - k: 1\n  - name: y\n"),
    ),
    ("list:\n  - name: x\n  - name: y\n", ("list", 1, "env"), "z", "list:\n  - name: x\n  - name: y\n    env: z\n"),
    ("list:\n  - x\n  - y\n", ("list", 0), "z", "list:\n  - z\n  - y\n"),
    ("a:\n  b: 1\n", ("a",), "x", "a: x\n"),
    ("a:\n  b: 1\n", ("a",), [], "a: []\n"),
    ("a:\n  b: 1\nc: 2\n", ("a", "d", "e"), "x", "a:\n  b: 1\n  d:\n    e: x\nc: 2\n"),
    ("# nothing\n", ("a",), 1, "# nothing\na: 1\n"),
    ("", ("a", "b"), [1], "a:\n  b:\n  - 1\n"),
    ("a: 1", ("b",), 2, "a: 1\nb: 2\n"),
    ("a: 1\r\nb: 2\r\n", ("a",), [3], "a:\r\n  - 3\r\nb: 2\r\n"),
    ("a: |\n  text\n\nb: 2\n", ("a",), "x", "a: x\n\nb: 2\n"),
    ("---\na: 1\n", ("a",), 2, "---\na: 2\n"),
    ("a: yes\n", ("a",), "yes", "a: 'yes'\n"),
    ("base: &b\n  x: 1\na:\n  <<: *b\n", ("a", "x"), 2, "base: &b\n  x: 1\na:\n  <<: *b\n  x: 2\n"),
)


@pytest.mark.parametrize(("text", "path", "value", "expected"), CHANGED)
def test_a_value_is_replaced_where_it_stands(text: str, path: Path, value: Any, expected: str) -> None:
    assert with_value(text, path, value) == expected
    assert value_at(expected, path) == value
    assert with_value(expected, path, value) == expected, "once more changes nothing"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("a: 1\n", ("a", "b"), "b would be inside something that is no mapping"),
        ("a: {b: 1}\n", ("a", 0), "0 would be inside something that is no list"),
        ("a: [1]\n", ("a", 3), "the list has 1 entries and no [3]"),
        ("b: &x [1]\na: *x\n", ("a",), "a is an alias"),
        ("a: &x [1]\nb: *x\n", ("a",), "cannot be changed safely"),
        ("a: 1\na: 2\n", ("a",), "cannot be changed safely"),
        ("a: 1\n---\nb: 2\n", ("a",), "not one YAML document"),
        ("a: [\n", ("a",), "not one YAML document"),
        ("{{ template }}\n", ("a",), "not one YAML document"),
        ("- a\n", ("a",), "a would be inside something that is no mapping"),
    ],
)
def test_what_cannot_be_replaced_is_said(text: str, path: Path, says: str) -> None:
    with pytest.raises(YamlPatchError) as raised:
        with_value(text, path, [2])
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r:\n- a  # first\n# tail\nx: 1\n", "r:\n- a  # first\n- new.yaml\n# tail\nx: 1\n"),
        ("r:\n  - a\n  - b", "r:\n  - a\n  - b\n  - new.yaml\n"),
        ("r: [a, b]  # two\n", "r: [a, b, new.yaml]  # two\n"),
        ("r: []\n", "r:\n  - new.yaml\n"),
        ("x: 1\n", "x: 1\nr:\n- new.yaml\n"),
        ("r:\n- a:\n    b: 1\n\nx: 1\n", "r:\n- a:\n    b: 1\n- new.yaml\n\nx: 1\n"),
    ],
)
def test_an_entry_is_added_behind_the_last(text: str, expected: str) -> None:
    assert appended(text, ("r",), "new.yaml") == expected


_SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab:#'-[]{}, \n\"&*!|>%@0e1", max_size=6))
_KEYS = st.sampled_from(["a", "b", "c", "d"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.lists(_KEYS, min_size=1, max_size=3), _VALUES, st.booleans())
def test_the_result_is_what_was_asked_for_or_it_is_refused(
    document: dict[str, Any], path: list[str], value: Any, flow: bool
) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, sort_keys=False)
    try:
        patched = with_value(text, path, value)
    except YamlPatchError as error:
        assert "would be inside" in str(error)  # noqa: PT017
        return
    assert value_at(patched, path) == value
    for key in document.keys() - {path[0]}:
        assert value_at(patched, (key,)) == document[key]
