"""Changes one value in the text of a YAML file and leaves every other byte alone.

Writing a file back out of a parser, ruamel.yaml's round trip too, indents lists anew and drops the comments behind a
list that was replaced, since they belong to its last entry. Here the parser only says where a value begins and ends.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from haqa_operator.api.manifests import ManifestDumper

Step: TypeAlias = str | int
"""A key of a mapping, or an index into a list."""


class YamlPatchError(Exception):
    """The value cannot be replaced; the message says what is in the way."""


def value_at(text: str, path: Sequence[Step]) -> Any:
    """The value; None where there is none.

    Raises:
        YamlPatchError: the text is no YAML document.
    """
    found = _loaded(text)
    for step in path:
        if isinstance(found, dict) and isinstance(step, str):
            found = found.get(step)
        elif isinstance(found, list) and isinstance(step, int) and step < len(found):
            found = found[step]
        else:
            return None
    return found


def with_value(text: str, path: Sequence[Step], value: Any) -> str:
    """The text with this value at the path; keys on the way are made where they are missing.

    Raises:
        YamlPatchError: something else is in the way, or the result would not be what was asked for.
    """
    before = _loaded(text)
    expected = _set(copy.deepcopy(before), path, value)
    if _same(expected, before):
        return text
    return _checked(_patched(text, path, value), text, expected)


def appended(text: str, path: Sequence[Step], entry: Any) -> str:
    """The text with one more entry in the list at the path.

    Raises:
        YamlPatchError: see `with_value`.
    """
    there = value_at(text, path)
    if not there:
        return with_value(text, path, [entry])
    node, flow = _find(text, path)
    assert isinstance(node, yaml.SequenceNode)
    if node.flow_style or flow:
        at = node.value[-1].end_mark.index
        patched = f"{text[:at]}, {_inline(entry)}{text[at:]}"
    else:
        at = _end_of_line(text, _end(text, node))
        indent = " " * node.start_mark.column
        patched = _with_lines(text, at, _indented(yaml.dump([entry], Dumper=ManifestDumper), indent))
    expected = _set(_loaded(text), path, [*there, entry])
    return _checked(patched, text, expected)


@dataclass(frozen=True)
class _Pair:
    """Where a value stands: behind its key, or behind the dash of a list."""

    column: int
    colon: int


def _patched(text: str, path: Sequence[Step], value: Any) -> str:
    root = _composed(text)
    if root is None:
        return _with_lines(text, len(text), _block(_nested(path, value)))
    node, flow, pair = root, False, _Pair(-2, 0)
    for at, step in enumerate(path):
        inside = flow or bool(getattr(node, "flow_style", False))
        if isinstance(node, yaml.MappingNode) and isinstance(step, str):
            found = next((one for one in node.value if one[0].value == step), None)
            if found is None:
                added = _nested(path[at:], value)
                return _with_key(text, node, inside, added) if node.value else _replaced(text, node, flow, pair, added)
            key, inner = found
            if inner.start_mark.index < key.end_mark.index:
                raise YamlPatchError(f"{step} is an alias of another value")
            pair = _Pair(key.start_mark.column, text.index(":", key.end_mark.index) + 1)
            node = inner
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                raise YamlPatchError(f"the list has {len(node.value)} entries and no [{step}]")
            node = node.value[step]
            pair = _Pair(node.start_mark.column - 2, node.start_mark.index)
        elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return _replaced(text, node, flow, pair, _nested(path[at:], value))
        else:
            raise YamlPatchError(f"{step} would be inside something that is no {_kind(step)}")
        flow = inside
    return _replaced(text, node, flow, pair, value)


def _kind(step: Step) -> str:
    return "list" if isinstance(step, int) else "mapping"


def _replaced(text: str, node: yaml.Node, flow: bool, pair: _Pair, value: Any) -> str:
    start, end = node.start_mark.index, _end(text, node)
    block_before = isinstance(node, yaml.CollectionNode) and not node.flow_style
    if flow or not _is_block(value):
        space = " " if text[start - 1 : start] == ":" else ""
        if block_before and pair.colon <= start and ":" in text[pair.colon - 1 : pair.colon]:
            return f"{text[: pair.colon]} {_inline(value)}{text[end:]}"
        return f"{text[:start]}{space}{_inline(value)}{text[end:]}"
    if block_before:
        column = node.start_mark.column
        line = text.rfind("\n", 0, start) + 1
        if isinstance(value, dict) and not text[line:start].strip():
            # A list may stand right below its key, a mapping may not.
            start, column = line, max(column, pair.column + 2)
            return f"{text[:start]}{_indented(_block(value), ' ' * column).rstrip()}{text[end:]}"
        return f"{text[:start]}{_indented(_block(value), ' ' * column).lstrip(' ').rstrip()}{text[end:]}"
    if text[pair.colon - 1 : pair.colon] != ":":  # the entry of a list
        indent = " " * node.start_mark.column
        return f"{text[:start]}{_indented(_block(value), indent).lstrip(' ').rstrip()}{text[end:]}"
    line_end = _end_of_line(text, end)
    comment = text[end:line_end].rstrip()
    comment = f" {comment.strip()}" if comment.strip() else ""
    shift = pair.column + (_list_offset(text) if isinstance(value, list) else 2)
    lines = _indented(_block(value), " " * max(shift, 0))
    return f"{text[: pair.colon]}{comment}\n{lines.rstrip()}{text[line_end:]}"


def _with_key(text: str, node: yaml.MappingNode, flow: bool, added: Any) -> str:
    if flow:
        key, inner = node.value[-1]
        at = max(key.end_mark.index, inner.end_mark.index)
        return f"{text[:at]}, {_inline(added)[1:-1]}{text[at:]}"
    key, inner = node.value[-1]
    last = _end(text, inner) if inner.start_mark.index >= key.end_mark.index else key.end_mark.index
    lines = _indented(_block(added), " " * node.start_mark.column)
    return _with_lines(text, _end_of_line(text, last), lines)


def _nested(path: Sequence[Step], value: Any) -> Any:
    for step in reversed(path):
        if isinstance(step, int):
            raise YamlPatchError(f"there is no list for [{step}]")
        value = {step: value}
    return value


def _set(document: Any, path: Sequence[Step], value: Any) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str) and (document is None or isinstance(document, dict)):
        document = document or {}
        return {**document, step: _set(document.get(step), rest, value)}
    if isinstance(step, int) and isinstance(document, list):
        if step >= len(document):
            raise YamlPatchError(f"the list has {len(document)} entries and no [{step}]")
        return [*document[:step], _set(document[step], rest, value), *document[step + 1 :]]
    raise YamlPatchError(f"{step} would be inside something that is no {_kind(step)}")


def _checked(patched: str, text: str, expected: Any) -> str:
    """What the parser reads in the result is what was asked for, or nothing is changed."""
    if "\r\n" in text:
        patched = patched.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        found = _loaded(patched)
    except YamlPatchError:
        found = None
    if not _same(found, expected):
        raise YamlPatchError("its YAML is written in a way that cannot be changed safely")
    return patched


def _same(one: Any, other: Any) -> bool:
    """Tells True from 1 and 1 from 1.0, which Python holds for equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _find(text: str, path: Sequence[Step]) -> tuple[yaml.Node, bool]:
    """The node, and whether anything around it is in flow style."""
    node, flow = _composed(text), False
    for step in path:
        flow = flow or bool(getattr(node, "flow_style", False))
        if isinstance(node, yaml.MappingNode):
            key, inner = next(one for one in node.value if one[0].value == step)
            if inner.start_mark.index < key.end_mark.index:
                raise YamlPatchError(f"{step} is an alias of another value")
            node = inner
        else:
            assert isinstance(node, yaml.SequenceNode)
            node = node.value[int(step)]
    assert node is not None
    return node, flow


def _end(text: str, node: yaml.Node) -> int:
    """Where the last thing of the node ends; a block's own mark is behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple):
            key, inner = last
            return _end(text, inner) if inner.start_mark.index >= key.end_mark.index else int(key.end_mark.index)
        return _end(text, last)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        start = int(node.start_mark.index)
        return start + len(text[start : node.end_mark.index].rstrip())
    return int(node.end_mark.index)


def _end_of_line(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found


def _with_lines(text: str, at: int, lines: str) -> str:
    """Whole lines behind the one that ends at `at`."""
    before, after = text[:at], text[at:]
    if before and not before.endswith("\n"):
        before += "\n"
        after = after.removeprefix("\n")
        return before + lines + after
    return before + lines + after


def _is_block(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _inline(value: Any) -> str:
    """On one line: JSON is YAML."""
    if isinstance(value, str):
        plain = yaml.dump(value, Dumper=ManifestDumper, width=10**6, allow_unicode=True).removesuffix("...\n").strip()
        return plain if "\n" not in plain and not set(plain) & set(",[]{}#") else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _block(value: Any) -> str:
    return yaml.dump(value, Dumper=ManifestDumper, sort_keys=False, width=10**6, allow_unicode=True)


def _indented(block: str, indent: str) -> str:
    return "".join(f"{indent}{line}" if line.strip() else line for line in block.splitlines(keepends=True))


def _list_offset(text: str) -> int:
    """How far the file indents a list behind its key: 0 or 2, as the first list does."""
    root = _composed(text)
    pending = [root] if root is not None else []
    while pending:
        node = pending.pop(0)
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                if isinstance(inner, yaml.SequenceNode) and not inner.flow_style and inner.value:
                    return max(0, int(inner.start_mark.column - key.start_mark.column))
                if inner.start_mark.index >= key.end_mark.index:
                    pending.append(inner)
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
    return 2


def _composed(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise YamlPatchError(f"it is not one YAML document ({_where(error)})") from error


def _loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise YamlPatchError(f"it is not one YAML document ({_where(error)})") from error


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)
