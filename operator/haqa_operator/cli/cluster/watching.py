"""A tuning on one screen, for as long as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from haqa_operator.api.status import TuningPhase
from haqa_operator.cli.cluster.found import FoundTuning
from haqa_operator.cli.cluster.status import status_view
from haqa_operator.cluster.edges.api_server import ApiUnavailable

LOOK_EVERY_S = 5.0


def is_over(found: FoundTuning) -> bool:
    """Whether nothing more becomes of it by itself, as it is written now."""
    seen = found.status.observed_generation == found.manifest["metadata"].get("generation")
    return seen and found.status.phase in (TuningPhase.SUCCEEDED, TuningPhase.FAILED)


def watch(
    find: Callable[[], FoundTuning],
    console: Console,
    sleep: Callable[[float], None] = time.sleep,
    patience_s: float = 300.0,
) -> FoundTuning:
    """Shows the tuning until it is over; on a terminal in place, else whenever something has changed.

    Args:
        find: Looks it up.
        patience_s: How long an API server that does not answer is waited for.

    Raises:
        ApiUnavailable: it has not answered for that long.
    """
    with Live(console=console, auto_refresh=False, transient=True) as live:
        before = None
        unheard_s = 0.0
        while True:
            try:
                found, unheard_s = find(), 0.0
            except ApiUnavailable:
                if (unheard_s := unheard_s + LOOK_EVERY_S) > patience_s:
                    raise
            else:
                if is_over(found):
                    return found
                if console.is_terminal:
                    live.update(status_view(found), refresh=True)
                elif before != found.status:
                    console.print(status_view(found))
                before = found.status
            sleep(LOOK_EVERY_S)
