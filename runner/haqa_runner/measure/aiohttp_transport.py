"""httpx's requests sent by aiohttp, whose parser is in C.

httpx's own transport takes twice the time for every piece of a streamed answer (measured: 190 against 95 microseconds
for a token, everything included). On a machine that client and engine share, that is time the engine does not have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import httpx


class AiohttpTransport(httpx.AsyncBaseTransport):
    """As many connections as there are requests, no proxies, no time-outs: the caller has its own."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trace = request.extensions.get("trace")
        if trace is not None:
            # The event that httpcore gives at the same moment; guidellm takes it as the start of the request.
            await trace("http11.send_request_headers.started", {"request": request})
        try:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=[(name, value) for name, value in request.headers.items() if name != "host"],
                data=await request.aread(),
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return httpx.Response(response.status, headers=list(response.raw_headers), stream=_Body(response))

    async def aclose(self) -> None:
        await self._session.close()


class _Body(httpx.AsyncByteStream):
    """Pieces as they come from the socket."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except aiohttp.ClientError as error:
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        # Closes the connection unless the answer was read to its end: that is how the engine learns of a cancelled one.
        self._response.close()
