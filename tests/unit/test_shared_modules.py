"""What tests share is in modules of its own, so that every module of tests can be read, moved and run alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_TEST_MODULE = re.compile(
    r"^\s*(?:from tests\.(?:\w+\.)*test_\w+ import|from tests[\w.]* import .*\btest_\w+|import tests\.(?:\w+\.)*test_)"
)


def imports_of_tests(source: str) -> list[str]:
    """Lines, those of programs in strings too, that import a module of tests."""
    return [line.strip() for line in source.splitlines() if _TEST_MODULE.match(line)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from tests.unit.metrics.test_summary import window", True),
        ("    from tests.unit.metrics.test_summary import window", True),
        ("import tests.unit.metrics.test_summary as windows", True),
        ("from tests.unit.metrics import test_summary", True),
        ("from tests.unit.metrics.windows import window", False),
        ("from tests.tiny_model import write", False),
    ],
)
def test_an_import_is_recognized(line: str, found: bool) -> None:
    assert bool(imports_of_tests(line)) == found


def test_no_module_of_tests_is_imported() -> None:
    sources = {path.relative_to(TESTS): path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__)}
    assert sources
    assert {str(path): found for path, source in sources.items() if (found := imports_of_tests(source))} == {}
