"""The `haqa` command."""

from haqa_operator.cli.app import app

__all__ = ["app"]
