"""Makes multiprocessing's "spawn" ask the prefork router for the new interpreter.

vLLM's CPU platform forces "spawn" (vllm/platforms/cpu.py), for a good reason: each worker needs
an interpreter that was *started* with its own OMP_NUM_THREADS and GOMP_CPU_AFFINITY. The router
keeps that promise, since it picks or makes an image that was. Whatever goes wrong, the process is
started the ordinary way instead.
"""

import contextlib
import multiprocessing.popen_spawn_posix as spawn_popen
import multiprocessing.util
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from haqa_runner.prefork import wire

# An image that has to be made first takes as long as an ordinary start.
SPAWN_TIMEOUT_S = 300.0

_router_path = ""
# The router's connection of each process that was started here and has not been seen to end.
_connections: dict[int, socket.socket] = {}
_lock = threading.Lock()
_ordinary_spawn = multiprocessing.util.spawnv_passfds
_ordinary_poll = spawn_popen.Popen.poll


def install(router_path: str) -> None:
    """Replace how this process's multiprocessing starts and polls "spawn" processes."""
    global _router_path
    _router_path = router_path
    multiprocessing.util.spawnv_passfds = _spawnv_passfds  # type: ignore[assignment]
    spawn_popen.Popen.poll = _poll  # type: ignore[assignment,method-assign]


def _spawnv_passfds(path: bytes, args: Sequence[bytes], passfds: Sequence[int]) -> int:
    """As multiprocessing.util.spawnv_passfds: start `args` with these descriptors; its pid."""
    words = [os.fsdecode(word) for word in args]
    # Everything else that goes through here (the resource tracker, vLLM's numactl wrapper) is not
    # this interpreter running spawn_main, and so nothing an image could stand in for.
    if os.fsdecode(path) == sys.executable and "--multiprocessing-fork" in words:
        try:
            return _ask_router(words[words.index("-c") :], sorted({0, 1, 2, *passfds}))
        except (OSError, wire.PreforkError) as error:
            print(f"prefork: starting a process the ordinary way: {error}", file=sys.stderr)
    return _ordinary_spawn(path, args, passfds)


def _ask_router(argv: list[str], fds: list[int]) -> int:
    connection = wire.connect(_router_path, SPAWN_TIMEOUT_S)
    try:
        request = {
            "argv": argv,
            "env": dict(os.environ),
            "affinity": sorted(os.sched_getaffinity(0)),
            "cwd": os.getcwd(),
            "fds": fds,
            "join": True,
        }
        wire.send(connection, request, fds)
        reply, _ = wire.receive(connection)
        pid = wire.pid_of(reply)
    except BaseException:
        connection.close()  # tells the image to end a process that came too late
        raise
    connection.settimeout(None)
    _connections[pid] = connection
    return pid


def _poll(self: spawn_popen.Popen, flag: int = os.WNOHANG) -> int | None:
    """As multiprocessing's Popen.poll, for a process that is the image's child, not this one's."""
    connection = _connections.get(self.pid)
    if connection is None:
        return _ordinary_poll(self, flag)
    if flag != os.WNOHANG:
        with contextlib.suppress(ValueError):  # another thread saw it end and closed
            wire.readable(connection, None)
    with _lock:
        if self.returncode is None and wire.readable(connection, 0):
            reply, _ = wire.receive(connection)
            # No reply: the image was killed, and the kernel killed its children with it.
            self.returncode = reply["exit"] if reply else -signal.SIGKILL
            _connections.pop(self.pid).close()
        return self.returncode
