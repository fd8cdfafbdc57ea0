"""The operator's log: one JSON object a line with the names it is about, or plain lines for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from haqa_operator.cluster.edges import log_context

FORMATS = ("json", "text")


class Names(logging.Filter):
    """Puts namespace, tuning, pool and trial on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        names = log_context.current()
        for name, value in names.items():
            setattr(record, name, value)
        record.about = " ".join(names.values())
        return True


def configure(env: Mapping[str, str]) -> None:
    """By HAQA_LOG_FORMAT and HAQA_LOG_LEVEL. Raises ValueError."""
    shape, level = env.get("HAQA_LOG_FORMAT") or "json", (env.get("HAQA_LOG_LEVEL") or "INFO").upper()
    if shape not in FORMATS:
        raise ValueError(f"HAQA_LOG_FORMAT: {shape!r}; choose one of {', '.join(FORMATS)}")
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"HAQA_LOG_LEVEL: {level!r}; choose one of DEBUG, INFO, WARNING, ERROR")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Names())
    handler.setFormatter(_formatter(shape))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # A line for every event of every pod says nothing; nor does one for every request.
    for chatty in ("kopf.objects", "LiteLLM", "httpx", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _formatter(shape: str) -> logging.Formatter:
    if shape == "text":
        return logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(about)s] %(message)s")
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        reserved_attrs=["about", *RESERVED_ATTRS],
    )
