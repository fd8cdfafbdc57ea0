"""Examples out of docs/, so that what is documented and what is tested cannot differ."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[2] / "docs"


def example(page: str, heading: str) -> dict[str, Any]:
    """The first YAML under a heading of a page."""
    section = (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    if found is None:
        raise LookupError(f"docs/{page} has no YAML under {heading!r}")
    parsed: dict[str, Any] = yaml.safe_load(found[1])
    return parsed
