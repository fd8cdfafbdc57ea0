"""How requests to a language model leave this process: with a deadline that holds and a bound on the reply.

A socket time-out starts anew with every byte, so a server that drips one byte a second is never late for it. Requests
therefore run on an event loop in a thread of their own and are cancelled from outside when their time is over, whatever
they are doing. The replies' size is bounded in the HTTP session that litellm is given, before anything is parsed.
litellm 1.105 uses that session for every OpenAI-compatible endpoint and most providers; the few it calls in another way
(Anthropic's own API) are bounded by the deadline alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar, cast

import aiohttp

MAX_REPLY_BYTES = 4 * 2**20

T = TypeVar("T")


class ReplyRefused(aiohttp.ClientPayloadError):
    """The reply is too large, or compressed so that its size cannot be known."""


class Unreachable(aiohttp.ClientConnectionError):
    """No connection. litellm answers aiohttp's own error with a second try outside this session and its bounds."""


class _BoundedBody:
    """A response's stream that stops a reply at `MAX_REPLY_BYTES`."""

    def __init__(self, content: aiohttp.StreamReader, encoding: str) -> None:
        self._content = content
        self._encoding = encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        if self._encoding not in ("", "identity"):
            raise ReplyRefused(f"the reply is compressed ({self._encoding}) although none of that was asked for")
        seen = 0
        async for chunk in self._content.iter_chunked(size):
            seen += len(chunk)
            if seen > MAX_REPLY_BYTES:
                raise ReplyRefused(f"the reply is larger than {MAX_REPLY_BYTES / 2**20:g} MiB")
            yield chunk


async def _bounded(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    request.headers["Accept-Encoding"] = "identity"
    try:
        response = await handler(request)
    except aiohttp.ClientOSError as error:
        raise Unreachable(str(error)) from error
    encoding = response.headers.get("Content-Encoding", "").lower()
    response.content = cast("aiohttp.StreamReader", _BoundedBody(response.content, encoding))
    return response


def call(make: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, T]], deadline_s: float) -> T:
    """Runs one request and returns its result.

    Args:
        make: Given the HTTP session, makes the coroutine.

    Raises:
        TimeoutError: after `deadline_s` seconds; the request is cancelled.
    """
    loop, session = _outbound()
    future = asyncio.run_coroutine_threadsafe(make(session), loop)
    try:
        return future.result(deadline_s)
    finally:
        future.cancel()


@cache
def _outbound() -> tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession]:
    """One loop and session for the process: litellm caches its clients by loop, and connections are kept."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="haqa-agent-http", daemon=True).start()
    return loop, asyncio.run_coroutine_threadsafe(_session(), loop).result()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(middlewares=(_bounded,), cookie_jar=aiohttp.DummyCookieJar())
