"""How requests to a language model leave this process: to one place, with a deadline that holds, and little comes back.

A socket time-out starts anew with every byte, so a server that drips one byte a second is never late for it. Requests
therefore run on an event loop in a thread of their own and are cancelled from outside when their time is over, whatever
they are doing. The rest is decided in the HTTP session that litellm is given, before anything is parsed: no redirect is
followed, replies are bounded, of an error only its message is read, and a request that is kept to an endpoint goes
nowhere else and carries no header but those that a chat completion needs. litellm 1.105 uses that session for the
providers of `providers` and most others; a few that a user of `haqa tune` may name are bounded by the deadline alone.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import aiohttp
from yarl import URL

from haqa_operator.agent.error_bodies import MAX_ERROR_BYTES, structured_error
from haqa_operator.agent.providers import Endpoint

MAX_REPLY_BYTES = 4 * 2**20
USER_AGENT = "haqa"

_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key"})
_HEADERS = frozenset(
    {"accept", "anthropic-beta", "anthropic-version", "connection", "content-length", "content-type", "host"}
)
"""What a chat completion needs; organizations, projects, referrers and the like come out of the environment."""

T = TypeVar("T")


class ReplyRefused(aiohttp.ClientPayloadError):
    """The reply is a redirect, too large, or compressed so that its size cannot be known."""


class RequestRefused(aiohttp.ClientPayloadError):
    """A library was about to ask somebody else than the endpoint."""


class Unreachable(aiohttp.ClientConnectionError):
    """No connection. litellm answers aiohttp's own error with a second try outside this session and its bounds."""


@dataclass
class Call:
    """One request under way.

    Attributes:
        endpoint: Where alone it may go; None where litellm decides.
        secret: The API key, which errors of some servers repeat.
        status: HTTP status of the answer, once there is one.
        error: What the server said is wrong, as far as that is repeated; None where the answer is no error.
        parameter: The option of the request that it names as wrong, where it does so apart.
    """

    endpoint: Endpoint | None = None
    secret: str | None = None
    status: int | None = None
    error: str | None = None
    parameter: str | None = None


_CALL: ContextVar[Call] = ContextVar("haqa_agent_call")


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


class _ErrorBody:
    """What is left of an error's body, in the place of its stream."""

    def __init__(self, content: _BoundedBody, body: bytes) -> None:
        self._content = content
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        yield self._body


async def _guarded(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Every request of the session goes through here."""
    call_ = _CALL.get(None)
    if call_ is None:
        raise RequestRefused("a request that nobody made")
    if call_.endpoint is not None:
        _confine(request, call_.endpoint)
    request.headers["Accept-Encoding"] = "identity"
    try:
        response = await handler(request)
    except aiohttp.ClientOSError as error:
        raise Unreachable(str(error)) from error
    call_.status = response.status
    if 300 <= response.status < 400:
        response.close()
        raise ReplyRefused(f"a redirect (HTTP {response.status}), and none is followed; give the final address")
    body = _BoundedBody(response.content, response.headers.get("Content-Encoding", "").lower())
    response.content = cast("aiohttp.StreamReader", body)
    if response.status >= 400:
        left = structured_error(await _read(body), call_.secret)
        call_.error, call_.parameter = left["error"]["message"], left["error"].get("param")
        response.content = cast("aiohttp.StreamReader", _ErrorBody(body, json.dumps(left).encode()))
    return response


def _confine(request: aiohttp.ClientRequest, endpoint: Endpoint) -> None:
    """Raises RequestRefused: the request goes elsewhere."""
    if request.url.origin() != URL(endpoint.base).origin():
        raise RequestRefused(f"a request to another server than {endpoint.base}")
    if request.url.raw_query_string:
        raise RequestRefused("a request with a query, which no chat completion needs")
    allowed = {endpoint.key, f"Bearer {endpoint.key}"}
    for name in {name.lower() for name in request.headers}:
        if name in _HEADERS or (name in _CREDENTIALS and set(request.headers.getall(name)) <= allowed):
            continue
        del request.headers[name]
    request.headers["User-Agent"] = USER_AGENT


async def _read(body: _BoundedBody) -> bytes:
    """The body of an error; nothing of one that is too large for an error."""
    read = bytearray()
    async for chunk in body.iter_chunked(MAX_ERROR_BYTES):
        read += chunk
        if len(read) > MAX_ERROR_BYTES:
            return b""
    return bytes(read)


def call(make: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, T]], deadline_s: float, state: Call) -> T:
    """Runs one request and returns its result.

    Args:
        make: Given the HTTP session, makes the coroutine.
        state: Where the request may go; says afterwards what the server answered with.

    Raises:
        TimeoutError: after `deadline_s` seconds; the request is cancelled.
    """
    loop, session = _outbound()

    async def run() -> T:
        _CALL.set(state)
        return await make(session)

    future = asyncio.run_coroutine_threadsafe(run(), loop)
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
    return aiohttp.ClientSession(middlewares=(_guarded,), cookie_jar=aiohttp.DummyCookieJar())
