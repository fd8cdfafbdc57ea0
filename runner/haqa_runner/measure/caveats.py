"""What a reader of a window's figures should know, though the window counts."""

from __future__ import annotations

from haqa_contract import Window
from haqa_runner.measure.window import Observed, prefix_cache_share

WAITED_LIMIT = 0.2
LATE_FACTOR, LATE_MS = 1.5, 20.0
"""How much later than in the engine's own histogram the first token may come at the client: factor and milliseconds."""
CACHED_LIMIT = 0.05


def caveats(observed: Observed, window: Window, *, shared_prefixes: bool) -> list[str]:
    """Sentences, each beginning with which window it is about.

    Args:
        shared_prefixes: Whether prompts may share beginnings, so that the prefix cache is meant to help.
    """
    found = [_waited(observed), _seen_late(window), _failed(window)]
    if not shared_prefixes:
        found.append(_cached(observed))
    where = f"concurrency {window.concurrency}, window {window.repeat + 1}"
    return [f"{where}: {sentence}" for sentence in found if sentence is not None]


def _waited(observed: Observed) -> str | None:
    if observed.client.waited <= WAITED_LIMIT or observed.client.objection is not None:
        return None
    return (
        f"the load generator had to wait for a CPU for {observed.client.waited:.0%} of the time, so latencies came out "
        "too long and throughput too low; leave the machine alone, or give the measuring container more CPU"
    )


def _seen_late(window: Window) -> str | None:
    engine_ms = window.engine_mean_ms.get("ttft")
    if engine_ms is None or window.ttft_ms.mean <= LATE_FACTOR * engine_ms + LATE_MS:
        return None
    return (
        f"the first token came after {window.ttft_ms.mean:.0f} ms at the client and {engine_ms:.0f} ms in the engine; "
        "something between them is slow, or the machine is busy with something else"
    )


def _cached(observed: Observed) -> str | None:
    cached = prefix_cache_share(observed)
    if cached <= CACHED_LIMIT:
        return None
    return f"{cached:.0%} of the prompts came from the prefix cache, which synthetic prompts should not"


def _failed(window: Window) -> str | None:
    return f"{window.failed} of {window.completed + window.failed} requests failed" if window.failed else None
