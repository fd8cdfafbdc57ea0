"""vLLM's GPU wheels, unpacked and not installed: their Python, and what their compiled code says without a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from haqa_operator.local.environments import PROJECT

CACHE = PROJECT / ".cache" / "upstream"

_COMPILED = re.compile(r"vllm/_C_stable_libtorch\.abi3\.so|humming/.*\.so")
"""Shared objects that are kept; the others are hundreds of megabytes of kernels."""

_COMPANIONS = ("humming-kernels", "gguf")
"""Small packages that a wheel requires and the serving environment lacks."""


def unpacked(version: str) -> Path:
    """The folder of a release, downloaded by pip where it is not there yet."""
    tree = CACHE / version
    if not (tree / "vllm").is_dir():
        work = CACHE / f".{version}"
        shutil.rmtree(work, ignore_errors=True)
        _add(f"vllm=={version}", work)
        for wanted in _companions(work):
            _add(wanted, work)
        work.rename(tree)
    return tree


def _companions(tree: Path) -> list[str]:
    (metadata,) = tree.glob("vllm-*.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: ([a-z-]+)(?:\[\w+\])?(==[\w.]+)?", metadata.read_text(), re.MULTILINE)
    return [name + pinned for name, pinned in required if name in _COMPANIONS]


def _add(wanted: str, tree: Path) -> None:
    wheels = tree / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "--dest", wheels, wanted], check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            archive.extractall(tree, [name for name in names if ".so" not in name or _COMPILED.fullmatch(name)])
    shutil.rmtree(wheels)


def driver_for(tree: Path) -> Path:
    """A library in the place of the driver's, which a machine without a GPU has not: it fails whatever is asked."""
    library = tree / "libcuda.so.1"
    if library.exists():
        return library
    symbols = set()
    for compiled in (path for path in tree.rglob("*.so") if _COMPILED.fullmatch(str(path.relative_to(tree)))):
        table = subprocess.run(["nm", "-D", "--undefined-only", compiled], check=True, capture_output=True, text=True)
        symbols |= set(re.findall(r"\bcu[A-Z]\w*", table.stdout))
    source = "".join(f"int {symbol}(void) {{ return 999; }}\n" for symbol in sorted(symbols))
    options = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-x", "c", "-", "-o", str(library)]
    subprocess.run(["gcc", *options], input=source, check=True, text=True)
    return library
