"""The table of endings: tests/data/engine_logs/endings.yaml, each with its whole log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from haqa_contract import FailureReason

TABLE = Path(__file__).parents[2] / "data" / "engine_logs" / "endings.yaml"


@dataclass(frozen=True)
class Ending:
    """How one engine ended.

    Attributes:
        source: What raises the message: a file of vLLM or a library, or a public issue.
        says: A part of the sentence that it should become.
        start: Lines before anything is wrong.
        rest: What went wrong, and what other processes say of it.
        exit_code: As from Popen or a container; None for an engine whose API server still runs.
    """

    name: str
    source: str
    reason: FailureReason
    says: str
    start: str
    rest: str
    exit_code: int | None

    @property
    def log(self) -> str:
        return self.start + self.rest


def _endings() -> tuple[Ending, ...]:
    table = yaml.safe_load(TABLE.read_text())
    return tuple(
        Ending(
            name=row["name"],
            source=row["source"],
            reason=FailureReason(row["reason"]),
            says=row["says"],
            start=table["starts"][row["start"]],
            rest=row["log"] + table["ends"][row["end"]],
            exit_code=row["exit_code"],
        )
        for row in table["endings"]
    )


ENDINGS = _endings()
