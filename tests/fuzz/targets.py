"""What comes from outside, and what must hold whatever it is: the reader ends in its own type or in its own error.

Each target takes bytes, of which a fuzzer keeps those that reach new code. Seeds are whole and real, so that it starts
inside.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.unit.agent.builders import make_space
from tests.unit.cluster.answered import FIRST
from tests.unit.cluster.observe.pods import measured
from tests.unit.cluster.tunings import Operated
from tests.unit.contract.endings import ENDINGS
from tests.unit.hardware.label_cases import READ, REFUSED
from tests.unit.metrics.scrapes import EVERY_2_S, scraped, steady, window

from haqa_contract import Failure, TrialReport
from haqa_contract.engine_log.diagnosis import diagnose
from haqa_contract.termination import (
    LIMIT_BYTES,
    REPORT_PREFIX,
    ReportInLog,
    compact,
    decode_termination,
    encode_termination,
    report_from_log,
)
from haqa_operator.agent.faults import Problem
from haqa_operator.agent.replies import MAX_CHOICES, MAX_REASONING_CHARS, Reply, parse_reply
from haqa_operator.api import SpecError, load_tuning
from haqa_operator.api.loading import parse_tuning
from haqa_operator.cluster.observe.revisions import History, read_histories
from haqa_operator.hardware.accelerators import Accelerator, HardwareError
from haqa_operator.hardware.node_labels import pool_accelerator
from haqa_operator.hardware.nodes import Node
from haqa_operator.metrics.prometheus_series import series_of
from haqa_operator.metrics.prometheus_windows import Unreadable, windows_from_prometheus
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.table import Table

_ROOT = Path(__file__).parents[2]
_SPACE = make_space()
_TRIED = frozenset({_SPACE.baseline, _SPACE.candidates[1]})
_ARGS = ("--model", "/models/m", "--port", "8000")
_WINDOWS = (window(7.1, 17.8), window(20.2, 30.9))


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: What it is made for.
        check: Reads an input and asserts what must hold; any exception is a finding.
    """

    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], None]


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _agent_reply(data: bytes) -> None:
    reply = parse_reply(_text(data), _SPACE, _TRIED)
    if not isinstance(reply, Reply):
        assert isinstance(reply, Problem)
        return
    assert len(reply.choices) <= MAX_CHOICES
    for choice in reply.choices:
        assert choice.configuration in _SPACE
        assert choice.configuration not in _TRIED
        assert len(choice.reasoning) <= MAX_REASONING_CHARS


def _agent_seeds() -> list[bytes]:
    replies = (
        '{"choices": [{"candidate": 0, "expected_percent": 140, "chance": 0.8}], "reasoning": "faster"}',
        '<think>W4A16 {"candidate": 1}</think>```json\n{"candidate": 0}\n```',
        '{"stop": true, "reasoning": "nothing is left to gain"}',
        '{"scheme": "W4A16", "algorithm": "gptq", "max-num-seqs": 64}',
        json.dumps({"tool": json.dumps({"choices": [{"candidate": "0"}]})}),
    )
    return [reply.encode() for reply in replies]


def _termination(data: bytes) -> None:
    found = decode_termination(_text(data))
    assert found is None or isinstance(found, (TrialReport, ReportInLog))
    if isinstance(found, TrialReport):
        assert len(encode_termination(found).encode()) <= LIMIT_BYTES


def _termination_seeds() -> list[bytes]:
    report = measured()
    return [encode_termination(report).encode(), compact(report).encode()]


def _step_log(data: bytes) -> None:
    found = report_from_log(_text(data))
    assert found is None or isinstance(found, TrialReport)


def _step_log_seeds() -> list[bytes]:
    line = f"{REPORT_PREFIX}{compact(measured())}"
    return [f"HAQA {{}}\n{line}\n".encode(), f"{line}\n{REPORT_PREFIX}{{".encode()]


def _engine_log(data: bytes) -> None:
    failure = diagnose(_text(data[1:]), (None, 0, 1, 137, -9, 143)[data[0] % 6] if data else None, _ARGS)
    assert isinstance(failure, Failure)
    assert failure.message
    assert "Traceback (most recent call last):" not in failure.message
    assert len(failure.model_dump_json().encode()) < LIMIT_BYTES


def _engine_log_seeds() -> list[bytes]:
    return [b"\x02" + (ending.start + ending.rest).encode() for ending in ENDINGS]


def _node_labels(data: bytes) -> None:
    try:
        found = json.loads(data)
        nodes = [Node(str(one["name"]), _texts(one["labels"]), _texts(one["devices"])) for one in found]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    with contextlib.suppress(HardwareError):
        accelerator = pool_accelerator(nodes, 1, None)
        assert isinstance(accelerator, Accelerator)
        assert accelerator.describe()
        assert (accelerator.memory_gib or 1) > 0


def _texts(value: dict[str, object]) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()}


def _node_label_seeds() -> list[bytes]:
    cases = ((labels, devices) for _, labels, devices, *_ in READ + REFUSED)
    return [json.dumps([{"name": "a", "labels": labels, "devices": devices}]).encode() for labels, devices in cases]


def _says_why(error: Exception) -> None:
    assert str(error).strip()


@cache
def _file(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix="haqa-fuzz-")) / name


def _tuning_file(data: bytes) -> None:
    file = _file("tuning.yaml")
    file.write_bytes(data)
    try:
        tuning = load_tuning(file)
    except SpecError as refused:
        _says_why(refused)
        return
    assert parse_tuning(tuning.model_dump(mode="json", by_alias=True, exclude_none=True)) == tuning


def _tuning_seeds() -> list[bytes]:
    files = [*sorted((_ROOT / "examples").glob("*.yaml")), _ROOT / "benchmarks" / "sweep" / "cpu.yaml"]
    return [file.read_bytes() for file in files]


def _prometheus(data: bytes) -> None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    with contextlib.suppress(ValueError, Unreadable):  # `PrometheusSource.samples` turns the first into the second
        series = series_of(found)
        with contextlib.suppress(Unreadable):
            read = windows_from_prometheus(_WINDOWS, series, model="m")
            assert len(read) == len(_WINDOWS)


def _prometheus_seeds() -> list[bytes]:
    found = [
        {"metric": dict(one.labels), "values": [[at, f"{value:g}"] for at, value in one.points]}
        for one in scraped(EVERY_2_S, steady())
    ]
    return [json.dumps(found).encode(), json.dumps(found[:3]).encode()]


def _table(data: bytes) -> None:
    file = _file("table.csv")
    file.write_bytes(data)
    try:
        table = Table.load(file)
    except TableError as refused:
        _says_why(refused)
        return
    assert table.rows
    assert table.baseline in table.rows


def _table_seeds() -> list[bytes]:
    files = [_ROOT / "benchmarks" / "tables" / f"{name}.csv" for name in ("torchao", "qserve", "redhat")]
    return [file.read_bytes() for file in files]


def _record(data: bytes) -> None:
    try:
        found = json.loads(data)
        # What the API server sees to, of any object.
        metadata = found["metadata"]
        kept = isinstance(metadata["name"], str) and isinstance(metadata["namespace"], str)
        kept = kept and type(found["revision"]) is int and abs(found["revision"]) < 2**63
        for name in ("labels", "annotations"):
            given = metadata.get(name) or {}
            kept = kept and all(isinstance(value, str) for value in given.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    if kept:
        assert all(isinstance(one, History) for one in read_histories([found]).values())


def _record_seeds() -> list[bytes]:
    operated = Operated()
    operated.submit(**FIRST)
    operated.run()
    return [json.dumps(record).encode() for record in operated.records()]


TARGETS = {
    "agent-reply": Target(_agent_seeds, _agent_reply),
    "termination-message": Target(_termination_seeds, _termination),
    "step-log": Target(_step_log_seeds, _step_log),
    "engine-log": Target(_engine_log_seeds, _engine_log),
    "node-labels": Target(_node_label_seeds, _node_labels),
    "tuning-file": Target(_tuning_seeds, _tuning_file),
    "prometheus-answer": Target(_prometheus_seeds, _prometheus),
    "table": Target(_table_seeds, _table),
    "record": Target(_record_seeds, _record),
}
