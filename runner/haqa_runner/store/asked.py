"""Which artifact a request has led to before, so that the same request finds it without a look at the model.

Beside the artifacts: `asked/<digest of what was asked for>.json`. What is asked for is not yet the content address:
that depends on the model's files (layers that are carried over) and on the machine (how many samples it has memory
for). A file that is missing, damaged or in the way costs a look at the model and nothing else.
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haqa_runner.store.artifacts import ArtifactKey
from haqa_runner.store.files import FileUnusable, read_file, write_file

log = logging.getLogger(__name__)


class Known(BaseModel):
    """What a request has led to."""

    model_config = ConfigDict(frozen=True)

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    warnings: tuple[str, ...] = ()
    """What was to be known of how it was made"""


def recall(store: str, asked: ArtifactKey) -> Known | None:
    """What came of it, which the store need not have any more; None where nothing is known."""
    try:
        content = read_file(_place(store, asked))
        return Known.model_validate_json(content) if content is not None else None
    except (FileUnusable, ValidationError) as error:
        log.info("%s cannot be used: %s", _place(store, asked), error)
        return None


def remember(store: str, asked: ArtifactKey, known: Known) -> None:
    try:
        write_file(_place(store, asked), known.model_dump_json().encode())
    except FileUnusable as error:
        log.warning("%s", error)


def _place(store: str, asked: ArtifactKey) -> str:
    return f"{store.removeprefix('file://').rstrip('/')}/asked/{asked.digest}.json"
