"""Kinds that the operator writes without ever asking for them by kind: what serves a winner."""

from haqa_operator.cluster.edges.api_server import Kind

DEPLOYMENT = Kind("apps/v1", "Deployment")
SERVICE = Kind("v1", "Service")
