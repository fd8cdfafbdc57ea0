"""Kopf's entry points: they say which tuning to reconcile, and nothing else."""
