"""Commands that are imported when somebody types them, or asks for help."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_MODULES = {"replay": "haqa_operator.cli.replaying", "bench": "haqa_operator.cli.benching"}
"""Command -> module with an `app` of it."""


class LazyGroup(TyperGroup):
    """All commands, some of which are imported late."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_MODULES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(import_module(_MODULES[cmd_name]).app)
        command.name = cmd_name
        return command
