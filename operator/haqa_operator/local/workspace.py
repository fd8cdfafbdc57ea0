"""The folder of a tuning on one machine.

results/NAME/
  report.html  report.json        the answer, written anew after every pool
  POOL-deployment.yaml            the winner, ready for kubectl apply
  POOL-table.csv                  every measurement, for `haqa replay`
  POOL/FINGERPRINT/journal.jsonl  what happened, append-only
  POOL/FINGERPRINT/trials/TRIAL/  request, step reports and logs of one trial
  store/                          quantized models, by content
  cache/                          fetched models
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Paths inside a tuning's folder; makes none of them."""

    root: Path

    @classmethod
    def of(cls, out: Path, tuning: str) -> Workspace:
        return cls((out / tuning).absolute())

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def report_json(self) -> Path:
        return self.root / "report.json"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def fetch(self) -> Path:
        """Where the model is inspected before the first trial."""
        return self.root / "model"

    def deployment(self, pool: str) -> Path:
        return self.root / f"{pool}-deployment.yaml"

    def table(self, pool: str) -> Path:
        return self.root / f"{pool}-table.csv"

    def run(self, pool: str, fingerprint: str) -> Path:
        return self.root / pool / fingerprint

    def journal(self, pool: str, fingerprint: str) -> Path:
        return self.run(pool, fingerprint) / "journal.jsonl"

    def latest_journal(self, pool: str) -> Path | None:
        """The journal that was written to last, of the pool's runs; None where there is none."""
        journals = (self.root / pool).glob("*/journal.jsonl")
        return max(journals, key=lambda journal: journal.stat().st_mtime, default=None)

    def trial(self, pool: str, fingerprint: str, trial: str) -> Path:
        return self.run(pool, fingerprint) / "trials" / trial
