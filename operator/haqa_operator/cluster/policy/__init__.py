"""What an installation lets the authors of tunings ask for, checked by the operator and by the API server alike."""

from haqa_operator.cluster.policy.model import Policy
from haqa_operator.cluster.policy.problems import policy_problems

__all__ = ["Policy", "policy_problems"]
