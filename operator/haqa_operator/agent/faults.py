"""What can be wrong with a reply, in a word for tests and a sentence for the model that is asked again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What can be wrong with a reply."""

    EMPTY = "empty"
    TOO_LONG = "too-long"
    MALFORMED = "malformed"
    NOT_A_CANDIDATE = "not-a-candidate"
    UNKNOWN_PARAMETER = "unknown-parameter"
    INFEASIBLE = "infeasible"
    DUPLICATE = "duplicate"
    TOO_EARLY = "too-early"


@dataclass(frozen=True)
class Problem:
    """Why a reply, or one of its candidates, cannot be used; `sentence` goes back to the model and into the record."""

    fault: Fault
    sentence: str
