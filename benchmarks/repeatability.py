"""What measuring the same configuration again and again gives, and so which difference a tuning can tell from noise.

python benchmarks/repeatability.py results/repeatability/report.json
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from haqa_contract.statistics import student_t


def main(report: Path) -> None:
    pools = json.loads(report.read_text())["pools"]
    values: dict[str, list[float]] = {}
    ratios = []
    for pool in pools:
        measured = {
            trial["proposal"]["configuration"]["scheme"]: trial["status"]["metrics"]["throughput"]["value"]
            for trial in pool["trials"]
            if trial["status"]["phase"] == "Succeeded"
        }
        for scheme, value in measured.items():
            values.setdefault(scheme, []).append(value)
        ratios.append(measured["W8A8-INT8"] / measured["BF16"])
    for scheme, found in values.items():
        show(f"{scheme}, output tokens/s", found)
    show("W8A8-INT8 over BF16", ratios)


def show(what: str, found: list[float]) -> None:
    mean, spread = statistics.fmean(found), statistics.stdev(found)
    resolved = student_t(len(found) - 1) * spread * 2**0.5 / mean
    print(
        f"{what}: {' '.join(f'{value:.4g}' for value in found)}; mean {mean:.4g}, standard deviation "
        f"{spread / mean:.1%}; two single trials differ for sure from {resolved:.1%} on"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
