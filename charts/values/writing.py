"""The chart's files that are made from the models of its values: values.yaml, its schema, its table in the docs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from charts.values.models import ChartValues
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from haqa_operator.api.manifests import ManifestDumper
from haqa_operator.api.structural import sentence

WIDTH = 120
VALUES, SCHEMA, DOCUMENT = "charts/haqa/values.yaml", "charts/haqa/values.schema.json", "docs/installing.md"

_YAML_HEAD = "# Made from charts/values/models.py by `make generate`; changes go there. What is not here is refused.\n"
_TABLE = re.compile(r"(<!-- values -->\n).*?(<!-- end -->)", re.DOTALL)
_TABLE_HEAD = "| value | meaning | default |\n|---|---|---|\n"


def generated_files(root: Path) -> dict[str, str]:
    """Path below the checkout -> content."""
    document = (root / DOCUMENT).read_text(encoding="utf-8")
    return {
        VALUES: values_yaml(ChartValues()),
        SCHEMA: json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n",
        DOCUMENT: _TABLE.sub(lambda match: match[1] + values_table(ChartValues()) + match[2], document),
    }


def values_yaml(values: ChartValues) -> str:
    """As a person would write them: each value below its comment, sections apart."""
    return _YAML_HEAD + "".join(_lines(values, 0))


def _lines(section: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value, about in _entries(section):
        if depth == 0 and (about or isinstance(value, BaseModel)):
            yield "\n"
        if about:
            width = WIDTH - len(indent) - 2
            yield textwrap.indent(textwrap.fill(about, width, break_on_hyphens=False), f"{indent}# ") + "\n"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:\n"
            yield from _lines(value, depth + 1)
        else:
            yield _assigned(name, value, indent)


def _assigned(name: str, value: Any, indent: str) -> str:
    """In one line where it fits."""
    if not isinstance(value, dict) or not value:
        line = f"{indent}{name}: {_flow(value)}\n"
        if len(line) <= WIDTH or not isinstance(value, list):
            return line
    return textwrap.indent(yaml.dump({name: value}, Dumper=_Dumper, sort_keys=False), indent)


def _flow(value: Any) -> str:
    """A word as it is; other text in quotes, so that nobody has to know what YAML makes of it."""
    if isinstance(value, str) and value and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


class _Dumper(ManifestDumper):
    """Lists below their key are indented, and quotes are double ones."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        return '"' if style == "'" else style


class _Plain(GenerateJsonSchema):
    """Titles and defaults say nothing that values.yaml does not."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def values_schema() -> dict[str, Any]:
    """A JSON schema of draft 7, the one that every Helm 3 knows."""
    made = ChartValues.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Plain)
    definitions = made.pop("$defs")
    for model in (made, *definitions.values()):
        del model["title"]
    # Helm hands these to every chart.
    made["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made, "definitions": definitions}


def values_table(values: ChartValues) -> str:
    """A row for every value, and one for a section of which something is said."""
    return _TABLE_HEAD + "".join(_rows(values, ""))


def _rows(section: BaseModel, above: str) -> Iterator[str]:
    for name, value, about in _entries(section):
        if isinstance(value, BaseModel):
            if about:
                yield _row(f"{above}{name}", about, "")
            yield from _rows(value, f"{above}{name}.")
        else:
            yield _row(f"{above}{name}", about, _default(value))


def _row(*cells: str) -> str:
    name, *others = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join((f'`{name}`', *others))} |\n"


def _default(value: Any) -> str:
    flow = _flow(value)
    return f"`{flow}`" if len(flow) <= WIDTH and not (isinstance(value, Mapping) and value) else "see `values.yaml`"


def _entries(section: BaseModel) -> Iterator[tuple[str, Any, str]]:
    """Name, value and docstring of each field, the latter as a sentence."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        shown = list(value) if isinstance(value, tuple) else value
        yield field.alias or name, shown, sentence(field.description or "")
