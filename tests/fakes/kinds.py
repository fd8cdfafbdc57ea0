"""Kinds that the operator writes without ever asking for them by kind: what serves a winner."""

from haqa_operator.cluster.edges.api_server import CONTROLLER_REVISION, DEPLOYMENT, Kind

SERVICE = Kind("v1", "Service")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget")

__all__ = ["CONTROLLER_REVISION", "DEPLOYMENT", "DISRUPTION_BUDGET", "SERVICE"]
