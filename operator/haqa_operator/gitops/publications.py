"""What is published, with what, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from haqa_operator.api.base import DNS_LABEL
from haqa_operator.api.manifests import Manifest

_KEY: Final = r"^[A-Za-z0-9][-A-Za-z0-9._:]{0,252}$"
_STEM: Final = r"^[a-z0-9]([-a-z0-9]{0,126}[a-z0-9])?$"
_LINE: Final = r"^[^\x00-\x1f]+$"
_ATTACHMENT: Final = r"^[a-z0-9][-a-z0-9]*\.(html|md|txt|csv)$"
"""No YAML and no JSON: whoever deploys the folder would take them for manifests."""


class Publication(BaseModel):
    """A pool's answer, as it is to be found in the repository.

    Attributes:
        key: What this answer is called for good, so that it is published once; another answer has another.
        pool: The node pool's name, for `{pool}` in a path.
        name: Stem of the names of files and branches, TUNING-POOL.
        manifests: As they are to be applied.
        title: Subject of the commit, title of the pull request.
        summary: Why it won, in Markdown: the commit's message and the pull request's text.
        evidence: What it was measured by, in Markdown: a file beside the manifests.
        attachments: Further files beside them, by name; pages and tables alone.
        made_at: When it was decided; the commit has this time, so that a second attempt makes the same commit.
        retires: Keys of earlier answers whose pull requests may be open: they are closed, and nothing else is done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=_KEY)]
    pool: Annotated[str, Field(pattern=DNS_LABEL)]
    name: Annotated[str, Field(pattern=_STEM)]
    manifests: Annotated[tuple[Manifest, ...], Field(min_length=1)]
    title: Annotated[str, Field(max_length=200, pattern=_LINE)]
    summary: Annotated[str, Field(max_length=32_000)]
    evidence: Annotated[str, Field(max_length=256_000)]
    attachments: dict[Annotated[str, Field(pattern=_ATTACHMENT)], str] = Field(default_factory=dict)
    made_at: AwareDatetime
    retires: tuple[Annotated[str, Field(pattern=_KEY)], ...] = ()


class PublishState(StrEnum):
    PUSHED = "Pushed"
    """It is on the branch."""
    OPEN = "Open"
    """A pull request asks for it."""
    MERGED = "Merged"
    """It was asked for, and is on the branch."""
    CLOSED = "Closed"
    """Its pull request was closed; it is not asked for again."""
    CONFLICT = "Conflict"
    """Somebody else has changed what it would be written over; nothing was."""


FINAL: Final = frozenset({PublishState.PUSHED, PublishState.MERGED, PublishState.CLOSED})
"""Nothing becomes of these any more."""


class Published(BaseModel):
    """What became of a publication.

    Attributes:
        url: Of the pull request; None where it was pushed.
        commit: That holds it; of an open pull request, the tip of its branch.
        note: What a person should know, a sentence; empty where there is nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: PublishState
    url: str | None = None
    commit: str | None = None
    note: str = ""


class GitCredentials(BaseModel):
    """Values of the Secret that `output.git.secretRef` names. They are in no text that this makes of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: str
    """The Secret's name, for messages"""
    username: str | None = Field(default=None, repr=False)
    password: str | None = Field(default=None, repr=False)
    token: str | None = Field(default=None, repr=False)
    ssh_private_key: str | None = Field(default=None, repr=False)
    passphrase: str | None = Field(default=None, repr=False)
    known_hosts: str | None = Field(default=None, repr=False)
    ca: str | None = Field(default=None, repr=False)
    """Certificates of a certificate authority in PEM, trusted beside the public ones"""

    @classmethod
    def of_secret(cls, name: str, data: dict[str, str]) -> GitCredentials:
        """Of a Secret's decoded data; keys that mean nothing here are left out."""
        given = {field: data[key].strip() or None for key, field in SECRET_KEYS.items() if key in data}
        for key in ("ssh-privatekey", "known_hosts", "ca.crt"):
            if text := given.get(SECRET_KEYS[key]):
                given[SECRET_KEYS[key]] = f"{text}\n"
        return cls(secret=name, **given)

    @property
    def api_token(self) -> str | None:
        """What a forge's API is asked with; access tokens are often stored as a password."""
        return self.token or self.password


SECRET_KEYS: Final = {
    "username": "username",
    "password": "password",
    "token": "token",
    "ssh-privatekey": "ssh_private_key",
    "passphrase": "passphrase",
    "known_hosts": "known_hosts",
    "ca.crt": "ca",
}
"""Key of the Secret -> field."""


class PublishError(Exception):
    """It could not be published; the message names the field and the remedy, and repeats no credentials.

    Attributes:
        transient: Trying again later may help as it is.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True)
class Change:
    """A file to be written.

    Attributes:
        path: In the repository.
        owned: The file is HAQA's alone; otherwise it is the user's, and parts of it were replaced.
    """

    path: str
    text: str
    owned: bool
