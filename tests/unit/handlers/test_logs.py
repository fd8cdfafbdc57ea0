"""Log lines that a collector can read: JSON, with the tuning and the trial they are about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from haqa_operator.cluster.edges.log_context import about
from haqa_operator.handlers import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_the_names_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure({})
    with about(namespace="team", tuning="demo"), about(trial="demo-full-001"):
        logging.getLogger("haqa").warning("ended after %d s", 3)
    line = json.loads(capsys.readouterr().err)
    assert {name: line[name] for name in ("level", "logger", "message", "namespace", "tuning", "trial")} == {
        "level": "WARNING",
        "logger": "haqa",
        "message": "ended after 3 s",
        "namespace": "team",
        "tuning": "demo",
        "trial": "demo-full-001",
    }


def test_a_traceback_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure({})
    try:
        raise ValueError("no such node")
    except ValueError:
        logging.getLogger("haqa").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such node" in json.loads(line)["exception"]


def test_plain_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure({"HAQA_LOG_FORMAT": "text"})
    with about(tuning="demo"):
        logging.getLogger("haqa").info("looked")
    assert "INFO haqa [demo] looked" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("HAQA_LOG_FORMAT", "xml"), ("HAQA_LOG_LEVEL", "loud")])
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{value}".replace("loud", "LOUD")):
        logs.configure({name: value})
