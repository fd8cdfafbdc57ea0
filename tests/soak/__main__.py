"""Hours of an operator's life in minutes: tunings come, end and go, and its memory must not grow.

    make soak HOURS=6

The whole of the operator but its watches runs against a simulated cluster whose clock is moved, 30 seconds a step.
Every hour new tenants write tunings of every kind (failing, edited, suspended, wrong, deleted while they run), and at
its end everything is deleted and every cache that has a limit is emptied: what is in memory then has leaked. Exit code
1: more and more blocks of memory are in use in the second half of the hours, or something went wrong on the way.
"""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cachetools import LRUCache
from tests.fakes.simulated_cluster import NAMESPACE, reporting
from tests.unit.cluster.tunings import POOLS, Operated, tuning_manifest

from haqa_contract import FailureReason
from haqa_operator.cluster.edges.api_server import TUNING

STEPS_AN_HOUR = 120
_EVERY = 12
"""Steps from one new tuning to the next."""
_LEAK = 2000
"""Blocks an hour; the played cluster remembers some hundred. What is resident also depends on how memory is cut up."""
_SCHEMES = ("BF16", "W8A8-INT8", "W4A16")


class Soak:
    """A cluster, its operator, and tenants who write tunings by chance.

    Attributes:
        ended: Phase -> tunings that were in it when they were deleted.
    """

    def __init__(self, seed: int) -> None:
        self.operated = Operated()
        self.ended: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._number = 0

    def hour(self) -> None:
        for step in range(STEPS_AN_HOUR):
            if step % _EVERY == 0 and step < STEPS_AN_HOUR - 2 * _EVERY:
                self._write_one()
            for name in self._names():
                self.operated.reconcile(name)
                self._meddle(name)
            self.operated.cluster.step()
        for name in list(self._names()):
            self._delete(name)
        self.operated.cluster.step()
        self._forget()

    def _write_one(self) -> None:
        self._number += 1
        chance = self._chance
        strategy = chance.choice(["haqa", "tpe", "grid", "random"])
        # Values that nobody has written before: a cache by values has to forget them.
        seqs = [chance.randrange(64, 4096) for _ in range(3)]
        search: dict[str, Any] = {
            "strategy": strategy,
            "schemes": list(_SCHEMES),
            "algorithms": ["rtn"],
            "engine": {"max-num-seqs": seqs},
            "engineDefaults": chance.random() < 0.3,
        }
        if chance.random() < 0.1:
            search["engine"] = {f"max-num-sequences-{self._number}": seqs}
        pools = POOLS if chance.random() < 0.3 else (chance.choice(POOLS),)
        if chance.random() < 0.3:
            reason = chance.choice([FailureReason.ENGINE_OOM, FailureReason.ACCURACY_GATE, FailureReason.EVICTED])
            ending = reporting(reason, f"tuning {self._number} did not work; try another")
            self.operated.cluster.endings[(pools[0], chance.choice(_SCHEMES))] = [ending]
        self.operated.cluster.api.stand_in(tuning_manifest(f"soak-{self._number}", pools, search=search))

    def _meddle(self, name: str) -> None:
        dice = self._chance.random()
        if dice < 0.01:
            self._delete(name)
        elif dice < 0.03:
            budget = {"maxTrials": self._chance.randint(1, 8), "trialTimeout": "5m"}
            self._edit(name, budget=budget)
        elif dice < 0.05:
            self._edit(name, suspend=self._chance.random() < 0.3)

    def _edit(self, name: str, **spec: Any) -> None:
        found = self.operated.cluster.api.get(TUNING, name, NAMESPACE)
        if found is not None:
            found["metadata"].pop("managedFields", None)
            self.operated.cluster.api.stand_in({**found, "spec": {**found["spec"], **spec}})

    def _delete(self, name: str) -> None:
        self.ended[str(self.operated.status(name).get("phase"))] += 1
        self.operated.cluster.api.delete(TUNING, name, NAMESPACE)
        self.operated.reconcile(name)

    def _forget(self) -> None:
        """What serves is deleted by its owners, an API server forgets events, and nobody asks for the calls again."""
        self.operated.api.calls.clear()
        stored = self.operated.cluster.api._stored
        for address in [address for address in stored if address[0].kind != "Node"]:
            del stored[address]

    def _names(self) -> Iterator[str]:
        return iter([one["metadata"]["name"] for one in self.operated.cluster.api.list(TUNING, NAMESPACE)])


def empty_caches() -> None:
    """Those that have a limit: what is in them has not leaked, and filling them takes days. Others are left alone."""
    for found in gc.get_objects():
        if isinstance(found, LRUCache):
            found.clear()
        elif isinstance(found, functools._lru_cache_wrapper) and found.cache_parameters()["maxsize"] is not None:
            found.cache_clear()


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # a tenant's troubles are what is played here
    soak, blocks = Soak(asked.seed), []
    print("hour  seconds  tunings  resident MiB  blocks in use", flush=True)
    for hour in range(1, asked.hours + 1):
        began = time.perf_counter()
        soak.hour()
        empty_caches()
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        row = (hour, time.perf_counter() - began, sum(soak.ended.values()), resident_mib(), blocks[-1])
        print("{:4d}  {:7.0f}  {:7d}  {:12.1f}  {:13,d}".format(*row), flush=True)
    print("ended as:", ", ".join(f"{phase} {count}" for phase, count in sorted(soak.ended.items())))
    half = blocks[max(1, len(blocks) // 2) :]  # the first hour imports and compiles
    grown = (half[-1] - half[0]) / max(1, len(half) - 1)
    print(f"{grown:+.0f} blocks an hour in the second half; {len(soak.operated.errors)} errors")
    for error in soak.operated.errors[:5]:
        print(f"  {type(error).__name__}: {error}")
    sys.exit(grown > _LEAK or bool(soak.operated.errors))


if __name__ == "__main__":
    main()
