"""A load test against a simulated engine, in virtual time."""

from __future__ import annotations

from typing import Any

from tests.fakes.simulated_engine import SimulatedEngine, virtual_clock

from haqa_contract import Workload
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.prompts import PromptSource

NOWHERE = Endpoint("http://127.0.0.1:9", "tiny")


def prompts(**changes: Any) -> PromptSource:
    given: dict[str, Any] = {"dataset": (), "prefix": (0,), "length": 16, "seed": 0, **changes}
    return PromptSource(pool=tuple(range(500)), ordinary=tuple(range(3, 500)), **given)


def load_test(engine: SimulatedEngine, endpoint: Endpoint = NOWHERE, **workload: Any) -> LoadTest:
    wanted = Workload(**{"input_tokens": 16, "output_tokens": 20, "concurrency": (1, 4), "repeats": 2, **workload})
    return LoadTest(
        endpoint,
        wanted,
        prompts(),
        open_generator=engine.open_generator,
        open_metrics=engine.open_metrics,
        clock=virtual_clock,
    )
