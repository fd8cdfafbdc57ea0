"""The tables of default settings in a document, written from the data.

`python -m haqa_operator.search.engine_defaults.document docs/searching.md` writes them anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from haqa_operator.hardware.accelerators import Platform
from haqa_operator.search.engine_defaults import DEFAULT_SETTINGS, DefaultSetting, Value

_TABLE = re.compile(r"(<!-- settings of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = "| | Setting | Values | Where | Expected | Why | Source |\n| --- | --- | --- | --- | --- | --- | --- |\n"


def written(document: str) -> str:
    """The document with its tables as the data has them."""
    return _TABLE.sub(lambda match: match[1] + _table(Platform(match[2])) + match[3], document)


def _table(platform: Platform) -> str:
    return _HEAD + "".join(_row(rank, one) for rank, one in enumerate(DEFAULT_SETTINGS[platform], start=1))


def _row(rank: int, setting: DefaultSetting) -> str:
    fields = (
        f"{rank}{'' if setting.crossed else '*'}",
        f"`{setting.name}`" if _is_name(setting.name) else setting.name,
        _values(setting),
        setting.applies,
        _expected(setting),
        setting.reason,
        setting.source,
    )
    return "| " + " | ".join(fields) + " |\n"


def _is_name(name: str) -> bool:
    return "-" in name or "_" in name or name == "dtype"


def _values(setting: DefaultSetting) -> str:
    if not isinstance(setting.values, tuple):
        return setting.shown
    return ", ".join(f"`{_value(setting, value)}`" for value in setting.values)


def _value(setting: DefaultSetting, value: Value) -> str:
    """The value alone where the setting's name says the rest."""
    ((name, only), *more) = value.items
    if more or name != setting.name:
        return str(value)
    return str(only).lower() if isinstance(only, bool) else str(only)


def _expected(setting: DefaultSetting) -> str:
    if not isinstance(setting.values, tuple):
        return "by case"
    factors = [f"{value.factor:g}" if isinstance(value.factor, (int, float)) else "by case" for value in setting.values]
    return ", ".join(dict.fromkeys(factors))


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")
