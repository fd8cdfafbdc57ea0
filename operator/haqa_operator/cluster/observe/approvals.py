"""Whether a winner may be deployed, by the approvals that there are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from haqa_operator.api.approval import QuantizationApproval
from haqa_operator.api.manifests import Manifest


@dataclass(frozen=True)
class Approval:
    """Who approved a winner, and when.

    Attributes:
        name: Of the QuantizationApproval.
        by: User name.
        at: When it was created, in Unix seconds.
        expires: Until when it counts, in Unix seconds; None = always.
    """

    name: str
    by: str
    at: float
    expires: float | None = None


def approved(approvals: Sequence[Manifest], tuning: str, trial: str, now: float, since: float = 0.0) -> Approval | None:
    """The earliest approval of a winner that counts; None where there is none.

    One that has expired, is being deleted or cannot be understood does not count.

    Args:
        approvals: Those of the tuning's namespace.
        trial: Name of the winner's trial.
        now: Unix seconds.
        since: Unix seconds; what is older was said of something else: an earlier tuning of this name, whose trials had
            the same names.
    """
    read = (_read(manifest) for manifest in approvals)
    found = [approval for one in read if one is not None and (approval := _counting(one, tuning, trial, now, since))]
    return min(found, key=lambda approval: (approval.at, approval.name), default=None)


def _read(manifest: Manifest) -> QuantizationApproval | None:
    try:
        return QuantizationApproval.model_validate(manifest)
    except ValidationError:
        return None


def _counting(one: QuantizationApproval, tuning: str, trial: str, now: float, since: float) -> Approval | None:
    metadata, spec = one.metadata, one.spec
    if metadata.creation_timestamp is None or metadata.deletion_timestamp is not None:
        return None
    at = metadata.creation_timestamp.timestamp()
    expires = spec.expires.timestamp() if spec.expires is not None else None
    if (spec.tuning, spec.trial) != (tuning, trial) or at < since or (expires is not None and expires <= now):
        return None
    return Approval(metadata.name, spec.approved_by, at, expires)
