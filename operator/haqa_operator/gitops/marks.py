"""What HAQA notes in a repository of what it wrote there: in the evidence, so that nothing else has to be remembered.

It says which answer the files are, and what was in them, so that a file that somebody else has changed is known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from haqa_operator.gitops.publications import Change, Publication

TRAILER: Final = "HAQA-Publication"
_MARK: Final = re.compile(r"<!-- haqa (\{.*\}) -->")


@dataclass(frozen=True)
class Mark:
    """Attributes:
    key: Of the publication.
    digests: SHA-256 of each file as it was written, by path.
    """

    key: str
    digests: dict[str, str]

    @classmethod
    def of(cls, publication: Publication, changes: Iterable[Change]) -> Mark:
        return cls(publication.key, {change.path: digest(change.text) for change in changes})

    @classmethod
    def read(cls, evidence: str | None) -> Mark | None:
        """None where the text has none."""
        found = _MARK.findall(evidence or "")
        try:
            read = json.loads(found[-1]) if found else None
            return None if read is None else cls(str(read["key"]), {str(k): str(v) for k, v in read["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def written(self) -> str:
        noted = json.dumps({"key": self.key, "files": self.digests}, sort_keys=True).replace("--", "-\\u002d")
        return f"<!-- haqa {noted} -->\n"

    def changed(self, read: Callable[[str], str | None], paths: Iterable[str]) -> tuple[str, ...]:
        """Which of the files are not as they were written; those that are gone count as written."""
        found = ((path, read(path)) for path in paths if path in self.digests)
        return tuple(path for path, text in found if text is not None and digest(text) != self.digests[path])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def with_mark(publication: Publication, changes: Iterable[Change]) -> str:
    """The evidence as a file."""
    # A mark that somebody's text brings along would be taken for ours.
    evidence = _MARK.sub("", publication.evidence).rstrip()
    return f"{evidence}\n\n{Mark.of(publication, changes).written()}"


def message(publication: Publication, prefix: str) -> str:
    """Of the commit."""
    summary = "\n".join(line.rstrip() for line in publication.summary.strip().splitlines())
    return f"{prefix}{publication.title}\n\n{summary}\n\n{TRAILER}: {publication.key}\n"


def trailer_key(text: str) -> str | None:
    """The key at the end of a commit's message."""
    last = text.rstrip().rpartition("\n")[2]
    name, _, key = last.partition(": ")
    return key if name == TRAILER else None
