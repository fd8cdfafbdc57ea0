"""What a forked process does before its program runs, so that the program cannot tell.

Everything an exec'd process would have had from its caller (environment, descriptors, directory,
limits) is put in place, and what two forks of one image must not share (random state, secrets) is
made anew.
"""

import contextlib
import ctypes
import fcntl
import importlib
import multiprocessing.process
import os
import resource
import runpy
import signal
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass

from haqa_runner.prefork import spawning

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Program:
    """A program to run in this process, and the state it expects to find."""

    argv: list[str]  # the module to run as __main__, or "-c" and code; then its arguments
    env: dict[str, str | None]
    cwd: str
    fds: list[tuple[int, int]]  # number it has, number it must get
    group: int  # process group to join; 0 for one of its own
    image: int  # pid of the image
    requester: int  # pid of the process that asked


def die_with_parent(number: int) -> None:
    """Have the kernel send this process signal `number` when its parent ends; 0 for none."""
    if _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def run(program: Program, router_path: str) -> None:
    """Become `program`. Ends as the program ends: returns, raises or exits."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != program.image:  # it ended before the line above
        os._exit(1)
    os.setpgid(0, program.group)
    _place_descriptors(program.fds)
    os.environ.clear()
    os.environ.update({name: value for name, value in program.env.items() if value is not None})
    os.chdir(program.cwd)
    _take_limits_of(program.requester)
    _renew_secrets()
    _show(program.argv)
    spawning.install(router_path)
    _execute(program.argv)


def _place_descriptors(fds: Sequence[tuple[int, int]]) -> None:
    # By way of numbers above all of them, since a target may be another one's present number.
    above = 1 + max(max(pair) for pair in fds)
    parked = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above), target) for fd, target in fds]
    for fd, _ in fds:
        os.close(fd)
    for fd, target in parked:
        os.dup2(fd, target)
        os.close(fd)


def _take_limits_of(pid: int) -> None:
    """Inherit resource limits from the process that asked (vLLM raises its open-file limit)."""
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            number: int = getattr(resource, name)
            try:
                limits = resource.prlimit(pid, number)
                if limits != resource.getrlimit(number):
                    resource.setrlimit(number, limits)
            except (OSError, ValueError):  # it is gone, or may have more than this process may
                continue


def _renew_secrets() -> None:
    # Python reseeds `random` after a fork; numpy's global generator and multiprocessing's
    # authentication key would be the same in every child.
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    multiprocessing.process.current_process().authkey = os.urandom(32)


def prepare_titles() -> None:
    """In the image, before the environment changes: setproctitle looks for the title beside it."""
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle").setproctitle("python -m haqa_runner.prefork (image)")


def _show(argv: Sequence[str]) -> None:
    """Have ps show the program instead of the image, where the environment has the means."""
    if setproctitle := sys.modules.get("setproctitle"):
        setproctitle.setproctitle(" ".join(["python", *(argv if argv[0] == "-c" else ["-m", *argv])]))


def _execute(argv: list[str]) -> None:
    program, arguments = argv[0], argv[1:]
    if not sys.flags.safe_path:
        sys.path.insert(0, "" if program == "-c" else os.getcwd())
    if program != "-c":
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    code, *arguments = arguments
    sys.argv = ["-c", *arguments]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(code, "<string>", "exec"), main.__dict__)  # noqa: S102 the caller's own `python -c`
