"""A tuning file becomes a `QuantizationTuning`, or a list of sentences that say what to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from haqa_operator.api.status import TuningStatus
from haqa_operator.api.tuning import QuantizationTuning


class SpecError(Exception):
    """The tuning cannot be run as written. `problems` has one sentence for each thing to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise SpecError([f"line {line}: {key!r} is written twice in the same place; keep one of them"])
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_tuning(path: Path) -> QuantizationTuning:
    """Reads and checks a tuning file.

    Raises:
        SpecError: with every problem found, each naming field, value and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([f"{path}: no such file; give the path of a QuantizationTuning YAML file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"{path}: cannot be read ({error})"]) from None
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506, a SafeLoader
    except yaml.YAMLError as error:
        raise SpecError([f"{path}: not valid YAML: {error}"]) from None
    if isinstance(document, dict):
        # Of `kubectl get -o yaml`: it says how the tuning went, not what is asked for.
        document.pop("status", None)
    return parse_tuning(document)


def parse_tuning(document: Any) -> QuantizationTuning:
    """Checks an already parsed document; raises `SpecError` like `load_tuning`."""
    if not isinstance(document, dict):
        raise SpecError([f"the file holds {type(document).__name__}, not a QuantizationTuning; see `haqa schema`"])
    try:
        return QuantizationTuning.model_validate(document)
    except ValidationError as error:
        raise SpecError(list(sentences(error, document))) from None


def parse_status(document: Any) -> TuningStatus:
    """The status of a tuning, whatever its spec is; the empty one where there is none that can be read."""
    try:
        return TuningStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return TuningStatus()


def sentences(error: ValidationError, document: Any) -> Iterator[str]:
    """Pydantic's errors, each as `path: value: what is wrong and what to do`."""
    seen: set[str] = set()
    found = error.errors(include_url=False)
    for item in found:
        inner = (other["loc"] for other in found if len(other["loc"]) > len(item["loc"]))
        if item["type"] == "too_short" and any(other[: len(item["loc"])] == item["loc"] for other in inner):
            continue  # Its entries are wrong, and pydantic counts none of those.
        # An unknown field may have any name, also that of a branch.
        last = item["loc"][-1:] if item["type"] == "extra_forbidden" else ()
        within = item["loc"][: len(item["loc"]) - len(last)]
        loc = (*(part for part in within if not _is_union_branch(part)), *last)
        where = _path(loc) or "the file"
        text = _sentence(item, where, loc)
        if text not in seen:
            seen.add(text)
            yield text


def _sentence(item: Any, where: str, loc: tuple[int | str, ...]) -> str:
    value = item.get("input")
    match item["type"]:
        case "missing":
            return f"{where} is missing; every tuning needs it"
        case "extra_forbidden":
            known = _fields_at(loc[:-1])
            close = difflib.get_close_matches(str(loc[-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            return f"{where}: unknown field (value {_short(value)}); {hint}"
        case "value_error":
            return f"{where}: {item['ctx']['error']}"
        case _:
            message = item["msg"][0].lower() + item["msg"][1:]
            return f"{where}: {_short(value)} is not allowed: {message}"


def _is_union_branch(part: int | str) -> bool:
    """Pydantic names the branch of a union in the location (`Objective`, `tuple[Objective, ...]`)."""
    return isinstance(part, str) and (part in _branches() or "[" in part)


@cache
def _branches() -> frozenset[str]:
    """Names of the models that a tuning consists of."""
    found: set[type[BaseModel]] = set()
    left: list[type[BaseModel]] = [QuantizationTuning]
    while left:
        model = left.pop()
        if model not in found:
            found.add(model)
            left += [one for field in model.model_fields.values() for one in _models_in(field.annotation)]
    return frozenset(model.__name__ for model in found)


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that a location of the resource may have, as written in YAML."""
    model: Any = QuantizationTuning
    for part in loc:
        if isinstance(part, int):
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        found = _model_in(field.annotation) if field else None
        if found is None:
            return []
        model = found
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return next(_models_in(annotation), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _models_in(inner)
