"""The engine's counters as the record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.fakes.vllm_server import Behaviour, fake_vllm

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.engine_metrics import MetricsReader, Reading, difference, parse_metrics

REAL = Path(__file__).parents[2] / "data" / "engine_metrics"


def parsed(name: str, at: float = 0.0) -> Reading:
    return parse_metrics((REAL / name).read_text(), "m", at)


def test_two_readings_of_a_real_engine_give_its_throughput() -> None:
    change = difference(parsed("before.txt", 100.0), parsed("after.txt", 104.0))
    assert change.seconds == 4.0
    assert (change.generation_tokens, change.prompt_tokens, change.requests) == (96, 192, 3)
    assert change.preemptions == 0
    assert set(change.mean_ms) == {"ttft", "itl", "e2e", "queue"}
    assert 0 < change.mean_ms["itl"] < change.mean_ms["ttft"] < change.mean_ms["e2e"]


def test_gauges_are_read_too() -> None:
    reading = parsed("after.txt")
    assert (reading.running, reading.waiting) == (0, 0)
    assert reading.kv_cache_usage is not None
    assert reading.process_started is not None


def test_ranks_are_summed_and_other_models_left_out() -> None:
    text = "\n".join(
        f'{name}{{engine="{engine}",model_name="{model}"}} {value}'
        for name in ("vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:num_requests_running")
        for engine, model, value in (("0", "m", 1), ("1", "m", 2), ("0", "other", 100))
    )
    text += '\nvllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2'
    text += '\nvllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.7\n'
    reading = parse_metrics(text, "m", 0)
    assert reading.counters["generation_tokens"] == 3
    assert reading.running == 3
    assert reading.kv_cache_usage == 0.7


def test_aborted_requests_are_no_answers() -> None:
    assert parsed("after.txt").counters["requests"] == parsed("before.txt").counters["requests"] + 3


@pytest.mark.parametrize("text", ["", "# HELP nothing\n", 'vllm:generation_tokens_total{model_name="other"} 5\n'])
def test_metrics_without_the_counters_are_missing_metrics(text: str) -> None:
    with pytest.raises(TrialFailure, match="disable-log-stats") as caught:
        parse_metrics(text, "m", 0)
    assert caught.value.reason is FailureReason.METRICS_MISSING


def test_counters_that_go_backwards_are_a_restart() -> None:
    before, after = parsed("before.txt"), parsed("after.txt")
    with pytest.raises(TrialFailure, match="went backwards") as caught:
        difference(after, before)
    assert caught.value.reason is FailureReason.ENGINE_LOAD_FAILED


def read(behaviour: Behaviour, model: str = "tiny", times: int = 1) -> list[Reading]:
    async def work(url: str) -> list[Reading]:
        reader = MetricsReader(Endpoint(url, model))
        try:
            return [await reader.read() for _ in range(times)]
        finally:
            await reader.close()

    with fake_vllm(behaviour) as server:
        return asyncio.run(work(server.base_url))


def test_an_engine_that_was_restarted_between_two_readings_is_noticed() -> None:
    before, after = read(Behaviour(started=lambda n: 1000.0 + n), times=2)
    with pytest.raises(TrialFailure, match="its process started anew"):
        difference(before, after)


def test_a_server_without_vllm_s_counters_is_a_sentence() -> None:
    with pytest.raises(TrialFailure, match="no vllm:generation_tokens_total for tiny"):
        read(Behaviour(exported=False))


def test_an_engine_that_is_gone_is_a_sentence() -> None:
    async def work() -> None:
        reader = MetricsReader(Endpoint("http://127.0.0.1:9", "tiny"))
        try:
            await reader.read()
        finally:
            await reader.close()

    with pytest.raises(TrialFailure, match="cannot be read") as caught:
        asyncio.run(work())
    assert caught.value.reason is FailureReason.METRICS_MISSING
