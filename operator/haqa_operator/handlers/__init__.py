"""Kopf's entry points: they say which tuning to look at again, and nothing else."""
