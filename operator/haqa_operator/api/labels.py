"""Labels and annotations of what HAQA makes or reads in a cluster: each name stands here and nowhere else."""

from __future__ import annotations

PREFIX = "haqa.dev/"

TUNING_LABEL = f"{PREFIX}tuning"
POOL_LABEL = f"{PREFIX}pool"
TRIAL_LABEL = f"{PREFIX}trial"
COMPONENT_LABEL = f"{PREFIX}component"
"""`trial`, `artifact` or `model`: what a Job is for."""
ARTIFACT_LABEL = f"{PREFIX}artifact"
"""What a Job makes: `tuning.artifacts.artifact_name`."""
ATTEMPT_LABEL = f"{PREFIX}attempt"
"""1 for a trial's first Job."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

ASKED_BY_ANNOTATION = f"{PREFIX}asked-by"
"""On the Job of an artifact: name of the trial that its time is put down to."""
REQUEST_ANNOTATION = f"{PREFIX}request"
"""On a Job: what its runner is asked for."""
APPROVAL_ANNOTATION = f"{PREFIX}approve"
"""On a tuning: names of the trials that may be deployed, separated by commas."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "haqa"}
