"""One process of a load generator that has several: its share of the streams, ordered and reported through a pipe.

It makes the same closed loop as a generator of one process (`guidellm_traffic`), with every n-th prompt. While the load
goes on it only counts; the requests themselves, every arrival in them, go to the measuring process at the end, so that
percentiles are those of all requests together.
"""

from __future__ import annotations

import asyncio
import signal
from multiprocessing.connection import Connection

from haqa_contract import Workload
from haqa_contract.failures import cause_of
from haqa_runner.measure.endpoint import Endpoint, keep_requests_out_of_the_log
from haqa_runner.measure.guidellm_traffic import ClosedLoop
from haqa_runner.measure.placement import own_clock
from haqa_runner.measure.prompts import Prompts, PromptSource
from haqa_runner.measure.traffic_messages import Broken, Count, Order, Sent

_HEARTBEAT_S = 0.25
"""Between two counts where no request ends: how hard the process works has to be known all along."""


def serve(pipe: Connection, endpoint: Endpoint, workload: Workload, source: PromptSource) -> None:
    """Carries out one `Order` after the other until the pipe is closed."""
    # Of a terminal's Ctrl-C, which goes to all of them, the measuring process makes an end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_requests_out_of_the_log()
    try:
        pipe.send(_count())
        while isinstance(order := pipe.recv(), Order):
            prompts = Prompts(source, order.place).share(order.index, order.of)
            traffic = ClosedLoop(endpoint, workload, prompts, order.streams)
            asyncio.run(_until_stopped(pipe, traffic))
            pipe.send(Sent(traffic.sent))
    except (EOFError, OSError):
        return  # the measuring process has ended


async def _until_stopped(pipe: Connection, traffic: ClosedLoop) -> None:
    # In a thread: uvloop's readers would make the pipe a non-blocking one, on which nothing large can be sent.
    stop = asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    try:
        async with traffic:
            # What it did before is not what this traffic asks of it.
            pipe.send(_count(traffic))
            while not stop.done():
                news = asyncio.create_task(traffic.until(traffic.answered + 1, traffic.failed))
                await asyncio.wait({news, stop}, timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    news.result()
                news.cancel()
                pipe.send(_count(traffic))
    except Exception as error:
        pipe.send(Broken(cause_of(error)))
        raise
    stop.result()


def _count(traffic: ClosedLoop | None = None) -> Count:
    return Count(traffic.answered if traffic else 0, traffic.failed if traffic else 0, own_clock())
