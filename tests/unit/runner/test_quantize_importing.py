"""Packages and variables that an import sees differently, and nothing else does."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from haqa_runner.quantize.importing import environment_defaults, pretended_missing


def test_package_seems_missing_inside_and_is_there_again_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pretended_missing(("wave",)):
        assert importlib.util.find_spec("wave") is None
        with pytest.raises(ImportError):
            import wave
    import wave

    assert wave.__name__ == "wave"


def test_package_that_is_in_use_is_left_alone() -> None:
    before = sys.modules["json"]
    with pretended_missing(("json",)):
        assert sys.modules["json"] is before
    assert sys.modules["json"] is before


def test_variables_have_their_defaults_inside_and_those_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQA_TEST_SET", "mine")
    monkeypatch.delenv("HAQA_TEST_UNSET", raising=False)
    with environment_defaults(HAQA_TEST_SET="default", HAQA_TEST_UNSET="default"):
        assert (os.environ["HAQA_TEST_SET"], os.environ["HAQA_TEST_UNSET"]) == ("mine", "default")
    assert os.environ["HAQA_TEST_SET"] == "mine"
    assert "HAQA_TEST_UNSET" not in os.environ
