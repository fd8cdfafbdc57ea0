"""Runs a command as on a CPU with fewer instructions: `python -m tests.older_cpu.run avx2 haqa tune FILE`.

Which schemes an engine can serve, and how fast, depends on the CPU; so do tests that nobody meant to. Here any machine
stands in for an older one:

- /proc/cpuinfo has the older one's flags: a mount namespace of the command's own;
- torch, in the engine's environment, denies what is wider, so that vLLM loads the build of its kernels that it has for
  such a CPU (`older_cpu.py`): a copy of the environment out of links, which HAQA_SERVING_PYTHON names;
- oneDNN, ATen and MKL choose their kernels by variables of their own.

What vLLM itself compiled in stays true to the older CPU, for it is the real build; only the speed of one instruction is
that of this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.older_cpu.older_cpu import WIDENING

from haqa_operator.hardware.instruction_sets import from_flags
from haqa_operator.local.environments import PROJECT, serving_environment

_HERE = Path(__file__).parent
_CACHE = PROJECT / ".cache" / "older-cpu"


class CannotStandInError(Exception):
    """This machine cannot stand in for that CPU; the sentence says why."""


@dataclass(frozen=True)
class OlderCpu:
    """A CPU that this machine can stand in for.

    Attributes:
        flags: Beginnings of the flags of /proc/cpuinfo that it does not have.
        kept: Flags that it has all the same.
        variables: By which libraries that choose their kernels themselves are held to it.
    """

    flags: tuple[str, ...]
    variables: dict[str, str]
    kept: tuple[str, ...] = ()

    def cpuinfo(self, text: str) -> str:
        return "\n".join(self._line(line) for line in text.splitlines()) + "\n"

    def _line(self, line: str) -> str:
        name, colon, value = line.partition(":")
        if name.strip() != "flags":
            return line
        left = [flag for flag in value.split() if flag in self.kept or not flag.startswith(self.flags)]
        return f"{name}{colon} {' '.join(left)}"


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd")
_WIDE = {"ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512"}

OLDER_CPUS = {
    "avx2": OlderCpu(
        ("avx512", "amx", "avx_vnni", "avx10"),
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    ),
    "avx512": OlderCpu(
        ("avx512", "amx", "avx_vnni", "avx10"), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"} | _WIDE, kept=_AVX512
    ),
    "avx512_vnni": OlderCpu(
        ("avx512", "amx", "avx10"),
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"} | _WIDE,
        kept=(*_AVX512, "avx512_vnni"),
    ),
    "avx512_bf16": OlderCpu(("amx", "avx512_fp16", "avx10"), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"} | _WIDE),
    "avx512_fp16": OlderCpu(("amx", "avx10"), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"} | _WIDE),
}


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in OLDER_CPUS:
        print(f"usage: python -m tests.older_cpu.run {'|'.join(OLDER_CPUS)} COMMAND...", file=sys.stderr)
        return 2
    isa, *command = arguments
    try:
        return subprocess.run(_as(isa, command), env={**os.environ, **_environment(isa)}).returncode
    except CannotStandInError as error:
        print(error, file=sys.stderr)
        return 2


def _as(isa: str, command: list[str]) -> list[str]:
    """The command in a mount namespace in which /proc/cpuinfo is the older CPU's."""
    here = Path("/proc/cpuinfo").read_text()
    flags = next((line.partition(":")[2] for line in here.splitlines() if line.startswith("flags")), "")
    own = from_flags(flags.split())
    if own not in WIDENING or WIDENING.index(own) < WIDENING.index(isa):
        raise CannotStandInError(f"this CPU has {own or 'not even avx2'} and cannot stand in for one with {isa}")
    file = _CACHE / isa / "cpuinfo"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(OLDER_CPUS[isa].cpuinfo(here))
    mounting = 'mount --bind "$0" /proc/cpuinfo && exec "$@"'
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *mapped, "sh", "-c", mounting, str(file), *command]


def _environment(isa: str) -> dict[str, str]:
    return {**OLDER_CPUS[isa].variables, "HAQA_SERVING_PYTHON": str(_engine_environment(isa))}


def _engine_environment(isa: str) -> Path:
    """The interpreter of an environment like the serving one, in which torch knows an older CPU."""
    real = serving_environment()
    if not real.exists:
        raise CannotStandInError(f"there is no {real.python}: run `make envs`")
    folder = _CACHE / isa / "serving"
    for packages in real.site_packages():
        copied = folder / "lib" / packages.parent.name / "site-packages"
        copied.mkdir(parents=True, exist_ok=True)
        _link_all(packages, copied)
        (copied / "older_cpu.py").write_text((_HERE / "older_cpu.py").read_text())
        (copied / "older_cpu.pth").write_text(f"import older_cpu; older_cpu.pretend({isa!r})\n")
    (folder / "bin").mkdir(exist_ok=True)
    _link_all(real.python.parent, folder / "bin")
    # What an engine may preload.
    _link_all(real.python.parent.parent / "lib", folder / "lib")
    (folder / "pyvenv.cfg").write_text((real.python.parent.parent / "pyvenv.cfg").read_text())
    return folder / "bin" / real.python.name


def _link_all(source: Path, target: Path) -> None:
    """Links in `target` to everything in `source`, and to nothing that is gone."""
    for link in target.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    for entry in source.iterdir():
        link = target / entry.name
        if not link.exists():
            link.symlink_to(entry.absolute())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
