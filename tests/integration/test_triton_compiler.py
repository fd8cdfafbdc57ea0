"""Triton's own build, with the compiler that it finds: as far as a GPU's kernels can be tried without a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from haqa_operator.local.environments import PROJECT, runner_environment

LIMIT_S = 300
BUILD = """
import subprocess, sys, tempfile
from pathlib import Path
from triton.backends import nvidia
from triton.runtime.build import _build
folder = tempfile.mkdtemp()
driver = Path(nvidia.__file__).parent
if len(sys.argv) > 1:  # what the node's driver brings
    library = f"{folder}/libcuda.so.1"
    subprocess.run([sys.argv[1], "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", library], check=True)
print(_build("cuda_utils", str(driver / "driver.c"), folder, [folder], [str(driver / "include")], ["libcuda.so.1"], []))
"""
IMPORT = """
from haqa_runner.quantize import machine
machine.has_device_file = lambda: True
from haqa_runner.quantize import warm
from compressed_tensors.utils.impl_backend import ENFORCE_EAGER
import os
print(ENFORCE_EAGER, os.environ.get("CT_ENFORCE_EAGER"))
"""


def run(program: str, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT / "runner")}
    for name in ("CC", "CT_ENFORCE_EAGER"):
        environment.pop(name, None)
    command = [str(runner_environment().python), "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_triton_builds_its_launcher_for_nvidia_with_the_compiler_on_the_path() -> None:
    built = run(BUILD, "gcc", path=os.environ["PATH"])
    assert built.returncode == 0, built.stderr
    assert Path(built.stdout.strip()).stat().st_size > 10_000


def test_triton_builds_nothing_without_a_compiler(tmp_path: Path) -> None:
    built = run(BUILD, path=str(tmp_path))
    assert built.returncode != 0
    assert "Failed to find C compiler" in built.stderr


def test_without_a_compiler_torchs_operations_take_the_place_of_tritons_kernels(tmp_path: Path) -> None:
    assert run(IMPORT, path=str(tmp_path)).stdout.splitlines()[-1] == "1 None"


def test_with_a_compiler_tritons_kernels_are_used() -> None:
    assert run(IMPORT, path=os.environ["PATH"]).stdout.splitlines()[-1] == "False None"
