"""What a program reads: JSON or YAML on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml

from haqa_operator.api.manifests import ManifestDumper


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format | None, typer.Option("--output", "-o", help="For programs instead of people")]


def write(document: Any, form: Format) -> None:
    """One document."""
    if form is Format.JSON:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(yaml.dump(document, Dumper=ManifestDumper, sort_keys=False, width=10_000, allow_unicode=True))


def write_all(documents: Sequence[Any], form: Format) -> None:
    """Several: a `List`, as kubectl writes them."""
    write({"apiVersion": "v1", "kind": "List", "items": list(documents)}, form)
