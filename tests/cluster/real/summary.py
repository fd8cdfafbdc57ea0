"""What a tuning found out, as a table for a person."""

from __future__ import annotations

from collections.abc import Sequence

from tests.cluster.kubectl import Manifest

_METRICS = ("throughput", "throughput@1", "throughput@8", "perplexity")


def summary(tuning: Manifest, trials: Sequence[Manifest], seconds: float) -> str:
    lines = [f"tuning {tuning['status']['phase']} after {seconds:.0f} s"]
    for trial in sorted(trials, key=lambda found: (found["spec"]["pool"], found["spec"]["number"])):
        status, spec = trial["status"], trial["spec"]
        metrics = status.get("metrics", {})
        figures = [f"{name} {metrics[name]['value']:.4g}" for name in _METRICS if name in metrics]
        failure = status.get("failure") or {}
        figures += [f"{failure['reason']}: {failure['message']}"] if failure else []
        took = f"{status['finished'] - status['started']:.0f} s" if status.get("finished") else "unfinished"
        phases = {name: round(value) for name, value in status.get("phaseSeconds", {}).items()}
        scheme = spec["configuration"]["scheme"]
        lines.append(f"{spec['pool']} trial {spec['number']} {scheme}: {', '.join(figures)}; {took} {phases}")
    for pool in tuning["status"].get("pools", ()):
        best = pool.get("best") or {}
        lines.append(f"{pool['name']}: {pool['phase']} {best.get('configuration')} {best.get('speedup')}")
        lines.append(f"  {pool.get('message')}")
    return "\n".join(lines)
