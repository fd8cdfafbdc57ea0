"""On one machine the installed vLLM is what counts, and the Deployment is for an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_tuning

from haqa_operator.api import SpecError
from haqa_operator.local import tuning as local


class Nobody:
    def on_note(self, pool: str, text: str) -> None: ...

    def on_trials(self, *_: Any) -> None: ...

    def on_progress(self, *_: Any) -> None: ...


def engine(monkeypatch: pytest.MonkeyPatch, installed: str | None, **pool: str) -> tuple[str, str | None]:
    monkeypatch.setattr(local, "engine_version", lambda environment: installed)
    tuning = make_tuning().having(nodePools=[{"name": "here", **pool}]).obj()
    return local.LocalTuning(tuning, Path("/nowhere"), Nobody())._engine(tuning.spec.node_pools[0])


def test_the_installed_release_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine(monkeypatch, "0.29.0") == ("0.29.0", None)
    assert engine(monkeypatch, "0.29.0", image="vllm/vllm-openai-cpu:v0.29.0") == ("0.29.0", None)


def test_another_release_in_the_pool_s_image_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    version, note = engine(monkeypatch, "0.32.0", image="vllm/vllm-openai-cpu:v0.31.0")
    assert version == "0.32.0"
    assert (note or "").startswith("measured with vLLM 0.32.0, which is installed here, and not with the pool's 0.31.0")


def test_a_build_of_somebody_s_own_is_what_the_pool_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine(monkeypatch, "0.1.dev1+g1a2b3c", engineVersion="0.33.0") == ("0.33.0", None)


def test_an_engine_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=r"the installed engine is vLLM 0\.9\.2, and HAQA needs 0\.11\.0 or newer"):
        engine(monkeypatch, "0.9.2")
