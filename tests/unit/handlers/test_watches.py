"""A watch is dead when nobody answers its requests, and only then; and no more is asked for than is looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import kopf
import pytest
from aiohttp import web
from yarl import URL

from haqa_operator.handlers.watches import Watches

SERVER = "https://cluster"
PODS = URL(f"{SERVER}/api/v1/pods?watch=true&resourceVersion=7")


def watches(now: SimpleNamespace) -> Watches:
    found = Watches(["pods", "jobs"], clock=lambda: now.s)
    found.begin()
    return found


def test_before_they_begin_nothing_is_silent() -> None:
    now = SimpleNamespace(s=0.0)
    found = Watches(["pods", "jobs"], clock=lambda: now.s)
    now.s = 1000.0
    assert found.silent(30) == ()


def test_until_its_first_answer_a_watch_counts_as_silent() -> None:
    now = SimpleNamespace(s=100.0)
    heard = watches(now)
    now.s = 131.0
    assert heard.silent(30) == ("jobs", "pods")
    heard.asked(PODS)
    heard.answered(PODS, 200)
    assert heard.silent(30) == ("jobs",)


def test_an_answered_watch_may_stay_open_for_hours() -> None:
    now = SimpleNamespace(s=0.0)
    heard = watches(now)
    heard.asked(PODS)
    heard.answered(PODS, 200)
    now.s = 7200.0
    assert heard.unanswered_s("pods") == 0


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_no_answer_and_the_time_runs_from_the_first_one(status: int) -> None:
    now = SimpleNamespace(s=0.0)
    heard = watches(now)
    heard.asked(PODS)
    heard.answered(PODS, 200)
    for now.s in (10.0, 20.0, 50.0):
        heard.asked(PODS)
        heard.answered(PODS, status)
    assert heard.unanswered_s("pods") == 40
    heard.asked(PODS)
    heard.answered(PODS, 200)
    assert heard.unanswered_s("pods") == 0


def test_lists_and_other_resources_say_nothing_about_watches() -> None:
    now = SimpleNamespace(s=0.0)
    heard = watches(now)
    for url in ("/api/v1/pods", "/api/v1/nodes?watch=true", "/api/v1/namespaces/a/pods?watch=false"):
        heard.answered(URL(SERVER + url), 200)
    now.s = 1.0
    assert heard.silent(0) == ("jobs", "pods")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/api/v1/namespaces/a/pods?watch=true", "PartialObjectMetadata"),
        ("/api/v1/pods?labelSelector=a", None),
        ("/apis/haqa.dev/v1alpha1/approvals?watch=true", None),
        ("/apis/batch/v1", None),
        ("/api/v1/namespaces?watch=true", None),
    ],
)
def test_of_most_objects_the_metadata_alone_are_wanted(path: str, wanted: str | None) -> None:
    accepted = Watches(["pods", "approvals"], whole=["approvals"]).accepted(URL(SERVER + path))
    assert accepted == (wanted and f"application/json;as={wanted};g=meta.k8s.io;v=v1")


def test_the_session_hears_real_requests() -> None:
    async def scene() -> tuple[float, float]:
        now = SimpleNamespace(s=0.0)
        heard = watches(now)

        async def pods(request: web.Request) -> web.Response:
            assert "as=PartialObjectMetadata;" in request.headers["Accept"]
            return web.Response(text="{}\n")

        async def jobs(_: web.Request) -> web.Response:
            return web.Response(status=500)

        application = web.Application()
        application.add_routes([web.get("/api/v1/pods", pods), web.get("/apis/batch/v1/jobs", jobs)])
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server = f"http://127.0.0.1:{runner.addresses[0][1]}"
        session = heard.session(kopf.ConnectionInfo(server=server)).aiohttp_session
        try:
            for path in ("/api/v1/pods", "/apis/batch/v1/jobs"):
                async with session.get(server + path, params={"watch": "true"}):
                    pass
        finally:
            await session.close()
            await runner.cleanup()
        now.s = 5.0
        return heard.unanswered_s("pods"), heard.unanswered_s("jobs")

    assert asyncio.run(scene()) == (0.0, 5.0)
