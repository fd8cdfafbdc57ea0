"""Which approvals count for a winner, and which is named for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.observe.approvals import Approval, approved

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()


def clock(hour: int) -> str:
    return f"2026-12-01T{hour:02}:00:00Z"


def approval(name: str = "one", created: str = clock(10), deleted: str | None = None, **spec: Any) -> Manifest:
    """Of trial chat-a-003 by alice, unless said otherwise."""
    given = {"tuning": "chat", "trial": "chat-a-003", "approvedBy": "alice", **spec}
    metadata = {"name": name, "namespace": "models", "creationTimestamp": created, "labels": {"team": "a"}}
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationApproval",
        "metadata": metadata | ({"deletionTimestamp": deleted} if deleted else {}),
        "spec": given,
    }


@pytest.mark.parametrize(
    ("manifest", "counts"),
    [
        (approval(), True),
        (approval(expires=clock(13)), True),
        (approval(expires=clock(12)), False),
        (approval(expires=clock(11)), False),
        (approval(tuning="other"), False),
        (approval(trial="chat-a-004"), False),
        (approval(created=clock(8)), False),
        (approval(created=clock(9)), True),
        (approval(deleted=clock(11)), False),
        (approval(unknown="field"), False),
        (approval(approvedBy=""), False),
        (approval(expires="tomorrow"), False),
    ],
    ids=[
        "for ever",
        "until later",
        "until now",
        "expired",
        "another tuning's",
        "another trial's",
        "of an earlier tuning of this name",
        "of the tuning's first second",
        "withdrawn",
        "of a newer version",
        "nobody's",
        "unreadable",
    ],
)
def test_what_counts(manifest: Manifest, counts: bool) -> None:
    found = approved([manifest], "chat", "chat-a-003", NOON, since=NOON - 3 * 3600)
    assert (found is not None) == counts


def test_the_first_that_counts_is_named() -> None:
    given = [
        approval("later", clock(11), approvedBy="bob"),
        approval("expired", clock(8), expires=clock(9)),
        approval("first", clock(10), expires=clock(20)),
    ]
    found = approved(given, "chat", "chat-a-003", NOON)
    assert found == Approval("first", "alice", at=NOON - 2 * 3600, expires=NOON + 8 * 3600)


def test_without_any_nothing_is_approved() -> None:
    assert approved([], "chat", "chat-a-003", NOON) is None
