"""What the documents show is there: tunings that can be applied, links that lead somewhere, code where they say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from haqa_operator.api.loading import parse_tuning
from haqa_operator.cluster.act.reconciler import spec_problems

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown() -> list[tuple[str, dict[str, object]]]:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [(file.name, block) for file in documents for block in _BLOCK.findall(file.read_text())]
    loaded = [(name, yaml.safe_load(block)) for name, block in blocks]
    return [(name, one) for name, one in loaded if isinstance(one, dict) and one.get("kind") == "QuantizationTuning"]


@pytest.mark.parametrize(("name", "manifest"), shown(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_tuning_in_a_document_can_be_applied(name: str, manifest: dict[str, object]) -> None:
    assert spec_problems(parse_tuning(manifest)) == []


def test_there_is_one() -> None:
    assert shown()


DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "charts/haqa/README.md"]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<path>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_STEP = re.compile(r"`(?P<path>[\w/]+\.py):(?P<name>[\w.]+)`")


def links(document: Path) -> list[tuple[str, str | None]]:
    """Relative ones: (path, anchor)."""
    found = _LINK.finditer(_CODE.sub("", document.read_text()))
    return [(link["path"], link["anchor"]) for link in found if link["path"] or link["anchor"]]


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    without_code = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(without_code)}


def id_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=id_of)
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for path, anchor in links(document):
        target = (document.parent / path).resolve() if path else document
        if not target.is_file() or (anchor is not None and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def test_links_and_headings_are_found() -> None:
    assert ("docs/tutorial.md", None) in links(ROOT / "README.md")
    assert ("installing.md", "upgrading") in links(ROOT / "docs/releasing.md")
    assert "upgrading" in anchors(ROOT / "docs/installing.md")


def names_in(source: str) -> Iterator[str]:
    """Functions and classes of a module, methods as `Class.method`."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.parse(source).body:
        if isinstance(node, (*functions, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{item.name}" for item in node.body if isinstance(item, functions))


STEPS = [(step["path"], step["name"]) for step in _STEP.finditer((ROOT / "docs/architecture.md").read_text())]


@pytest.mark.parametrize(("path", "name"), STEPS)
def test_every_step_of_the_architectures_journeys_is_in_the_code(path: str, name: str) -> None:
    root = ROOT / ("runner" if path.startswith(("haqa_contract/", "haqa_runner/")) else "operator/haqa_operator")
    assert name in set(names_in((root / path).read_text()))


def test_each_journey_has_steps() -> None:
    assert len(STEPS) > 20


@pytest.mark.parametrize("record", DECISIONS, ids=id_of)
def test_a_decision_has_a_status_with_a_date_and_a_row_in_the_index(record: Path) -> None:
    number, text = int(record.name[:4]), record.read_text()
    title = re.match(rf"# {number}\. (.+)\n\n\*\*Status\.\*\* (\w+)[^\n]*, (\d{{4}}-\d{{2}}-\d{{2}})\.\n", text)
    assert title is not None, "begins with `# N. Title` and `**Status.** Accepted, YYYY-MM-DD.`"
    row = f"| [{number}. {title[1]}]({record.name}) | {title[2]} | {title[3]} |"
    assert row in (ROOT / "docs/decisions/README.md").read_text()
