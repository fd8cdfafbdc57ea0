"""Creates what is owned, and leaves alone what somebody else has under the same name.

The names of trials and Jobs are joined from those of tuning and pool: `llama` with the pool `chat-a` and `llama-chat`
with the pool `a` meet in one.
"""

from __future__ import annotations

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import FIRST_WRITER, ApiServer, ApiUnavailable, Kind


class NameTaken(Exception):
    """An object of this name belongs to somebody else; the message says to whom, and what to do."""


def create_owned(api: ApiServer, manifest: Manifest) -> Manifest | None:
    """The object as it was created; None where its owner has it already.

    Raises:
        ApiUnavailable: what is there belongs to an earlier owner of the same name, and is about to be collected.
        NameTaken: it is somebody else's.
    """
    created = api.create(manifest)
    if created is not None:
        return created
    kind, metadata = Kind.of(manifest), manifest["metadata"]
    found = api.get(kind, metadata["name"], metadata["namespace"])
    if found is None:
        raise ApiUnavailable(f"{kind.kind} {metadata['name']} was there a moment ago and is gone; it is created again")
    _check_owner(manifest, found)
    return None


def apply_record(api: ApiServer, record: Manifest) -> Manifest:
    """The record as it was written, by applying and not by creating it.

    The API server compares the bytes of a record's data: created, it keeps those that were sent, and takes its own
    spelling of them for a change at the first annotation.

    Raises:
        ApiUnavailable: it has been written a moment ago.
        NameTaken: it is somebody else's.
    """
    metadata = record["metadata"]
    found = api.get(Kind.of(record), metadata["name"], metadata["namespace"])
    if found is not None:
        _check_owner(record, found)
        raise ApiUnavailable(f"{record['kind']} {metadata['name']} was written a moment ago; it is read again")
    return api.apply(record, FIRST_WRITER, force=False)


def _check_owner(manifest: Manifest, found: Manifest) -> None:
    """Raises ApiUnavailable, NameTaken."""
    kind, metadata = Kind.of(manifest), manifest["metadata"]
    (owner,) = metadata["ownerReferences"]
    owners = found["metadata"].get("ownerReferences", ())
    if any(other["uid"] == owner["uid"] for other in owners):
        return
    if any((other["kind"], other["name"]) == (owner["kind"], owner["name"]) for other in owners):
        deleted = f"{owner['kind']} {owner['name']}"
        raise ApiUnavailable(f"{kind.kind} {metadata['name']} of a deleted {deleted} is still there")
    whose = " and ".join(f"{other['kind']} {other['name']}" for other in owners) or "nobody"
    raise NameTaken(
        f"{kind.kind} {metadata['name']} exists already and belongs to {whose}; delete it, or rename the tuning or its "
        "node pool"
    )
