"""What HAQA understands of every model config in a folder: parameters, matrices by role, cache, quantization.

    .venvs/runner/bin/python -m benchmarks.model_facts FOLDER
    .venvs/runner/bin/python -m benchmarks.model_facts FOLDER --parameters counts.json

A config is `NAME.config.json` (with `NAME.hf_quant_config.json` beside it, if there is one) or `NAME/config.json`.
`counts.json` maps NAME to `{"params": number}`; the exit status is 1 if one is off by more than a hundredth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haqa_contract.model_facts import KvCache, ModelFacts, Role
from haqa_runner.models.architecture.facts import facts_of
from haqa_runner.models.formats import BESIDE_CONFIG, quantization

_CLOSE = 0.01
_ENDING = ".config.json"


@dataclass(frozen=True)
class Read:
    """One config and what was made of it."""

    name: str
    facts: ModelFacts
    seconds: float


def main() -> int:
    """Exit status: 0 = all counts are right, 1 = some are not, 2 = some file cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.model_facts", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parameters", type=Path, help="true numbers of parameters, to compare with")
    parser.add_argument("--shapes", action="store_true", help="every matrix")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each config")
    arguments = parser.parse_args()
    true = json.loads(arguments.parameters.read_text()) if arguments.parameters else {}
    status = 0
    for name, path in _configs(arguments.folder):
        try:
            read = _read(name, path)
        except (OSError, ValueError) as error:
            print(f"{name}: {path} cannot be read ({error})", file=sys.stderr)
            status = 2
            continue
        expected = (true.get(name) or {}).get("params")
        wrong = expected is not None and abs(read.facts.parameters - expected) > _CLOSE * expected
        status = max(status, int(wrong))
        if arguments.json:
            print(json.dumps({"name": name, **read.facts.model_dump(mode="json")}))
        else:
            _print(read, expected, wrong, arguments.shapes)
    return status


def _configs(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*config.json")):
        if path.name == "config.json":
            yield path.parent.name, path
        elif path.name.endswith(_ENDING):
            yield path.name.removesuffix(_ENDING), path


def _read(name: str, path: Path) -> Read:
    config = _object(path)
    names = (path.with_name(f"{path.name.removesuffix('config.json')}{other}") for other in BESIDE_CONFIG)
    beside = next((other for other in names if other.is_file()), None)
    began = time.monotonic()
    facts = facts_of(config)
    found = quantization(config, _object(beside) if beside else None)
    return Read(name, facts.model_copy(update={"quantization": found}), time.monotonic() - began)


def _object(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _print(read: Read, expected: int | None, wrong: bool, shapes: bool) -> None:
    facts = read.facts
    by_role: dict[Role, int] = {}
    for matrix in facts.matrices:
        by_role[matrix.role] = by_role.get(matrix.role, 0) + matrix.parameters
    verdict = "" if expected is None else f", {'NOT ' if wrong else ''}the {expected:,} that it has"
    print(f"{read.name}: {facts.architecture}, by {facts.source} in {read.seconds:.1f} s")
    print(f"    {facts.parameters:,} parameters{verdict}")
    print(f"    in billions: {', '.join(f'{role} {count / 1e9:.2f}' for role, count in by_role.items()) or 'unknown'}")
    print(f"    {facts.heads} heads, {facts.kv_heads} of keys and values, {facts.head_dim} wide; cache: {_kept(facts)}")
    if facts.experts:
        print(f"    {facts.experts_per_token} of {facts.experts} experts a token")
    if facts.quantization:
        group = f" g{facts.quantization.group_size}" if facts.quantization.group_size else ""
        print(f"    quantized already: {facts.quantization.name}, computed like {facts.quantization.scheme}{group}")
    for matrix in facts.matrices if shapes else ():
        size = f"{matrix.rows} x {matrix.columns}"
        rounded = "rounded" if matrix.rounded else ""
        print(f"    {matrix.role:16} {matrix.name:48} {size:>16} {matrix.count:>6} times  {matrix.split:8} {rounded}")
    for note in facts.notes:
        print(f"    {note}")


def _kept(facts: ModelFacts) -> str:
    if facts.cache is None:
        return "unknown"
    state = [f"{facts.state_numbers:,} numbers whatever the length"] if facts.state_numbers else []
    return ", ".join([*(_entry(cache) for cache in facts.cache), *state]) or "none"


def _entry(cache: KvCache) -> str:
    window = f" of the last {cache.window} tokens" if cache.window else ""
    shared = f" for every {cache.tokens_per_entry} tokens" if cache.tokens_per_entry > 1 else ""
    return f"{cache.layers} layers x {cache.numbers} numbers{window}{shared}"


if __name__ == "__main__":
    sys.exit(main())
