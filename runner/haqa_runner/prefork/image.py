"""An interpreter that has imported the preload list and from then on only forks.

It never starts a thread or an OpenMP region of its own: the pools of libgomp and OpenBLAS do not
survive a fork, so the children must be the first to make them.

A forked child *returns* out of the loop and runs its program from the bottom of the stack, so
that it ends as any interpreter does (atexit handlers, finalizers, exit code), not by os._exit.
"""

import contextlib
import functools
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from haqa_runner.prefork import child, wire

_LOOK_AGAIN_S = 0.05

_Handler = Callable[[], child.Program | None]


@dataclass
class _Job:
    """A forked process until it is reaped."""

    pid: int
    pidfd: int
    leads_group: bool
    connection: socket.socket | None  # None once the requester is gone or has its exit code
    ended_at: float | None = None  # time.monotonic()


def main(argv: Sequence[str]) -> None:
    """Import, then fork on request.

    `argv`: channel descriptor, the router's socket, seconds that a group may outlive its leader,
    modules to import.
    """
    channel = socket.socket(fileno=int(argv[0]))
    # While importing it cannot notice that the router is gone; afterwards it can, and must then
    # outlive it for a moment to end its children.
    child.die_with_parent(signal.SIGKILL)
    child.prepare_titles()
    before = dict(os.environ)
    started = time.monotonic()
    # OpenMP's library binds the thread that loads it, where the environment says so. That is for the children:
    # imports on one core would wait for those of other images.
    free = bound = os.sched_getaffinity(0)
    for name in argv[3:]:
        try:
            importlib.import_module(name)
        except ImportError as error:  # of another version, say: its program imports what it needs
            print(f"prefork: {name} is not preloaded: {error}", file=sys.stderr, flush=True)
        if (now := os.sched_getaffinity(0)) != free:
            bound = now
            os.sched_setaffinity(0, free)
    _ask_for_tiles()
    os.sched_setaffinity(0, bound)
    import_s = time.monotonic() - started
    made = {
        name: os.environ.get(name)
        for name in before.keys() | os.environ.keys()
        if before.get(name) != os.environ.get(name)
    }
    # A collection writes to the header of every object it visits and so copies the page: keep
    # what was imported out of the children's collections.
    gc.collect()
    gc.freeze()
    child.die_with_parent(0)
    wire.send(channel, {"made": made})
    program = _Image(channel, made, import_s, linger_s=float(argv[2])).serve()
    if program is not None:
        child.run(program, router_path=argv[1])


def _ask_for_tiles() -> None:
    """Linux lets a process use AMX only after it has asked, and its forks with it (arch_prctl(2), ARCH_REQ_XCOMP_PERM).

    oneDNN asks, unless ONEDNN_MAX_CPU_ISA caps it below AMX; vLLM's attention uses tiles either way and would die.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch.cpu, "_init_amx"):
        torch.cpu._init_amx()


class _Image:
    def __init__(self, channel: socket.socket, made: dict[str, str | None], import_s: float, linger_s: float) -> None:
        self._channel = channel
        self._made = made
        self._import_s = import_s
        # Python's resource trackers need a moment to unlink the shared memory of a process that
        # was killed: until then the rest of its group is left alone.
        self._linger_s = linger_s
        self._jobs: list[_Job] = []
        self._ending = False
        self._selector = selectors.EpollSelector()
        # What the imports opened: a child needs these where they are.
        self._imported_fds = _open_fds() - {0, 1, 2, channel.fileno(), self._selector.fileno()}
        self._watch(channel, self._on_router)

    def serve(self) -> child.Program | None:
        """None when the image has to end; in a forked child, what that child has to run."""
        while self._jobs or not self._ending:
            lingering = [job for job in self._jobs if job.ended_at is not None]
            for job in lingering:
                if time.monotonic() - (job.ended_at or 0) >= self._linger_s or not _others_in_group(job.pid):
                    self._reap(job)
            for key, _ in self._selector.select(_LOOK_AGAIN_S if lingering else None):
                handler: _Handler = key.data
                program = handler()
                if program is not None:
                    return program
        return None

    def _watch(self, fileobj: socket.socket | int, handler: _Handler) -> None:
        self._selector.register(fileobj, selectors.EVENT_READ, handler)

    def _on_router(self) -> child.Program | None:
        message, fds = wire.receive(self._channel)
        if message is None:  # the router is gone: nothing may stay behind
            self._selector.unregister(self._channel)
            self._ending = True
            for job in self._jobs:
                _kill(job, signal.SIGKILL)
            return None
        if message.get("retire"):
            self._ending = True
            return None
        connection, passed = socket.socket(fileno=fds[0]), fds[1:]
        try:
            if message.get("warm"):
                wire.send(connection, {"import_s": self._import_s})
                connection.close()
                return None
            return self._fork(message, connection, passed)
        except (OSError, wire.PreforkError) as error:
            for fd in passed:
                os.close(fd)
            with contextlib.suppress(OSError):
                wire.send(connection, {"error": str(error)})
            connection.close()
            return None

    def _fork(self, message: dict[str, Any], connection: socket.socket, passed: list[int]) -> child.Program | None:
        targets: list[int] = message["fds"]
        if clash := self._imported_fds.intersection(targets):
            raise wire.PreforkError(f"descriptors {sorted(clash)} are taken by what was imported")
        requester, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if message["join"] and os.getsid(requester) != os.getsid(0):
            raise wire.PreforkError(f"process {requester} left the session, so its group cannot be joined")
        group = os.getpgid(requester) if message["join"] else 0
        image = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._forget(connection)
            return child.Program(
                argv=message["argv"],
                env={**message["env"], **self._made},
                cwd=message["cwd"],
                fds=list(zip(passed, targets, strict=True)),
                group=group,
                image=image,
                requester=requester,
            )
        # The child does this too: whoever comes first, no signal to the group can miss it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, group)
        job = _Job(pid, os.pidfd_open(pid), group == 0, connection)
        self._jobs.append(job)
        self._watch(job.pidfd, functools.partial(self._on_exit, job))
        self._watch(connection, functools.partial(self._on_requester, job))
        for fd in passed:
            os.close(fd)
        with contextlib.suppress(OSError):  # a requester that is gone shows as end of file
            wire.send(connection, {"pid": pid})
        return None

    def _on_requester(self, job: _Job) -> None:
        if job.connection is None:  # ended earlier in the same round of events
            return
        message, _ = wire.receive(job.connection)
        if message is None:
            # The owner of a launched process is gone: it must not stay. A process started by
            # multiprocessing gets what it may clean up after, and dies with its group anyway.
            _kill(job, signal.SIGKILL if job.leads_group else signal.SIGTERM)
            self._disconnect(job)
        elif job.ended_at is None:
            os.killpg(job.pid, message["signal"])

    def _on_exit(self, job: _Job) -> None:
        self._selector.unregister(job.pidfd)
        # WNOWAIT: as long as it is not reaped its number, and so its group's, stays its own.
        ended = os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
        if ended is not None and job.connection is not None:
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            with contextlib.suppress(OSError):
                wire.send(job.connection, {"exit": code})
            self._disconnect(job)
        job.ended_at = time.monotonic()
        if not job.leads_group:
            self._reap(job)

    def _reap(self, job: _Job) -> None:
        if job.leads_group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
        os.waitpid(job.pid, 0)
        os.close(job.pidfd)
        self._jobs.remove(job)

    def _disconnect(self, job: _Job) -> None:
        if job.connection is not None:
            self._selector.unregister(job.connection)
            job.connection.close()
            job.connection = None

    def _forget(self, connection: socket.socket) -> None:
        """In a child: close what belongs to the image."""
        self._selector.close()
        self._channel.close()
        connection.close()
        for job in self._jobs:
            os.close(job.pidfd)
            if job.connection is not None:
                job.connection.close()


def _kill(job: _Job, number: int) -> None:
    if job.ended_at is None:  # not reaped, so the number is still this process's
        os.kill(job.pid, number)


def _others_in_group(group: int) -> bool:
    """Whether a process other than its leader is left in a group."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != group:
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # proc(5): after the name in parentheses come state, parent and group.
                state, _, its_group = stat.read().rsplit(b")", 1)[1].split()[:3]
                if int(its_group) == group and state != b"Z":
                    return True
    return False


def _open_fds() -> set[int]:
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    return {number for number in numbers if os.path.exists(f"/proc/self/fd/{number}")}
