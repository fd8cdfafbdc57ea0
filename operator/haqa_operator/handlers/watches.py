"""What kopf asks the API server for: every request of its passes the session that is made here.

Of most objects the handlers want names and labels alone, and reconciling reads what it needs; so watches are sent no
more. Lists come whole, in pieces: of metadata alone an empty one has `items: null`, which kopf does not understand.

The requests also show whether the watches are alive. A stream that goes silent is given up by kopf after its inactivity
timeout, since the API server sends a bookmark every minute, and is asked for anew. So a dead watch shows as requests
that nobody answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import aiohttp
import kopf
from yarl import URL

from haqa_operator.cluster.edges.telemetry import WATCH_SILENCE

SERVER_TIMEOUT_S = 300
"""The server ends every watch after so long, and kopf asks again."""
_METADATA_ALONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass
class Watches:
    """When each watched resource was last asked for and answered.

    Attributes:
        resources: Plural names; nothing is known of one until its first request.
        whole: Those of them of whose objects more than the metadata is looked at.
    """

    resources: Collection[str]
    whole: Collection[str] = ()
    clock: Callable[[], float] = time.monotonic
    _unanswered_since: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for resource in self.resources:
            WATCH_SILENCE.labels(resource).set_function(partial(self.unanswered_s, resource))

    def begin(self) -> None:
        """From now on they are asked for."""
        self._unanswered_since = dict.fromkeys(self.resources, self.clock())

    def unanswered_s(self, resource: str) -> float:
        """Seconds for which no request has been answered; 0 while the latest one was."""
        since = self._unanswered_since.get(resource)
        return 0.0 if since is None else self.clock() - since

    def silent(self, limit_s: float) -> tuple[str, ...]:
        """The resources whose watch has been dead for longer than the limit."""
        return tuple(sorted(name for name in self.resources if self.unanswered_s(name) > limit_s))

    def asked(self, url: URL) -> None:
        if resource := self._watched(url):
            self._unanswered_since.setdefault(resource, self.clock())

    def answered(self, url: URL, status: int) -> None:
        resource = self._watched(url)
        if resource and status == 200:
            self._unanswered_since.pop(resource, None)

    def accepted(self, url: URL) -> str | None:
        """The form in which an answer is wanted; None = as it comes."""
        watched = self._watched(url)
        return _METADATA_ALONE if watched and watched not in self.whole else None

    def session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """Kopf's own session for these credentials, with a word in its requests and an ear on them."""
        trace = aiohttp.TraceConfig()

        async def start(_: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestStartParams) -> None:
            self.asked(params.url)
            if accepted := self.accepted(params.url):
                params.headers["Accept"] = accepted

        async def end(_: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            self.answered(params.url, params.response.status)

        trace.on_request_start.append(start)
        trace.on_request_end.append(end)
        return kopf.AiohttpSession(
            server=info.server,
            default_namespace=info.default_namespace,
            aiohttp_session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
                headers=info.as_http_headers(),
                trace_configs=[trace],
            ),
        )

    def _watched(self, url: URL) -> str | None:
        if url.query.get("watch") != "true":
            return None
        return url.name if url.name in self.resources else None
