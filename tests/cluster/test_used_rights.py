"""After all other tests of a session: the rights that operators have used are those that the document gives them.

By the API server's audit log. The file's name has it run last.
"""

from __future__ import annotations

import pytest
from tests.cluster.kubectl import Kubectl
from tests.cluster.rights_used import Request, documented, requests

SELDOM = {
    ("core", "events", "list"): "why a Job has no pod, where a quota refuses it",
    ("core", "namespaces", "list"): "with watchNamespaces, by kopf",
    ("core", "namespaces", "watch"): "the same",
    ("apps", "deployments", "delete"): "a first answer that does not do",
    ("apps", "controllerrevisions", "delete"): "the eleventh answer of a pool, or a retry",
    ("apps", "controllerrevisions", "get"): "whose record it is, where a name is taken",
    ("batch", "jobs", "get"): "whose Job it is, where a name is taken",
    ("batch", "jobs", "delete"): "an attempt that is over, where another is due; another model (test_failures.py)",
    ("haqa.dev", "quantizationtrials", "get"): "whose trial it is, where a name is taken",
    ("core", "secrets", "get"): "with an agent",
}
"""What the tests of one session need not come to, each with what takes it."""


@pytest.fixture(scope="module")
def seen(cluster: Kubectl) -> list[Request]:
    found = requests(cluster)
    assert found, "no operator was at work in this session: run this with the other tests of tests/cluster"
    return found


def test_nothing_was_refused(seen: list[Request]) -> None:
    """Of releases, whose rights come and go around their pod, `test_installed.py` sees to it."""
    lasting = (one for one in seen if one.user.startswith("system:serviceaccount:test-"))
    assert sorted({(one.right, one.uri.partition("?")[0]) for one in lasting if not one.allowed}) == []


def test_everything_that_was_used_is_documented(seen: list[Request]) -> None:
    assert sorted({one.right for one in seen} - documented()) == []


@pytest.mark.nightly
def test_everything_that_is_granted_was_used(seen: list[Request]) -> None:
    kserve = {right for right in documented() if right[1] == "inferenceservices"}
    used = {one.right for one in seen}
    # Server-side apply of what is not there yet takes both, and is written down as the one.
    applied = {(group, resource, "create") for group, resource, verb in used if verb == "patch"}
    assert sorted(documented() - used - applied - SELDOM.keys() - kserve) == []
