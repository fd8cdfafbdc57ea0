"""Brings the model of a request to a local folder, whatever kind of place its URI names, and says what it is."""

from haqa_runner.models.fetching import FetchedModel, fetch_adapter, fetch_model, look_at_model

__all__ = ["FetchedModel", "fetch_adapter", "fetch_model", "look_at_model"]
