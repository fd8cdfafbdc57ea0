"""What the real torch of the runner's environment says about devices that it cannot use: here there are none."""

from __future__ import annotations

import subprocess

import pytest

from haqa_operator.local.environments import runner_environment

LIMIT_S = 120
PROGRAM = """
import sys
from pathlib import Path
from haqa_runner.quantize import device
device.device_file = lambda vendor: Path("/dev/null")
sys.exit(device.main())
"""


@pytest.mark.parametrize(
    ("vendor", "said"),
    [
        ("nvidia", "The driver's libraries are not here"),
        ("amd", "Take the runner's image for AMD (runner.images.amd, built with TORCH=rocm)"),
    ],
)
def test_torch_itself_is_asked(vendor: str, said: str) -> None:
    done = subprocess.run(
        [str(runner_environment().python), "-c", PROGRAM, vendor],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("/dev/null is there, and torch 2.")
    assert said in done.stdout
