"""A search on this machine that an earlier version began is measured alike to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.builders import estimate, make_tuning
from tests.model_headers import facts
from tests.unit.search.builders import LLAMA_SMALL

from haqa_operator.api import QuantizationTuning, Trial, TrialPhase, TrialStatus
from haqa_operator.decision.results import PoolResult
from haqa_operator.local import tuning as local
from haqa_operator.local.executor import LocalExecutor
from haqa_operator.tuning import pool_setup


class Interrupted(Exception):
    """Ctrl-C."""


class NoEngines(LocalExecutor):
    """Says what engines it would have started; `interrupted_at` is where somebody stops it."""

    interrupted_at: int | None = None

    def execute(self, trial: Trial, *_: Any) -> TrialStatus:
        if trial.number == self.interrupted_at:
            raise Interrupted
        args = self._launch(trial, Path("/trial"), 8000).args
        metrics = {"throughput": estimate(100 + trial.number)}
        return TrialStatus(phase=TrialPhase.SUCCEEDED, started=0, finished=1, metrics=metrics, engine_args=args)


class Notes:
    """An observer that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_note(self, pool: str, text: str) -> None:
        self.said.append(text)

    def on_trials(self, *_: Any) -> None: ...

    def on_progress(self, *_: Any) -> None: ...


@contextmanager
def no_launchers(*_: Any) -> Iterator[tuple[None, None]]:
    yield None, None


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One on which nothing is started, with a model that takes 2048 tokens."""
    model = local.FetchedModel(tmp_path, "files-1", facts(LLAMA_SMALL))
    monkeypatch.setattr(local, "local_problems", lambda tuning: [])
    monkeypatch.setattr(local, "launchers", no_launchers)
    monkeypatch.setattr(local, "engine_version", lambda environment: "0.32.0")
    monkeypatch.setattr(local, "LocalExecutor", NoEngines)
    monkeypatch.setattr(local.LocalTuning, "_fetch", lambda self, runner: model)


def tuning(**serving: int) -> QuantizationTuning:
    made = make_tuning().search(
        strategy="grid", schemes=["W8A8-INT8"], algorithms=["rtn", "gptq"], engineDefaults=False
    )
    return made.budget(maxTrials=2).having(serving=serving, confirmation={"rounds": 0}).obj()


def tune(out: Path, **serving: int) -> tuple[PoolResult, list[str]]:
    notes = Notes()
    (result,) = local.LocalTuning(tuning(**serving), out, notes).run(lambda result: None)
    return result, notes.said


def lengths(result: PoolResult) -> list[str]:
    args = [trial.status.engine_args for trial in result.trials]
    return [text.partition("=")[2] for given in args for text in given if text.startswith("--max-model-len")]


def test_by_default_every_engine_takes_what_model_and_memory_allow(tmp_path: Path) -> None:
    result, said = tune(tmp_path / "out")
    assert lengths(result) == ["auto"] * 3
    assert not [text for text in said if "earlier version" in text]


def test_an_interrupted_search_goes_on_with_its_trials_and_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(pool_setup, "served_length", lambda *_: 512)
        earlier.setattr(NoEngines, "interrupted_at", 1)
        with pytest.raises(Interrupted):
            tune(tmp_path / "out")
    monkeypatch.setattr(NoEngines, "interrupted_at", 0)
    result, said = tune(tmp_path / "out")
    assert lengths(result) == ["512"] * 3
    assert [text for text in said if "set spec.serving.maxModelLen" in text]


def test_naming_a_length_measures_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(pool_setup, "served_length", lambda *_: 512)
        tune(tmp_path / "out")
    result, said = tune(tmp_path / "out", maxModelLen=1024)
    assert lengths(result) == ["1024"] * 3
    assert not [text for text in said if "earlier version" in text]
