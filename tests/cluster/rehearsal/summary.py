"""What a rehearsal found out, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tests.cluster.kubectl import Manifest

_FIGURES = ("throughput", "throughput@16", "throughput@128", "perplexity")
SCHEMES = ("BF16", "FP8-DYNAMIC", "W8A8-INT8", "W4A16")
"""What is considered on these GPUs."""
_LONGEST = 230


def winners(tuning: Manifest, trials: Sequence[Manifest]) -> str:
    """A row for each pool."""
    columns = ("pool", "hardware", "winner", "over its reference", *SCHEMES, "why the search ended")
    rows = [_row(*columns), _row(*["---"] * len(columns))]
    for pool in tuning["status"]["pools"]:
        best = pool.get("best") or {}
        speedup = best.get("speedup")
        times = f"{speedup['value']:.2f} times ({speedup['low']:.2f} to {speedup['high']:.2f})" if speedup else "–"
        cells = (pool["name"], pool.get("hardware", ""), best.get("configuration", "none"), times)
        own = [trial for trial in trials if trial["spec"]["pool"] == pool["name"]]
        formats = [_best_of(scheme, own, pool) for scheme in SCHEMES]
        rows.append(_row(*cells, *formats, pool.get("stopped") or pool.get("message", "")))
    return "\n".join(rows)


def _best_of(scheme: str, trials: Sequence[Manifest], pool: Manifest) -> str:
    """The most tokens/s of a number format, over all levels; or why there are none."""
    own = [trial.get("status", {}) for trial in trials if trial["spec"]["configuration"]["scheme"] == scheme]
    served = [status for status in own if "throughput" in status.get("metrics", {}) and not status.get("failure")]
    if served:
        return f"{max(status['metrics']['throughput']['value'] for status in served):.0f}"
    if any(status.get("metrics") and not status.get("failure") for status in own):
        return "scored, not served"
    failures = [status["failure"]["reason"] for status in own if status.get("failure")]
    ruled_out = any(f"scheme={scheme}" == part for one in pool.get("skipped", ()) for part in [one["parameters"]])
    return failures[0] if failures else ("ruled out" if ruled_out else "not tried")


def attempts(trials: Sequence[Manifest]) -> str:
    """A row for each trial."""
    columns = ("pool", "trial", "configuration", "tokens/s", "at 16", "at 128", "perplexity", "what happened")
    rows = [_row(*columns), _row(*["---"] * len(columns))]
    for trial in sorted(trials, key=lambda one: (one["spec"]["pool"], one["spec"]["number"])):
        status, spec = trial.get("status", {}), trial["spec"]
        found = status.get("metrics", {})
        figures = [f"{found[name]['value']:.4g}" if name in found else "" for name in _FIGURES]
        failure = status.get("failure")
        what = f"{failure['reason']}: {failure['message']}" if failure else status.get("endedEarly") or ""
        rows.append(_row(spec["pool"], str(spec["number"]), described(spec["configuration"]), *figures, what))
    return "\n".join(rows)


def refusals(tuning: Manifest) -> str:
    """A row for each part of a pool's space that was ruled out."""
    rows = ["| pool | ruled out | why |", "|---|---|---|"]
    for pool in tuning["status"]["pools"]:
        rows += [_row(pool["name"], one["parameters"], one["reason"]) for one in pool.get("skipped", ())]
    return "\n".join(rows)


def described(configuration: Manifest) -> str:
    made = [configuration["scheme"], configuration.get("algorithm", "none")]
    name = made[0] if made[1] == "none" else "/".join(made)
    return ", ".join([name, *(f"{setting}={value}" for setting, value in configuration.get("engine", {}).items())])


def _row(*cells: str) -> str:
    def cell(text: str) -> str:
        line = " ".join(text.replace("|", "\\|").split())
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

    return "| " + " | ".join(map(cell, cells)) + " |"
