"""Which configurations cannot work, known before a machine is taken: pure policies, tried in order.

Each policy looks at a case and answers with a violation or None; the first violation is the reason why a configuration
is left out (the shape of cert-manager's issuing policies). A policy that lacks what it needs to know (no model profile,
no memory size) lets the configuration pass: its trial finds out.
"""

from __future__ import annotations

from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES
from haqa_operator.search.cases import Case, Policy, first_violation
from haqa_operator.search.engine_policies import ENGINE_POLICIES

POLICIES: tuple[Policy, ...] = (*ARTIFACT_POLICIES, *ENGINE_POLICIES)


def infeasibility(case: Case) -> str | None:
    """Why this configuration cannot work, or None where nothing is known against it."""
    violation = first_violation(case, POLICIES)
    return violation.reason if violation else None
