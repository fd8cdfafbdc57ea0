"""Requests of trials, as a step of the runner gets them."""

from __future__ import annotations

from pathlib import Path

from haqa_contract import Configuration, EngineLaunch, ModelSource, TrialRequest


def trial_request(directory: Path, **changes: object) -> TrialRequest:
    return TrialRequest(
        tuning="demo",
        trial="demo-1",
        pool="here",
        model=ModelSource(uri="file:///none"),
        configuration=Configuration(),
        engine=EngineLaunch(args=(), served_model_name="demo", port=8000),
        store=str(directory / "store"),
        directory=str(directory),
        cache=str(directory / "cache"),
    ).model_copy(update=changes)
