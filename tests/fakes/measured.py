"""What measuring with guidellm's client makes of servers that misbehave: `python -m tests.fakes.measured`.

Run by the runner's Python, which has guidellm. Prints one JSON object: case -> the windows' figures, or the failure.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.fakes.vllm_server import MODEL, Behaviour, fake_vllm

from haqa_contract import Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import connect
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.prompts import PromptSource

PROMPTS = PromptSource(tuple(range(500)), (), (0,), tuple(range(3, 500)), length=32, seed=0)

CASES: dict[str, tuple[Behaviour, dict[str, Any]]] = {
    "good": (Behaviour(token_s=0.005), {}),
    "refuses": (Behaviour(refuse=lambda n: (400, "too long by 7") if n > 3 else None), {}),
    "breaks": (Behaviour(refuse=lambda n: (500, "boom")), {}),
    "miscounts": (Behaviour(counted=1.5), {}),
    "hangs": (Behaviour(token_s=2.0), {"request_timeout_s": 0.5}),
    "restarts": (Behaviour(started=float), {}),
    "says nothing": (Behaviour(exported=False), {}),
}


def measured(behaviour: Behaviour, changes: dict[str, Any]) -> dict[str, Any]:
    workload = Workload(
        **{
            "input_tokens": 32,
            "output_tokens": 20,
            "concurrency": (4,),
            "requests_per_level": 8,
            "repeats": 1,
            **changes,
        }
    )
    with fake_vllm(behaviour) as server:
        test = LoadTest(connect(server.base_url, MODEL), workload, PROMPTS)
        try:
            report = test.run()
        except TrialFailure as failure:
            return {"reason": failure.reason, "message": failure.message}
        bodies = server.state.requests
        return {
            "windows": [window.model_dump(mode="json") for window in report.windows],
            "prompt_lengths": sorted({len(body["prompt"]) for body in bodies}),
            "distinct": len({tuple(body["prompt"][:9]) for body in bodies}) == len(bodies),
        }


if __name__ == "__main__":
    json.dump({name: measured(*case) for name, case in CASES.items()}, sys.stdout)
