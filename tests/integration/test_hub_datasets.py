"""Datasets of a hub by the real `datasets`: nothing but a repository's own files is read, whatever it says itself."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.runner_program import printed_by


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return printed_by("tests.integration.datasets_of_a_hub")


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        ("configs", ["from the repository"]),
        ("second", ["of another config"]),
        ("streamed", ["from the repository"]),
    ],
)
def test_a_repositorys_own_files_are_read(found: dict[str, Any], what: str, texts: list[str]) -> None:
    assert found[what] == {"outcome": texts, "led_to": []}


def test_without_settings_all_files_are(found: dict[str, Any]) -> None:
    assert sorted(found["plain"]["outcome"]) == ["from the repository", "of another config"]


@pytest.mark.parametrize("what", ["url", "chain", "absolute", "above", "yaml", "streamed url"])
def test_one_that_points_elsewhere_is_refused_before_anybody_is_asked(found: dict[str, Any], what: str) -> None:
    assert "which is no file of its own" in found[what]["outcome"]
    assert found[what]["led_to"] == []
    assert "SECRET" not in str(found[what]).replace("secret.csv", "")


@pytest.mark.parametrize("what", ["folder", "encoded"])
def test_what_is_no_name_on_a_hub_is_refused(found: dict[str, Any], what: str) -> None:
    assert "is no name on a hub" in found[what]["outcome"]
