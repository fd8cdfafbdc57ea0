"""Brings ports of a network namespace to this machine's loopback: `forward.py PID PORT...`.

A socket belongs to the namespace that it was made in. So this process listens first, then moves into the namespace of
PID, and what it connects to from there is the cluster's 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress
from functools import partial

_CLONE_NEWNET = 0x40000000
_CHUNK_BYTES = 1 << 16


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    try:
        writer.write_eof()
    except (OSError, RuntimeError):
        writer.close()


async def _join(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    writer.close()
    far_writer.close()


def _enter_network_of(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot enter the network namespace of process {pid}: {os.strerror(code)}")


async def forward(pid: int, ports: list[int]) -> None:
    listeners = [socket.create_server(("127.0.0.1", port), backlog=128) for port in ports]
    _enter_network_of(pid)
    async with asyncio.TaskGroup() as serving:
        for port, listener in zip(ports, listeners, strict=True):
            server = await asyncio.start_server(partial(_join, port), sock=listener)
            serving.create_task(server.serve_forever())


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
