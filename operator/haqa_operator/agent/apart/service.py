"""The agent's process: `python -m haqa_operator.agent.apart.service SOCKET`.

It knows the cluster by nothing: no token, no kubeconfig, no variable of the operator. What it is asked it forgets.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web
from pydantic import ValidationError

from haqa_operator.agent.apart.wire import MAX_REQUEST_BYTES, PATH, Answer, Question
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.messages import LLMError

_LAST_ANSWERS_S = 1.0
"""Whoever asked asks again."""
AT_ONCE = 64
"""Requests under way; the operator lets each tuning have a few of them."""

log = logging.getLogger(__name__)


def answer(question: Question) -> Answer:
    """Asks the model; blocks for as long as that takes."""
    key = question.api_key.get_secret_value() if question.api_key is not None else None
    try:
        model = LLMClient(question.agent, api_key=key, confined=True, seed=question.seed)
        completion = model.complete(question.messages, question.response_schema, question.max_tokens)
    except LLMError as error:
        return Answer(sentence=str(error), latency_s=error.latency_s)
    return Answer(completion=completion)


def application() -> web.Application:
    """Answers questions, one thread each."""
    threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask")

    async def complete(request: web.Request) -> web.Response:
        try:
            question = Question.model_validate_json(await request.read())
        except ValidationError as error:
            # Without what was sent: the key is in it.
            where = "; ".join(".".join(map(str, one["loc"])) for one in error.errors(include_input=False))
            return web.Response(status=400, text=f"no question: {where}")
        found = await asyncio.get_running_loop().run_in_executor(threads, answer, question)
        return web.Response(text=found.model_dump_json(), content_type="application/json")

    async def closed(_: web.Application) -> None:
        threads.shutdown(wait=False, cancel_futures=True)

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.router.add_post(PATH, complete)
    app.on_cleanup.append(closed)
    return app


async def serve(socket: Path) -> None:
    """Until it is told to end."""
    socket.unlink(missing_ok=True)  # of a container that was killed
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=_LAST_ANSWERS_S)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    socket.chmod(0o600)
    log.info("listening at %s", socket)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(serve(parser.parse_args().socket))
    # Threads that wait for a model would be waited for.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
